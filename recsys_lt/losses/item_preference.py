"""Preference losses of models that score items: the target is chosen, sampled negatives are rejected."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from recsys_lt.data.needs import Need, TrainedRun, starting_point
from recsys_lt.data.streams import key_of, keys_of
from recsys_lt.errors import UserError
from recsys_lt.losses.answering import Answering, Scored
from recsys_lt.losses.blocks import plain_means, row_blocks
from recsys_lt.losses.loss import Draw, Loss
from recsys_lt.losses.negatives import HardNegatives, Negatives, Pools, PopularNegatives
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.losses.preference import (
    Answers,
    Preference,
    confident_margin,
    kept_rows,
    popularity_margins,
    similar_rows,
)

_Part = Annotated[float, Field(ge=0, le=1)]
_Half = Annotated[float, Field(ge=0, le=0.5)]
_Group = Annotated[int, Field(ge=2)]
_ORDER = key_of(22)
#: Targets of a batch of which training health is measured.
_WATCHED = 256


class Rejected(NamedTuple):
    """Rejected items of each target.

    Parameters
    ----------
    ids, allowed
        Items, [N, M], and which of them count, [N, M] bool.
    rows
        Targets whose items are shared, [N, P]: a target's own K items are followed by those of these targets. None
        where nothing is shared.
    margin
        Margin of each target, [N], or None.
    false
        Part of the shared items that are the target or an item its user has seen, which therefore do not count.
    """

    ids: Tensor
    allowed: Tensor
    rows: Tensor | None = None
    margin: Tensor | None = None
    false: Tensor | None = None


class ItemPreference(Loss):
    """A preference loss (see ``Preference``) whose answers are items: the target, and K negatives.

    Scores stand for log-probabilities: the log-sum over the catalogue is the same for all answers of a target, and
    cancels. A model that reads titles gives log-probabilities of titles. A negative that is the target does not count.
    All is computed in float32.

    Parameters
    ----------
    k
        Negatives for each target.
    beta, margin, combine, squared, smoothing, dynamic
        See ``Preference``.
    reference
        Whether scores are compared with those of the run that training starts from (``model.start_from``).
    tau
        Strength of the margins by popularity (``popularity_margins``); 0 for none, above 0 for the sake of rare items.
    sft_weight
        Weight of the cross-entropy over the catalogue that is added.
    negatives
        ``uniform`` over the pool; ``popular``, in proportion to popularity ** ``eta``; ``hard``, uniform over the
        ``top`` items of the pool that the run training starts from ranks first.
    eta, top
        See ``negatives``.
    pool
        See ``Negatives``.
    mean_tokens
        Whether a title's log-probability is the mean over its tokens, and not the sum; an item that is scored is one
        token.
    """

    has_health = True
    of_answers = True

    def __init__(
        self,
        k: PositiveInt,
        beta: PositiveFloat,
        *,
        reference: bool = True,
        margin: NonNegativeFloat = 0.0,
        combine: Literal["lse", "mean"] = "lse",
        squared: bool = False,
        smoothing: _Half = 0.0,
        dynamic: bool = False,
        tau: float = 0.0,
        sft_weight: NonNegativeFloat = 0.0,
        negatives: Literal["uniform", "popular", "hard"] = "uniform",
        eta: NonNegativeFloat = 0.75,
        top: PositiveInt = 50,
        pool: Pools = "unseen",
        mean_tokens: bool = False,
    ) -> None:
        self.mean_tokens = mean_tokens
        self.form = Preference(beta, margin, combine, squared, smoothing, dynamic)
        self.reference, self.tau, self.sft_weight = reference, tau, sft_weight
        self.uniform = Negatives(k, pool, "position")
        self.pool = self.uniform.pool
        self.needs_seen = self.pool.needs_seen
        self.popular: PopularNegatives | None = None
        self.hard = HardNegatives(k, self.pool, top) if negatives == "hard" else None
        self.needs_scores = negatives == "hard"
        self._eta = eta if negatives == "popular" else None
        self._counts: Tensor | None = None

    @classmethod
    def needs(cls, options: Mapping[str, Any], start_from: str | None) -> Mapping[str, Need]:
        """The run that training starts from, where scores are compared with its own or it gives hard negatives."""
        if options.get("reference", True) or options.get("negatives") == "hard":
            return {"reference": starting_point(start_from)}
        return {}

    def check(self, n_items: int) -> None:
        self.uniform.check(n_items)

    def prepare(self, counts: Tensor, needs: Mapping[str, Any] | None = None) -> None:
        self._counts = counts
        self.compared = dict(needs or {})
        if self.reference and getattr(self.compared.get("reference"), "cosine", False):
            what, remedy = "its scores are cosines, and this loss trains dot products", "Name a run of another loss"
            raise UserError(what, where="model.start_from", remedy=f"{remedy}, or one of loss.cosine=false")
        if self._eta is not None:
            self.popular = PopularNegatives(self.uniform.k, self.pool, counts, self._eta)

    def __call__(
        self,
        states: Tensor,
        targets: Tensor,
        table: OutputTable,
        weights: Tensor | None = None,
        draw: Draw | None = None,
    ) -> tuple[Tensor, Tensor]:
        assert draw is not None, "a preference loss needs a draw"
        with torch.autocast(states.device.type, enabled=False):
            return self.by_answers(Scored(states, table), targets, weights, draw)

    def by_answers(
        self, model: Answering, targets: Tensor, weights: Tensor | None, draw: Draw
    ) -> tuple[Tensor, Tensor]:
        """See ``Loss.by_answers``."""
        rejected = self._rejected(model.n_items, targets, draw)
        ours, theirs = self._answers(model, targets, rejected, draw, bool(self.sft_weight))
        margins = None
        if self.tau:
            assert self._counts is not None, "prepare comes first"
            margins = popularity_margins(self._counts.to(targets.device), targets, rejected.ids, self.tau)
        losses = self.form(ours, rejected.allowed, theirs, rejected.margin, margins)
        if self.sft_weight:
            losses = losses - self.sft_weight * ours.chosen
        return plain_means(losses, weights)

    def health(self, states: Tensor, targets: Tensor, table: OutputTable, draw: Draw) -> Mapping[str, Tensor]:
        """See ``answer_health``; of some of the batch's targets."""
        first = slice(_WATCHED)
        frozen = {name: one[first] if isinstance(one, Scored) else one for name, one in draw.frozen.items()}
        draw = replace(draw, keys=draw.keys[first], rows=draw.rows[first], frozen=frozen)
        return self.answer_health(Scored(states, table)[first], targets[first], draw)

    def answer_health(self, model: Answering, targets: Tensor, draw: Draw) -> Mapping[str, Tensor]:
        """Numbers of training health.

        ``chosen_log_probability`` and ``rejected_log_probability``: means; with a reference, also
        ``reference_log_probability``, its own of the chosen item. ``preference_margin``: mean lead of the chosen item,
        beta included. ``preference_accuracy``: part of the targets that lead all rejected items. ``rejected_above``:
        part of the rejected items that score at least as high as the chosen one. ``rejected_items``: how many count.
        With a reference, ``kl_to_reference``: divergence of the model from it over the target and its rejected items
        alone. Where items are shared, ``shared_false``: see ``Rejected.false``.
        """
        rejected = self._rejected(model.n_items, targets, draw)
        allowed, counted = rejected.allowed, rejected.allowed.any(1)
        ours, theirs = self._answers(model, targets, rejected, draw, comparable=True)
        gaps = ours.gaps()
        leads = self.form.beta * (gaps if theirs is None else gaps - theirs.gaps())
        found = {
            "chosen_log_probability": ours.chosen.mean(),
            "rejected_log_probability": ours.rejected[allowed].mean(),
            "preference_margin": leads[allowed].mean(),
            "preference_accuracy": ((leads > 0) | ~allowed).all(1)[counted].float().mean(),
            "rejected_above": (gaps <= 0)[allowed].float().mean(),
            "rejected_items": allowed.sum(1).float().mean(),
        }
        if rejected.false is not None:
            found["shared_false"] = rejected.false
        if theirs is None:
            return found
        logs, others = (_among(answers, allowed) for answers in (ours, theirs))
        kl = (logs.exp() * (logs - others)).masked_fill(logs == -torch.inf, 0.0).sum(1).mean()
        return found | {"reference_log_probability": theirs.chosen.mean(), "kl_to_reference": kl}

    def _rejected(self, n_items: int, targets: Tensor, draw: Draw) -> Rejected:
        if self.hard is not None:
            reference = draw.frozen["reference"]
            assert isinstance(reference, Scored)  # needs_scores
            ids = self.hard(draw, targets, reference)
        elif self.popular is not None:
            ids = self.popular(draw, targets, n_items)
        else:
            ids, _ = self.uniform(draw, targets, n_items)
        return Rejected(ids, self._allowed(draw, targets, ids, n_items))

    def _allowed(self, draw: Draw, targets: Tensor, ids: Tensor, n_items: int) -> Tensor:
        return (ids != targets.unsqueeze(1)) & ~self.pool.outside(draw, targets, ids, n_items)

    def _answers(
        self, model: Answering, targets: Tensor, rejected: Rejected, draw: Draw, comparable: bool
    ) -> tuple[Answers, Answers | None]:
        """The model's answers, and the reference's where there is one."""
        ours = self._with_shared(model, targets, rejected, comparable)
        if not self.reference:
            return ours, None
        with torch.no_grad():
            return ours, self._with_shared(draw.frozen["reference"], targets, rejected, comparable)

    def _with_shared(self, model: Answering, targets: Tensor, rejected: Rejected, comparable: bool) -> Answers:
        """A model's answers: to own items, and to those of other rows what it gives them there, as published.

        Scores of two users do not compare, so log-probabilities are shared.
        """
        if rejected.rows is None:
            return model.answers(targets, rejected.ids, comparable)
        chosen, own = model.answers(targets, rejected.ids[:, : self.uniform.k], comparable=True)
        return Answers(chosen, torch.cat([own, own[rejected.rows].flatten(1)], 1))


def _among(answers: Answers, allowed: Tensor) -> Tensor:
    """Log-probabilities among the chosen and the allowed rejected answers, [n, K + 1]; minus infinity for others."""
    gaps = (-answers.gaps()).masked_fill(~allowed, -torch.inf)
    return F.pad(gaps, (1, 0)).log_softmax(1)


class NAPO(ItemPreference):
    """Preference optimisation with negatives shared in the batch, and margins by how sure the negatives are.

    Targets of a step are put into groups at random. A target also has the negatives of the users in its group who are
    most similar, by the dot product of an auxiliary model's states; ``Preference.margin`` falls where the auxiliary
    model scores the negatives high (``confident_margin``). Groups lie within a process.

    Parameters
    ----------
    group
        Targets of a group, W.
    share
        Part of the W - 1 others whose negatives are shared.
    share_gradients
        Whether a shared negative moves the model, for the user it was drawn for.
    confidence
        Strength of the margin's dependence on the auxiliary scores; 0 for the same margin everywhere.
    auxiliary
        Run folder of the auxiliary model; None has a SASRec trained first.
    **options
        See ``ItemPreference``.

    References
    ----------
    NAPO, arXiv 2508.09653.
    """

    def __init__(
        self,
        k: PositiveInt,
        beta: PositiveFloat,
        *,
        group: _Group = 16,
        share: _Part = 0.7,
        share_gradients: bool = False,
        confidence: NonNegativeFloat = 0.3,
        auxiliary: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(k, beta, **options)
        self.gamma = self.form.margin
        self.form = replace(self.form, margin=0.0)
        self.group, self.share = group, share
        self.share_gradients, self.confidence = share_gradients, confidence

    @classmethod
    def needs(cls, options: Mapping[str, Any], start_from: str | None) -> Mapping[str, Need]:
        """Also the auxiliary model."""
        auxiliary = TrainedRun(options.get("auxiliary"), "sasrec", "ce")
        return {**super().needs(options, start_from), "auxiliary": auxiliary}

    def _rejected(self, n_items: int, targets: Tensor, draw: Draw) -> Rejected:
        own = super()._rejected(n_items, targets, draw)
        with torch.autocast(targets.device.type, enabled=False):  # which a language model's answers are computed in
            return self._shared(own, n_items, targets, draw)

    def _shared(self, own: Rejected, n_items: int, targets: Tensor, draw: Draw) -> Rejected:
        """Own rejected items and those of similar targets, with each target's margin."""
        ids, allowed, rows, false = own.ids, own.allowed, None, None
        auxiliary = draw.frozen["auxiliary"]
        assert isinstance(auxiliary, Scored)
        if kept_rows(self.group, self.share):
            rows, kept = self._similar(auxiliary.states, draw)
            shared = ids[rows].flatten(1)
            given = (kept.unsqueeze(2) & allowed[rows]).flatten(1)
            counts = given & self._allowed(draw, targets, shared, n_items)
            false = 1 - counts.sum() / given.sum().clamp(min=1)
            ids, allowed = torch.cat([ids, shared], 1), torch.cat([allowed, counts], 1)
        found = ids.new_empty(ids.shape, dtype=torch.float32)
        for part in row_blocks(len(ids), ids.shape[1] * auxiliary.states.shape[1], ids.device):
            found[part] = auxiliary[part].answers(targets[part], ids[part]).rejected
        margin = confident_margin(found, allowed, self.gamma, self.confidence)
        return Rejected(ids, allowed, rows, margin, false)

    def _similar(self, states: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Targets whose negatives each target shares, [N, P], and which of them there are."""
        n = len(states)
        order = keys_of(key_of(_ORDER, draw.step_key), torch.arange(n, device=states.device)).argsort()
        places = torch.cat([order, order.new_zeros(-n % self.group)]).view(-1, self.group)
        real = torch.arange(places.numel(), device=places.device).view_as(places) < n
        within, kept = similar_rows(states[places], real, self.share)
        rows = places.unsqueeze(1).expand(-1, self.group, -1).gather(2, within)
        back = order.argsort()
        return rows.flatten(0, 1)[back], kept.flatten(0, 1)[back]

    def _answers(
        self, model: Answering, targets: Tensor, rejected: Rejected, draw: Draw, comparable: bool
    ) -> tuple[Answers, Answers | None]:
        ours, theirs = super()._answers(model, targets, rejected, draw, comparable)
        if not self.share_gradients:
            own, shared = ours.rejected[:, : self.uniform.k], ours.rejected[:, self.uniform.k :]
            ours = Answers(ours.chosen, torch.cat([own, shared.detach()], 1))
        return ours, theirs
