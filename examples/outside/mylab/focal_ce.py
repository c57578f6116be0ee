"""Focal cross-entropy."""

import torch.nn.functional as F
from torch import Tensor

from recsys_lt.losses.blocks import plain_means
from recsys_lt.losses.loss import Draw, Loss
from recsys_lt.losses.output_table import OutputTable


class FocalCE(Loss):
    """Cross-entropy that counts a target less the more probable the model finds it: (1 - p)^gamma (-log p).

    Parameters
    ----------
    gamma
        Focusing exponent; 0 is plain cross-entropy.

    References
    ----------
    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 4.
    """

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma

    def __call__(
        self,
        states: Tensor,
        targets: Tensor,
        table: OutputTable,
        weights: Tensor | None = None,
        draw: Draw | None = None,
    ) -> tuple[Tensor, Tensor]:
        """States [N, d] and targets [N] -> totals [W] and losses [N]; see ``Loss.__call__``."""
        logits = F.linear(states, table.weight, table.bias)
        surprise = F.cross_entropy(logits, targets, reduction="none")
        losses = (1 - (-surprise).exp()) ** self.gamma * surprise
        return plain_means(losses, weights)
