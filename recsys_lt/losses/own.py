"""The choice ``loss=own``: of models that have an objective of their own."""

from torch import Tensor

from recsys_lt.losses.loss import Draw, Loss
from recsys_lt.losses.output_table import OutputTable


class Own(Loss):
    """Stands where a loss is chosen for a model that needs none (LlamaRec, BIGRec); no other model takes it."""

    def __call__(
        self,
        states: Tensor,
        targets: Tensor,
        table: OutputTable,
        weights: Tensor | None = None,
        draw: Draw | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Never: whoever has states to score has no objective of its own."""
        raise TypeError("loss=own is no function of states")
