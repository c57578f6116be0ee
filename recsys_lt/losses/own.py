"""The choice ``loss=own``, for models with an objective of their own."""

from torch import Tensor

from recsys_lt.losses.loss import Draw, Loss
from recsys_lt.losses.output_table import OutputTable


class Own(Loss):
    """Placeholder where a model with an objective of its own needs no loss; no other model takes it."""

    def __call__(
        self,
        states: Tensor,
        targets: Tensor,
        table: OutputTable,
        weights: Tensor | None = None,
        draw: Draw | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Raise TypeError: such a model has no states to score."""
        raise TypeError("loss=own is no function of states")
