"""EISAM, reconstructed from its abstract: sharpness weighed by the frequency of the target item."""

from collections.abc import Collection
from typing import Any, Literal

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from recsys_lt.errors import UserError
from recsys_lt.optim.perturbations import PerItem
from recsys_lt.optim.rule import GradientClosure, Gradients, Named, added
from recsys_lt.optim.sam import SharpnessAware
from recsys_lt.optim.weighting import Weighting


class EISAM(SharpnessAware):
    """Item-wise sharpness-aware minimization (arXiv 2603.12752), **reconstructed**.

    What the paper's abstract states: sharpness of the loss is regularised item by item, weighed by a function of the
    item's frequency (stronger for the tail), at a cost that scales to LLMs. The function, the radii and the algorithm
    are in no source we could reach; all below is ours.

    Minimises J(w) = L(w) + lam (max_{|e| <= rho} L^f(w + e) - L^f(w)), L^f(w) = mean_b f(n_{y_b}) l_b(w). One e for all
    items bounds the sum of the items' own maxima from below, and one gradient finds it. The form is Focal-SAM's, with
    weights that differ among thousands of items.

    Parameters
    ----------
    scale
        ``none``: radii are lengths; ``tensor``: relative to the norm of the tensor, of the row for ``rowwise``.
    lam
        Weight of the sharpness; 0 is the base optimizer.
    weighting, gamma, normalise
        f: see ``Weighting``.
    form
        ``exact``: two forward and three backward passes. ``stale``: two and two; the perturbation is along the gradient
        found at the perturbed parameters of the evaluation before (the first is exact). ``rowwise``: as exact, but
        every row of an item table has a ball of its own with a radius in proportion to f (see ``PerItem``).
    every
        Perturb at every so many evaluations only, with ``lam`` times as much weight; the others are the base's steps.
    rows
        Rows of the item tables that ``rowwise`` perturbs: of the batch's ``targets``, or ``all`` (see ``PerItem``).
    """

    def __init__(
        self,
        *of_rule: Any,
        lam: NonNegativeFloat = 1.0,
        weighting: str = "power",
        gamma: float = 0.5,
        normalise: bool = True,
        form: Literal["exact", "stale", "rowwise"] = "exact",
        every: PositiveInt = 1,
        scale: Literal["none", "tensor"] = "none",
        rows: Literal["targets", "all"] = "targets",
        **by_name: Any,
    ) -> None:
        super().__init__(*of_rule, scale=scale, **by_name)
        self.lam, self.form, self.every = lam * every, form, every
        self._relative, self._every_item = scale == "tensor", rows == "all"
        self.weighting = Weighting(weighting, gamma, normalise)
        self._evaluations = 0
        self._ascent: Gradients | None = None

    def weights_of(self, counts: Tensor) -> tuple[Tensor, ...]:
        weights = self.weighting(counts)
        coefficients = self.lam * weights
        return 1 - coefficients, weights, coefficients

    def prepare(self, parameters: Named, item_tables: Collection[Tensor], counts: Tensor) -> None:
        super().prepare(parameters, item_tables, counts)
        if self.form != "rowwise":
            return
        if not any(self.perturbed_tables):
            what = "no perturbed parameter has one row an item"
            raise UserError(what, where="optimizer.perturb", remedy="Use all or table")
        assert self.ascent_weights is not None
        self.perturbation = PerItem(
            self.rho, self.ascent_weights, self.perturbed_tables, self._relative, self._every_item
        )

    def gradients(self, closure: GradientClosure) -> tuple[Tensor, Gradients]:
        """See ``UpdateRule.gradients``; with a gradient carried over (``stale``) part of the total is perturbed."""
        plain = self.lam == 0 or self._evaluations % self.every != 0
        self._evaluations += 1
        if plain:
            totals, (gradients,) = closure(None)
            return totals[0], gradients
        if self.form == "stale":
            return self._stale(closure)
        (here, weighted), gradients = self._penalised(closure)
        return here + self.lam * weighted, gradients

    def _stale(self, closure: GradientClosure) -> tuple[Tensor, Gradients]:
        assert self.item_weights is not None
        carried, self._ascent = self._ascent, None
        if carried is None:
            (here, weighted), (gradients, ascent) = closure(self.item_weights[:2])
            # Not the perturbed total: where this direction overflowed, that is NaN, and the step is to be left out.
            second = self.lam * weighted
        else:
            (here,), (gradients,) = closure(self.item_weights[:1])
            # A checkpoint's tensors are read onto the processor.
            ascent = [g if g is None else g.to(p.device) for p, g in zip(self._parameters, carried, strict=True)]
            del carried
            second = None
        with self._perturbed(ascent, closure):
            (there,), (perturbed,) = closure(self.item_weights[2:])
        self._ascent = perturbed
        # What is returned must not be what is kept: the step may scale it.
        kept = [None if g is None else g.clone() if s is None else g for s, g in zip(gradients, perturbed, strict=True)]
        return here + (there if second is None else second), added(gradients, kept)

    def overflowed(self) -> None:
        """See ``UpdateRule.overflowed``: the next step computes its perturbation anew."""
        self._ascent = None

    def state_dict(self) -> dict[str, Any]:
        return {"evaluations": self._evaluations, "ascent": self._ascent}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._evaluations, self._ascent = state.get("evaluations", 0), state.get("ascent")
