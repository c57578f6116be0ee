"""ImbSAM: only the rare items' loss is looked at uphill."""

from collections.abc import Mapping

import torch
from torch import Tensor

from recsys_lt.errors import UserError
from recsys_lt.optim.perturbed import PerturbedRule
from recsys_lt.optim.rule import Ask, Gradients
from recsys_lt.optim.weighting import Weighting


class ImbSAM(PerturbedRule):
    """Imbalanced SAM (Zhou et al., ICCV 2023, arXiv 2308.07815): two forwards, three backwards.

    The loss is split by class: g = grad H(w) + grad T(w + e), e uphill of T. The published code calls classes with
    fewer than a fixed number of samples rare and doubles their loss; here they are the items outside the most
    popular 20 %.

    Parameters
    ----------
    lr, weight_decay, base, rho, perturb, accumulate
        See ``PerturbedRule``.
    c
        What the rare items' loss is multiplied by.
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
        c: float = 2.0,
    ) -> None:
        super().__init__(lr, weight_decay, base=base, rho=rho, perturb=perturb, accumulate=accumulate)
        if not c > 0:
            raise UserError(
                f"it is {c}", where="optimizer.c", remedy="Give a positive factor; 1 leaves the loss as it is"
            )
        self.c = c
        self._rare = Weighting("step", 0.0, normalise=False)

    def prepare(self, parameters: Mapping[str, torch.nn.Parameter], counts: Tensor) -> None:
        """See ``UpdateRule.prepare``."""
        super().prepare(parameters, counts)
        self.rare = self._rare(counts)

    def looked_along(self) -> Tensor:
        """See ``PerturbedRule.looked_along``."""
        return self.rare

    def gradients(self, ask: Ask) -> tuple[Tensor, Gradients]:
        """See ``UpdateRule.gradients``."""
        (frequent, rare), gradients = self.penalised(ask, 1 - self.rare, self.rare, self.c * self.rare)
        return frequent + rare, gradients
