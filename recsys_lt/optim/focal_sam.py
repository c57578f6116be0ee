"""Focal-SAM: sharpness weighed by how rare a class is."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from recsys_lt.errors import UserError
from recsys_lt.optim.perturbed import PerturbedRule
from recsys_lt.optim.rule import Ask, Gradients
from recsys_lt.optim.weighting import Weighting


class FocalSAM(PerturbedRule):
    """Focal-SAM (ICML 2025, arXiv 2505.01660): two forwards, three backwards.

    Minimises L(w) + lam (max_e L^f(w + e) - L^f(w)) with L^f = sum_i (1 - pi_i)^gamma L_i, pi the items' shares of the
    training interactions. Among thousands of items the weights are almost constant unless gamma is hundreds.

    Parameters
    ----------
    lr, weight_decay, base, rho, perturb, accumulate
        See ``PerturbedRule``.
    lam
        What the sharpness counts.
    gamma
        Focusing exponent.
    """

    def __init__(
        self,
        lr: float,
        weight_decay: float = 0.0,
        *,
        base: str = "adam",
        rho: float = 0.05,
        perturb: str = "all",
        accumulate: str = "per_batch",
        lam: float = 0.8,
        gamma: float = 0.8,
    ) -> None:
        super().__init__(lr, weight_decay, base=base, rho=rho, perturb=perturb, accumulate=accumulate)
        if not 0 <= lam < math.inf:
            raise UserError(f"it is {lam}", where="optimizer.lam", remedy="Give 0 or more")
        self.lam, self._focal = lam, Weighting("focal", gamma, normalise=False)

    def prepare(self, parameters: Mapping[str, torch.nn.Parameter], counts: Tensor) -> None:
        """See ``UpdateRule.prepare``."""
        super().prepare(parameters, counts)
        self.coefficients = self.lam * self._focal(counts)

    def looked_along(self) -> Tensor:
        """See ``PerturbedRule.looked_along``."""
        return self.coefficients

    def gradients(self, ask: Ask) -> tuple[Tensor, Gradients]:
        """See ``UpdateRule.gradients``."""
        (plain, focal), gradients = self.penalised(ask, 1 - self.coefficients, self.coefficients, self.coefficients)
        return plain + focal, gradients
