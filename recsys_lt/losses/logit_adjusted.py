"""Logit adjustment: losses on scores shifted by the logarithm of the items' popularity."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from recsys_lt.losses.ce import CE
from recsys_lt.losses.loss import Loss, PassLoss
from recsys_lt.losses.output_table import OutputTable, Scorer
from recsys_lt.losses.sampled_losses import SCE


class LogitAdjusted(PassLoss):
    """Gives the loss it is mixed into s_v + tau log pi_v for s_v, pi_v the item's share of the training interactions.

    Ranking is by s_v. An item without interactions counts as one with a single one. tau is how much of the prior is
    taken out of the scores; 0 leaves the loss as it is. Source: Menon et al., "Long-tail learning via logit
    adjustment", ICLR 2021, equation 10.
    """

    def __init__(self, *of_loss: Any, tau: float = 1.0, **by_name: Any) -> None:
        super().__init__(*of_loss, **by_name)
        self.tau = tau
        self._shift: Tensor | None = None

    def prepare(self, counts: Tensor, needs: Mapping[str, Any] | None = None) -> None:
        super().prepare(counts, needs)
        share = counts.double().clamp(min=1) / counts.sum().clamp(min=1)
        self._shift = (self.tau * share.log()).float()

    def adjusted(self, table: OutputTable) -> OutputTable:
        if self._shift is None:
            raise RuntimeError("the loss does not know the items' counts: call prepare first")
        shift = self._shift.to(table.weight)
        return table._replace(bias=shift if table.bias is None else table.bias + shift)

    def by_blocks(
        self, states: Tensor, targets: Tensor, scorer: Scorer, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See ``Loss.by_blocks``: there is no bias to adjust."""
        return Loss.by_blocks(self, states, targets, scorer, weights)


class LogitAdjustedCE(LogitAdjusted, CE):
    """Cross-entropy of adjusted scores: the published form."""


class LogitAdjustedSCE(LogitAdjusted, SCE):
    """Scaled cross-entropy of adjusted scores, those of the negatives too; ours, by analogy."""
