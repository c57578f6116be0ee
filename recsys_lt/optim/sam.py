"""Sharpness-aware rules: gradients at perturbed parameters. SAM, ASAM, ImbSAM and Focal-SAM."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from recsys_lt.errors import UserError
from recsys_lt.optim.perturbations import Adaptive, Joint, PerTensor, Perturbation, perturbed
from recsys_lt.optim.rule import GradientClosure, Gradients, Named, UpdateRule, added
from recsys_lt.optim.weighting import Weighting


class SharpnessAware(UpdateRule):
    """A rule that evaluates the batch a second time, at perturbed parameters.

    Unless a subclass says otherwise, the gradient is that of the loss under the item weights ``here``, plus that of the
    loss under ``there`` at parameters perturbed along the gradient of the loss under ``ascent``: two forward and three
    backward passes. ``weights_of`` gives these three weights, in the order here, ascent, there.

    Parameters
    ----------
    base, lr, weight_decay
        See ``UpdateRule``. The decay is no part of the perturbation.
    rho
        Radius of the neighbourhood.
    perturb
        What is perturbed: ``all`` parameters, the item ``table`` (every parameter with one row an item), the
        ``encoder`` (all but that), or the parameters whose name has one of these texts in it: of ``e4srec``,
        ``["lora_"]`` are the adapters and ``["adaptor"]`` is the projection of item vectors.
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
        rho: PositiveFloat = 0.05,
        perturb: Literal["all", "table", "encoder"] | Sequence[str] = "all",
        accumulate: Literal["per_batch", "two_pass"] = "per_batch",
        scale: Literal["none", "tensor"] = "none",
        **by_name: Any,
    ) -> None:
        super().__init__(*of_rule, **by_name)
        self.rho, self._perturb, self.per_step = rho, perturb, accumulate == "two_pass"
        self.perturbation: Perturbation = (PerTensor if scale == "tensor" else Joint)(rho)

    def prepare(self, parameters: Named, item_tables: Collection[Tensor], counts: Tensor) -> None:
        super().prepare(parameters, item_tables, counts)
        tables = set(item_tables)
        self._parameters = list(parameters.values())
        self.perturbed_names = [name for name, p in parameters.items() if self._perturbs(name, p in tables)]
        if not self.perturbed_names:
            what, remedy = "the model has no such parameter", "Use all"
            if not isinstance(self._perturb, str):
                remedy += f", or texts of names such as {', '.join(list(parameters)[:3])}"
            raise UserError(what, where="optimizer.perturb", remedy=remedy)
        self.perturbed_parameters = [parameters[name] for name in self.perturbed_names]
        self.perturbed_tables = [p in tables for p in self.perturbed_parameters]

    def _perturbs(self, name: str, is_table: bool) -> bool:
        if isinstance(self._perturb, str):
            return self._perturb in ("all", "table" if is_table else "encoder")
        return any(text in name for text in self._perturb)

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


class SAM(SharpnessAware):
    """Sharpness-aware minimization (Foret et al., ICLR 2021): two forward and two backward passes."""

    def gradients(self, closure: GradientClosure) -> tuple[Tensor, Gradients]:
        totals, (ascent,) = closure(None)
        with self._perturbed(ascent, closure):
            _, (gradients,) = closure(None)
        return totals[0], gradients


class ASAM(SAM):
    """Adaptive SAM (Kwon et al., ICML 2021): the neighbourhood follows the size of each weight, plus eta."""

    def __init__(self, *of_rule: Any, rho: PositiveFloat = 0.5, eta: NonNegativeFloat = 0.01, **by_name: Any) -> None:
        super().__init__(*of_rule, rho=rho, scale="none", **by_name)
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

    def __init__(self, *of_rule: Any, c: PositiveFloat = 2.0, **by_name: Any) -> None:
        super().__init__(*of_rule, **by_name)
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

    def __init__(self, *of_rule: Any, lam: NonNegativeFloat = 0.8, gamma: float = 0.8, **by_name: Any) -> None:
        super().__init__(*of_rule, **by_name)
        self.lam, self._focal = lam, Weighting("focal", gamma, normalise=False)

    def weights_of(self, counts: Tensor) -> tuple[Tensor, ...]:
        coefficients = self.lam * self._focal(counts)
        return 1 - coefficients, coefficients, coefficients
