"""The plain remedy: every target's loss weighed by how rare its item is."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from recsys_lt.optim.adam import base_named
from recsys_lt.optim.rule import Ask, Gradients, UpdateRule
from recsys_lt.optim.weighting import Weighting


class Reweighted(UpdateRule):
    """A base optimizer on the mean of f(n_{y_b}) l_b instead of l_b: inverse-frequency weighting, one pass a step.

    Parameters
    ----------
    base
        Whose steps are taken: ``adam`` or ``adamw``.
    lr, weight_decay
        The base's.
    weighting, gamma, normalise
        f: see ``Weighting``. ``power`` with gamma 1 is the inverse frequency, clipped.
    """

    def __init__(
        self,
        lr: float,
        weight_decay: float = 0.0,
        *,
        base: str = "adam",
        weighting: str = "power",
        gamma: float = 1.0,
        normalise: bool = True,
    ) -> None:
        self.base = base_named(base, lr, weight_decay)
        self.weighting = Weighting(weighting, gamma, normalise)

    def prepare(self, parameters: Mapping[str, torch.nn.Parameter], counts: Tensor) -> None:
        """See ``UpdateRule.prepare``."""
        self.item_weights = self.weighting(counts)

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """See ``UpdateRule.build``."""
        return self.base.build(parameters)

    def gradients(self, ask: Ask) -> tuple[Tensor, Gradients]:
        """See ``UpdateRule.gradients``."""
        totals, (gradients,) = ask(self.item_weights.unsqueeze(0))
        return totals[0], gradients
