"""SAM and ASAM: the gradient of the loss uphill."""

from collections.abc import Mapping

import torch
from torch import Tensor

from recsys_lt.errors import UserError
from recsys_lt.optim.balls import Adaptive, Ball, PerTensor, Shared
from recsys_lt.optim.perturbed import PerturbedRule
from recsys_lt.optim.rule import Ask, Gradients

_SCALES: dict[str, type[Shared] | type[PerTensor]] = {"none": Shared, "tensor": PerTensor}


def ball_named(scale: str, rho: float) -> Ball:
    """The ball of ``optimizer.scale``: ``none`` for one of radius rho, ``tensor`` for one a tensor, relative to it."""
    if scale not in _SCALES:
        raise UserError(f"it is {scale!r}", where="optimizer.scale", remedy=f"Choose from {', '.join(_SCALES)}")
    return _SCALES[scale](rho)


class SAM(PerturbedRule):
    """Sharpness-aware minimization (Foret et al., ICLR 2021): two forwards, two backwards.

    Parameters
    ----------
    lr, weight_decay, base, rho, perturb, accumulate
        See ``PerturbedRule``.
    scale
        ``none``, as published; or ``tensor``, a ball for each tensor with a radius of rho times its norm.
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
        scale: str = "none",
    ) -> None:
        super().__init__(lr, weight_decay, base=base, rho=rho, perturb=perturb, accumulate=accumulate)
        self._ball = ball_named(scale, rho)

    def ball_of(self, parameters: Mapping[str, torch.nn.Parameter], counts: Tensor) -> Ball:
        """See ``PerturbedRule.ball_of``."""
        return self._ball

    def gradients(self, ask: Ask) -> tuple[Tensor, Gradients]:
        """See ``UpdateRule.gradients``."""
        totals, (ascent,) = ask(None)
        with self.uphill(ascent, ask):
            _, (gradients,) = ask(None)
        return totals[0], gradients


class ASAM(SAM):
    """Adaptive SAM (Kwon et al., ICML 2021): the neighbourhood follows the size of each weight.

    Parameters
    ----------
    lr, weight_decay, base, rho, perturb, accumulate
        See ``PerturbedRule``.
    eta
        Added to every weight's size.
    """

    def __init__(
        self,
        lr: float,
        weight_decay: float = 0.0,
        *,
        base: str = "adam",
        rho: float = 0.5,
        perturb: str = "all",
        accumulate: str = "per_batch",
        eta: float = 0.01,
    ) -> None:
        super().__init__(lr, weight_decay, base=base, rho=rho, perturb=perturb, accumulate=accumulate)
        if not eta >= 0:
            raise UserError(f"it is {eta}", where="optimizer.eta", remedy="Give 0 or more")
        self.eta = eta

    def ball_of(self, parameters: Mapping[str, torch.nn.Parameter], counts: Tensor) -> Ball:
        """See ``PerturbedRule.ball_of``."""
        # As in SamsungLabs/ASAM: whatever is called a weight.
        return Adaptive(self.rho, self.eta, ["weight" in name for name in parameters])
