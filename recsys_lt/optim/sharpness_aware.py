"""Base class of sharpness-aware rules: gradients at perturbed parameters."""

import math
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from recsys_lt.errors import UserError
from recsys_lt.optim.perturbations import Joint, PerTensor, Perturbation, perturbed
from recsys_lt.optim.rule import GradientClosure, Gradients, Named, UpdateRule, added

_ACCUMULATE = ("per_batch", "two_pass")
_PERTURBED: dict[str, Callable[[bool], bool]] = {
    "all": lambda is_table: True,
    "table": lambda is_table: is_table,
    "encoder": lambda is_table: not is_table,
}
_SCALES: dict[str, type[Joint] | type[PerTensor]] = {"none": Joint, "tensor": PerTensor}


def check_choice(key: str, value: str, choices: Collection[str]) -> None:
    """Raise UserError for a value of ``optimizer.<key>`` that is none of its choices."""
    if value not in choices:
        raise UserError(f"it is {value!r}", where=f"optimizer.{key}", remedy=f"Choose from {', '.join(choices)}")


def check_lam(lam: float) -> None:
    """Raise UserError for a negative or infinite ``optimizer.lam``."""
    if not 0 <= lam < math.inf:
        raise UserError(f"it is {lam}", where="optimizer.lam", remedy="Give 0 or more")


class SharpnessAware(UpdateRule):
    """A rule that evaluates the batch a second time, at perturbed parameters.

    Unless a subclass says otherwise, the gradient is that of the loss under the item weights ``here``, plus that of the
    loss under ``there`` at parameters perturbed along the gradient of the loss under ``ascent``: two forward and three
    backward passes. ``weights_of`` gives these three weights, in the order here, ascent, there. Raises UserError for a
    word that is no choice, or a radius that is not positive.

    Parameters
    ----------
    base, lr, weight_decay
        See ``UpdateRule``. The decay is no part of the perturbation.
    rho
        Radius of the neighbourhood.
    perturb
        What is perturbed: ``all`` parameters, the item ``table`` (every parameter with one row an item), or the
        ``encoder`` (all but that).
    accumulate
        Where several batches make a step (``trainer.accumulate``): ``per_batch`` perturbs along each batch's own
        gradient (known to regularise more, as m-SAM does); ``two_pass`` perturbs along the step's, for which the
        batches are evaluated one after the other, twice.
    scale
        ``none``: rho is a length, as published; ``tensor``: a radius for each tensor, rho times its norm.
    """

    moves_parameters = True

    def __init__(
        self,
        *of_rule: Any,
        rho: float = 0.05,
        perturb: str = "all",
        accumulate: str = "per_batch",
        scale: str = "none",
        **by_name: Any,
    ) -> None:
        super().__init__(*of_rule, **by_name)
        check_choice("perturb", perturb, _PERTURBED)
        check_choice("accumulate", accumulate, _ACCUMULATE)
        check_choice("scale", scale, _SCALES)
        if not 0 < rho < math.inf:
            raise UserError(f"it is {rho}", where="optimizer.rho", remedy="Give a positive radius, such as 0.05")
        self.rho, self._is_perturbed, self.per_step = rho, _PERTURBED[perturb], accumulate == "two_pass"
        self.perturbation: Perturbation = _SCALES[scale](rho)

    def prepare(self, parameters: Named, item_tables: Collection[Tensor], counts: Tensor) -> None:
        super().prepare(parameters, item_tables, counts)
        tables = set(item_tables)
        self._parameters = list(parameters.values())
        self.perturbed_names = [name for name, p in parameters.items() if self._is_perturbed(p in tables)]
        if not self.perturbed_names:
            raise UserError("the model has no such parameter", where="optimizer.perturb", remedy="Use all")
        self.perturbed_parameters = [parameters[name] for name in self.perturbed_names]
        self.perturbed_tables = [p in tables for p in self.perturbed_parameters]

    @property
    def ascent_weights(self) -> Tensor | None:
        """Item weights of the loss whose gradient gives the perturbation, [I]; None where all items count alike."""
        return None if self.item_weights is None else self.item_weights[1]

    def gradients(self, closure: GradientClosure) -> tuple[Tensor, Gradients]:
        (here, ascent), gradients = self._penalised(closure)
        return here + ascent, gradients

    def _penalised(self, closure: GradientClosure) -> tuple[Tensor, Gradients]:
        """Totals under the weights here and ascent at the parameters, [2]; the step's gradients."""
        assert self.item_weights is not None
        totals, (gradients, ascent) = closure(self.item_weights[:2])
        with self._perturbed(ascent, closure):
            _, (there,) = closure(self.item_weights[2:])
        return totals, added(gradients, there)

    def _perturbed(self, ascent: Gradients, closure: GradientClosure) -> AbstractContextManager[None]:
        """Parameters perturbed along gradients, and restored bit for bit.

        The list of gradients is emptied, so that those found there take the memory of these.
        """
        by_parameter = dict(zip(self._parameters, ascent, strict=True))
        ascent.clear()
        gradients = []
        for p in self.perturbed_parameters:
            gradient = by_parameter[p]
            gradients.append(torch.zeros_like(p) if gradient is None else gradient)
        with torch.no_grad():
            steps = self.perturbation.steps(self.perturbed_parameters, gradients, closure.targets)
        return perturbed(self.perturbed_parameters, steps)
