"""What every rule shares that looks at the loss uphill of where the parameters stand."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from recsys_lt.errors import UserError
from recsys_lt.optim.adam import base_named
from recsys_lt.optim.balls import Ball, Shared
from recsys_lt.optim.displaced import displaced
from recsys_lt.optim.rule import Ask, Gradients, UpdateRule, added

_ACCUMULATE = ("per_batch", "two_pass")
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
    accumulate
        Where several batches make a step (``trainer.accumulate``): ``per_batch``, each looks uphill of its own
        gradient (known to regularise more, as m-SAM does); ``two_pass``, all look uphill of the step's, for which
        they are evaluated one after the other, twice.

    Raises
    ------
    UserError
        For a word that is no choice, or a radius that is not positive.
    """

    moves = True

    def __init__(
        self,
        lr: float,
        weight_decay: float = 0.0,
        *,
        base: str = "adam",
        rho: float = 0.05,
        perturb: str = "all",
        accumulate: str = "per_batch",
    ) -> None:
        given: tuple[tuple[str, str, Collection[str]], ...] = (
            ("perturb", perturb, _PERTURBED),
            ("accumulate", accumulate, _ACCUMULATE),
        )
        for key, value, choices in given:
            if value not in choices:
                raise UserError(
                    f"it is {value!r}", where=f"optimizer.{key}", remedy=f"Choose from {', '.join(choices)}"
                )
        if not 0 < rho < math.inf:
            raise UserError(f"it is {rho}", where="optimizer.rho", remedy="Give a positive radius, such as 0.05")
        self.base = base_named(base, lr, weight_decay)
        self.rho, self._moves, self.whole_step = rho, _PERTURBED[perturb], accumulate == "two_pass"

    def prepare(self, parameters: Mapping[str, torch.nn.Parameter], counts: Tensor) -> None:
        """See ``UpdateRule.prepare``."""
        self._parameters = list(parameters.values())
        moved = {name: p for name, p in parameters.items() if self._moves(len(p) == len(counts) if p.dim() else False)}
        if not moved:
            raise UserError("none of the parameters is that", where="optimizer.perturb", remedy="Use all")
        self.moved_parameters = list(moved.values())
        self.ball = self.ball_of(moved, counts)

    def ball_of(self, parameters: Mapping[str, torch.nn.Parameter], counts: Tensor) -> Ball:
        """Make the neighbourhood of the parameters that are moved."""
        return Shared(self.rho)

    def looked_along(self) -> Tensor | None:
        """Item weights of the loss whose gradient leads uphill, [I]; None where all items count alike."""
        return None

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """See ``UpdateRule.build``."""
        return self.base.build(parameters)

    def uphill(self, gradients: Gradients, ask: Ask) -> AbstractContextManager[None]:
        """Parameters moved along the gradients, and put back bit for bit.

        The list of gradients is emptied, so that those found uphill take the memory of these.
        """
        by_parameter = dict(zip(self._parameters, gradients, strict=True))
        gradients.clear()
        ascents = []
        for p in self.moved_parameters:
            gradient = by_parameter[p]
            ascents.append(torch.zeros_like(p) if gradient is None else gradient)
        with torch.no_grad():
            return displaced(self.moved_parameters, self.ball.steps(self.moved_parameters, ascents, ask.targets))

    def penalised(
        self, ask: Ask, still: Tensor, ascent: Tensor, risen: Tensor
    ) -> tuple[tuple[Tensor, Tensor], Gradients]:
        """Gradients of the loss under ``still`` where the parameters stand and under ``risen`` uphill of ``ascent``.

        Two forwards and three backwards.

        Parameters
        ----------
        still, ascent, risen
            Item weights, [I].

        Returns
        -------
        (Tensor, Tensor), Gradients
            Totals under ``still`` and ``ascent`` where the parameters stand; the two gradients' sum.
        """
        (here, weighted), (standing, up) = ask(torch.stack([still, ascent]))
        with self.uphill(up, ask):
            _, (there,) = ask(risen.unsqueeze(0))
        return (here, weighted), added(standing, there)
