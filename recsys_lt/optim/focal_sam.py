"""Focal-SAM: sharpness weighed by how rare a class is."""

from typing import Any

from torch import Tensor

from recsys_lt.optim.sharpness_aware import SharpnessAware, check_lam
from recsys_lt.optim.weighting import Weighting


class FocalSAM(SharpnessAware):
    """Focal-SAM (ICML 2025, arXiv 2505.01660): two forward and three backward passes.

    Minimises L(w) + lam (max_e L^f(w + e) - L^f(w)) with L^f = sum_i (1 - pi_i)^gamma L_i, pi the items' shares of the
    training interactions. Among thousands of items the weights are almost constant unless gamma is hundreds.

    Parameters
    ----------
    lam
        Weight of the sharpness.
    gamma
        Focusing exponent.
    """

    def __init__(self, *of_rule: Any, lam: float = 0.8, gamma: float = 0.8, **by_name: Any) -> None:
        super().__init__(*of_rule, **by_name)
        check_lam(lam)
        self.lam, self._focal = lam, Weighting("focal", gamma, normalise=False)

    def weights_of(self, counts: Tensor) -> tuple[Tensor, ...]:
        coefficients = self.lam * self._focal(counts)
        return 1 - coefficients, coefficients, coefficients
