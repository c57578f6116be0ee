"""EISAM, reconstructed from its abstract: sharpness weighed by the frequency of the target item."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recsys_lt.errors import UserError
from recsys_lt.optim.balls import Ball, Rows
from recsys_lt.optim.perturbed import PerturbedRule
from recsys_lt.optim.rule import Ask, Gradients, added
from recsys_lt.optim.sam import ball_named
from recsys_lt.optim.weighting import Weighting

_FORMS = ("exact", "stale", "rowwise")
_ROWS = ("targets", "all")


class EISAM(PerturbedRule):
    """Item-wise sharpness-aware minimization (arXiv 2603.12752), **reconstructed**.

    What the paper's abstract states: sharpness of the loss is regularised item by item, weighed by a function of the
    item's frequency (stronger for the tail), at a cost that scales to LLMs. The function, the radii and the algorithm
    are in no source we could reach; all below is ours.

    Minimises J(w) = L(w) + lam (max_{|e| <= rho} L^f(w + e) - L^f(w)), L^f(w) = mean_b f(n_{y_b}) l_b(w). One e for all
    items bounds the sum of the items' own maxima from below, and one gradient finds it. The form is Focal-SAM's, with
    weights that differ among thousands of items.

    Parameters
    ----------
    lr, weight_decay, base, rho, perturb, accumulate
        See ``PerturbedRule``.
    lam
        What the sharpness counts; 0 is the base optimizer.
    weighting, gamma, normalise
        f: see ``Weighting``.
    form
        ``exact``: two forwards, three backwards. ``stale``: two and two; the ascent is along the gradient that the
        evaluation before found uphill (the first is exact). ``rowwise``: as exact, but every row of an item table
        has a ball of its own with a radius in proportion to f (see ``Rows``).
    every
        Look uphill at every so many evaluations only, ``lam`` times as many; at the others the step is the base's.
    scale
        ``none``: radii are lengths; ``tensor``: relative to the norm of the tensor, of the row for ``rowwise``.
    rows
        Which rows ``rowwise`` moves: those of the batch's ``targets``, or ``all`` (see ``Rows``).

    Raises
    ------
    UserError
        For a word that is no choice or a number out of range.
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
        lam: float = 1.0,
        weighting: str = "power",
        gamma: float = 0.5,
        normalise: bool = True,
        form: str = "exact",
        every: int = 1,
        scale: str = "none",
        rows: str = "targets",
    ) -> None:
        super().__init__(lr, weight_decay, base=base, rho=rho, perturb=perturb, accumulate=accumulate)
        if not 0 <= lam < math.inf:
            raise UserError(f"it is {lam}", where="optimizer.lam", remedy="Give 0 or more")
        if form not in _FORMS:
            raise UserError(f"it is {form!r}", where="optimizer.form", remedy=f"Choose from {', '.join(_FORMS)}")
        if every < 1:
            raise UserError(f"it is {every}", where="optimizer.every", remedy="Give 1 or more")
        if rows not in _ROWS:
            raise UserError(f"it is {rows!r}", where="optimizer.rows", remedy=f"Choose from {', '.join(_ROWS)}")
        self.lam, self.form, self.every, self.scale, self.perturbed_rows = lam * every, form, every, scale, rows
        self.weighting = Weighting(weighting, gamma, normalise)
        self._ball = ball_named(scale, rho)
        self._evaluations = 0
        self._ascent: Gradients | None = None

    def prepare(self, parameters: Mapping[str, torch.nn.Parameter], counts: Tensor) -> None:
        """See ``UpdateRule.prepare``."""
        self.item_weights = self.weighting(counts)
        super().prepare(parameters, counts)

    def ball_of(self, parameters: Mapping[str, torch.nn.Parameter], counts: Tensor) -> Ball:
        """See ``PerturbedRule.ball_of``."""
        if self.form != "rowwise":
            return self._ball
        tables = [p.dim() > 0 and len(p) == len(counts) for p in parameters.values()]
        if not any(tables):
            raise UserError(
                "no parameter that is moved has one row an item", where="optimizer.perturb", remedy="Use all or table"
            )
        return Rows(self.rho, self.item_weights, tables, self.scale == "tensor", self.perturbed_rows == "all")

    def looked_along(self) -> Tensor:
        """See ``PerturbedRule.looked_along``."""
        return self.item_weights

    def gradients(self, ask: Ask) -> tuple[Tensor, Gradients]:
        """See ``UpdateRule.gradients``. With a direction carried (``stale``) the total's second part is that uphill."""
        plain = self.lam == 0 or self._evaluations % self.every != 0
        self._evaluations += 1
        if plain:
            return self.base.gradients(ask)
        coefficients = self.lam * self.item_weights
        if self.form == "stale":
            return self._stale(ask, coefficients)
        (here, weighted), gradients = self.penalised(ask, 1 - coefficients, self.item_weights, coefficients)
        return here + self.lam * weighted, gradients

    def _stale(self, ask: Ask, coefficients: Tensor) -> tuple[Tensor, Gradients]:
        carried, self._ascent = self._ascent, None
        if carried is None:
            (here, weighted), (standing, ascent) = ask(torch.stack([1 - coefficients, self.item_weights]))
            # Not the total uphill: where this direction overflowed, that is NaN, and the step is to be left out.
            second = self.lam * weighted
        else:
            (here,), (standing,) = ask((1 - coefficients).unsqueeze(0))
            # A checkpoint's tensors are read onto the processor.
            ascent = [g if g is None else g.to(p.device) for p, g in zip(self._parameters, carried, strict=True)]
            del carried
            second = None
        with self.uphill(ascent, ask):
            (there,), (risen,) = ask(coefficients.unsqueeze(0))
        self._ascent = risen
        # What is given must not be what is kept: the step may scale it.
        kept = [None if g is None else g.clone() if s is None else g for s, g in zip(standing, risen, strict=True)]
        return here + (there if second is None else second), added(standing, kept)

    def overflowed(self) -> None:
        """See ``UpdateRule.overflowed``: the next step finds its direction anew."""
        self._ascent = None

    def state_dict(self) -> dict[str, Any]:
        """See ``UpdateRule.state_dict``."""
        return {"evaluations": self._evaluations, "ascent": self._ascent}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See ``UpdateRule.load_state_dict``."""
        self._evaluations, self._ascent = state.get("evaluations", 0), state.get("ascent")
