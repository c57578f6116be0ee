"""Adam and AdamW: one evaluation a step."""

from collections.abc import Iterable

import torch
from torch import Tensor

from recsys_lt.errors import UserError
from recsys_lt.optim.rule import Ask, Gradients, UpdateRule


class Adam(UpdateRule):
    """Adam with coupled L2: the decay is part of the gradient, as in the published runs.

    Parameters
    ----------
    lr
        Learning rate.
    weight_decay
        L2 coefficient.
    """

    _optimizer: type[torch.optim.Adam] = torch.optim.Adam

    def __init__(self, lr: float, weight_decay: float = 0.0) -> None:
        if not lr > 0:
            raise UserError(f"lr is {lr}", where="optimizer.lr", remedy="Give a positive learning rate, such as 1e-3")
        if not weight_decay >= 0:
            raise UserError(f"weight_decay is {weight_decay}", where="optimizer.weight_decay", remedy="Give 0 or more")
        self.lr, self.weight_decay = lr, weight_decay

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        # The fused kernel updates in one pass over memory and is exact.
        return self._optimizer(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=True)

    def gradients(self, ask: Ask) -> tuple[Tensor, Gradients]:
        totals, (gradients,) = ask(None)
        return totals[0], gradients


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019).

    Parameters
    ----------
    lr
        Learning rate.
    weight_decay
        Share of a weight taken off a step is ``lr * weight_decay``.
    """

    _optimizer = torch.optim.AdamW


_BASES = {"adam": Adam, "adamw": AdamW}


def base_named(base: str, lr: float, weight_decay: float) -> Adam:
    """The one of ``optimizer.base``: ``adam`` or ``adamw``.

    Raises
    ------
    UserError
        For another word.
    """
    if base not in _BASES:
        raise UserError(f"it is {base!r}", where="optimizer.base", remedy=f"Choose from {', '.join(_BASES)}")
    return _BASES[base](lr, weight_decay)
