"""SAM and its kin: ASAM, ImbSAM and Focal-SAM."""

from collections.abc import Collection
from typing import Any

from torch import Tensor

from recsys_lt.errors import UserError
from recsys_lt.optim.perturbations import Adaptive
from recsys_lt.optim.rule import GradientClosure, Gradients, Named
from recsys_lt.optim.sharpness_aware import SharpnessAware, check_lam
from recsys_lt.optim.weighting import Weighting


class SAM(SharpnessAware):
    """Sharpness-aware minimization (Foret et al., ICLR 2021): two forward and two backward passes."""

    def gradients(self, closure: GradientClosure) -> tuple[Tensor, Gradients]:
        totals, (ascent,) = closure(None)
        with self._perturbed(ascent, closure):
            _, (gradients,) = closure(None)
        return totals[0], gradients


class ASAM(SAM):
    """Adaptive SAM (Kwon et al., ICML 2021): the neighbourhood follows the size of each weight, plus eta."""

    def __init__(self, *of_rule: Any, rho: float = 0.5, eta: float = 0.01, **by_name: Any) -> None:
        super().__init__(*of_rule, rho=rho, scale="none", **by_name)
        if not eta >= 0:
            raise UserError(f"it is {eta}", where="optimizer.eta", remedy="Give 0 or more")
        self.eta = eta

    def prepare(self, parameters: Named, item_tables: Collection[Tensor], counts: Tensor) -> None:
        super().prepare(parameters, item_tables, counts)
        # As in SamsungLabs/ASAM: whatever is called a weight.
        self.perturbation = Adaptive(self.rho, self.eta, ["weight" in name for name in self.perturbed_names])


class ImbSAM(SharpnessAware):
    """Imbalanced SAM (Zhou et al., ICCV 2023, arXiv 2308.07815): two forward and three backward passes.

    The loss is split by class: g = grad H(w) + grad T(w + e), with e along the gradient of T. The published code calls
    classes with fewer than a fixed number of samples rare and doubles their loss; here they are the items outside the
    most popular 20 %, and c is the factor of their loss.
    """

    def __init__(self, *of_rule: Any, c: float = 2.0, **by_name: Any) -> None:
        super().__init__(*of_rule, **by_name)
        if not c > 0:
            what = f"it is {c}"
            raise UserError(what, where="optimizer.c", remedy="Give a positive factor; 1 leaves the loss as it is")
        self.c, self._rare = c, Weighting("step", 0.0, normalise=False)

    def weights_of(self, counts: Tensor) -> tuple[Tensor, ...]:
        rare = self._rare(counts)
        return 1 - rare, rare, self.c * rare


class FocalSAM(SharpnessAware):
    """Focal-SAM (ICML 2025, arXiv 2505.01660): two forward and three backward passes.

    Minimises L(w) + lam (max_e L^f(w + e) - L^f(w)) with L^f = sum_i (1 - pi_i)^gamma L_i, pi the items' shares of the
    training interactions, lam the weight of the sharpness. Among thousands of items the weights are almost constant
    unless gamma is hundreds.
    """

    def __init__(self, *of_rule: Any, lam: float = 0.8, gamma: float = 0.8, **by_name: Any) -> None:
        super().__init__(*of_rule, **by_name)
        check_lam(lam)
        self.lam, self._focal = lam, Weighting("focal", gamma, normalise=False)

    def weights_of(self, counts: Tensor) -> tuple[Tensor, ...]:
        coefficients = self.lam * self._focal(counts)
        return 1 - coefficients, coefficients, coefficients
