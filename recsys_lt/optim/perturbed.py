"""What every rule shares that looks at the loss uphill of where the parameters stand."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from recsys_lt.errors import UserError
from recsys_lt.optim.adam import Adam, AdamW
from recsys_lt.optim.balls import Ball, Shared
from recsys_lt.optim.displaced import displaced
from recsys_lt.optim.rule import Backward, Evaluate, UpdateRule

_BASES = {"adam": Adam, "adamw": AdamW}
_PERTURBED: dict[str, Callable[[bool], bool]] = {
    "all": lambda is_table: True,
    "table": lambda is_table: is_table,
    "encoder": lambda is_table: not is_table,
}


class PerturbedRule(UpdateRule):
    """A rule around a base optimizer that evaluates the batch a second time, uphill.

    Parameters
    ----------
    base
        Whose steps are taken: ``adam`` or ``adamw``.
    lr, weight_decay
        The base's. The decay is no part of the ascent.
    rho
        Radius of the neighbourhood.
    perturb
        What is moved uphill: ``all`` parameters, the item ``table`` (every parameter with one row an item), or the
        ``encoder`` (all but that).

    Raises
    ------
    UserError
        For a word that is no choice, or a radius that is not positive.
    """

    moves = True

    def __init__(
        self, lr: float, weight_decay: float = 0.0, *, base: str = "adam", rho: float = 0.05, perturb: str = "all"
    ) -> None:
        for key, value, choices in (("base", base, _BASES), ("perturb", perturb, _PERTURBED)):
            if value not in choices:
                raise UserError(
                    f"it is {value!r}", where=f"optimizer.{key}", remedy=f"Choose from {', '.join(choices)}"
                )
        if not 0 < rho < math.inf:
            raise UserError(f"it is {rho}", where="optimizer.rho", remedy="Give a positive radius, such as 0.05")
        self.base: UpdateRule = _BASES[base](lr, weight_decay)
        self.rho, self._moves = rho, _PERTURBED[perturb]

    def prepare(self, parameters: Mapping[str, torch.nn.Parameter], counts: Tensor) -> None:
        """See ``UpdateRule.prepare``."""
        self.parameters = list(parameters.values())
        moved = {name: p for name, p in parameters.items() if self._moves(len(p) == len(counts) if p.dim() else False)}
        if not moved:
            raise UserError("none of the parameters is that", where="optimizer.perturb", remedy="Use all")
        self.moved_parameters = list(moved.values())
        self.ball = self.ball_of(moved, counts)

    def ball_of(self, parameters: Mapping[str, torch.nn.Parameter], counts: Tensor) -> Ball:
        """Make the neighbourhood of the parameters that are moved."""
        return Shared(self.rho)

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """See ``UpdateRule.build``."""
        return self.base.build(parameters)

    def taken(self) -> list[Tensor | None]:
        """Each parameter's gradient, which is then none."""
        gradients = [p.grad for p in self.parameters]
        for p in self.parameters:
            p.grad = None
        return gradients

    def given_back(self, gradients: Sequence[Tensor | None]) -> None:
        """Add what was taken."""
        for p, gradient in zip(self.parameters, gradients, strict=True):
            if gradient is not None:
                p.grad = gradient if p.grad is None else gradient.add_(p.grad)

    def uphill(self, gradients: Sequence[Tensor | None]) -> AbstractContextManager[None]:
        """Parameters moved along the gradients (which are overwritten), and put back bit for bit."""
        by_parameter = dict(zip(self.parameters, gradients, strict=True))
        ascents = []
        for p in self.moved_parameters:
            gradient = by_parameter[p]
            ascents.append(torch.zeros_like(p) if gradient is None else gradient)
        with torch.no_grad():
            return displaced(self.moved_parameters, self.ball.steps(self.moved_parameters, ascents))

    def penalised(
        self, evaluate: Evaluate, backward: Backward, still: Tensor, ascent: Tensor, risen: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the loss under ``still`` where the parameters stand and under ``risen`` uphill of ``ascent``.

        Two forwards and three backwards.

        Parameters
        ----------
        still, ascent, risen
            Item weights, [I].

        Returns
        -------
        Tensor, Tensor
            Totals under ``still`` and ``ascent``, detached.
        """
        before = self.taken()
        totals = evaluate(torch.stack([still, ascent]))
        backward(totals[0], retain_graph=True)
        standing = self.taken()
        backward(totals[1])
        with self.uphill(self.taken()):
            backward(evaluate(risen.unsqueeze(0))[0])
        self.given_back(standing)
        self.given_back(before)
        return totals[0].detach(), totals[1].detach()
