"""ImbSAM: sharpness of the rare items' loss alone."""

from typing import Any

from torch import Tensor

from recsys_lt.errors import UserError
from recsys_lt.optim.sharpness_aware import SharpnessAware
from recsys_lt.optim.weighting import Weighting


class ImbSAM(SharpnessAware):
    """Imbalanced SAM (Zhou et al., ICCV 2023, arXiv 2308.07815): two forward and three backward passes.

    The loss is split by class: g = grad H(w) + grad T(w + e), with e along the gradient of T. The published code calls
    classes with fewer than a fixed number of samples rare and doubles their loss; here they are the items outside the
    most popular 20 %.

    Parameters
    ----------
    c
        Factor of the rare items' loss.
    """

    def __init__(self, *of_rule: Any, c: float = 2.0, **by_name: Any) -> None:
        super().__init__(*of_rule, **by_name)
        if not c > 0:
            raise UserError(
                f"it is {c}", where="optimizer.c", remedy="Give a positive factor; 1 leaves the loss as it is"
            )
        self.c, self._rare = c, Weighting("step", 0.0, normalise=False)

    def weights_of(self, counts: Tensor) -> tuple[Tensor, ...]:
        rare = self._rare(counts)
        return 1 - rare, rare, self.c * rare
