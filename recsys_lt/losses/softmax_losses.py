"""Softmax losses of cosine scores with temperatures: SL, BSL, PSL, SL@K, and a reconstruction of DSL."""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from recsys_lt.losses.blocks import Evaluation
from recsys_lt.losses.loss import Draw
from recsys_lt.losses.negatives import Pools, Share
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.losses.sampled import SampledLoss, n_allowed, scores_of

# Instead of 0 where a logarithm or a divisor would be of it.
_LEAST = 1e-6
_LOG_SURROGATES: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda x: F.logsigmoid(2 * x) + math.log(2),  # log(tanh x + 1), also where that is near 0
    "relu": lambda x: (x + 1).clamp(min=_LEAST).log(),
    "atan": lambda x: (x.atan() + 1).log(),
    "exp": lambda x: x,
}


class SL(SampledLoss):
    """Softmax loss: -s_target / tau + log sum_j exp(s_j / tau) over K negatives, the target left out of the sum.

    A target without any allowed negative has a loss without gradient. Source: Wu et al., "On the effectiveness of
    sampled softmax loss for item recommendation", TOIS 2024; the form is that of Yang et al., NeurIPS 2024.

    Parameters
    ----------
    k, pool, share
        See ``Negatives``.
    tau
        Temperature of the scores.
    cosine
        Whether scores are cosines of states and items' vectors, without bias, in training and ranking; else dot
        products.
    """

    def __init__(
        self,
        k: PositiveInt,
        tau: PositiveFloat = 0.1,
        cosine: bool = True,
        pool: Pools = "non_target",
        share: Share = "position",
    ) -> None:
        super().__init__(k, pool, share)
        self.tau, self.cosine = tau, cosine

    def __call__(
        self,
        states: Tensor,
        targets: Tensor,
        table: OutputTable,
        weights: Tensor | None = None,
        draw: Draw | None = None,
    ) -> tuple[Tensor, Tensor]:
        # The table's vectors are unit vectors where scores are cosines (``Backbone.scorer``).
        return super().__call__(table.read(states), targets, table, weights, draw)

    def target_losses(self, positive: Tensor, negative: Tensor, n_items: int, *known: Tensor) -> Tensor:
        return torch.logsumexp(_never_none(positive, negative) / self.tau, 1) - positive / self.tau


def _never_none(positive: Tensor, negative: Tensor) -> Tensor:
    """Negative scores [n, K], of a row without any those of the target: its loss is then a constant, not -inf."""
    return torch.where(n_allowed(negative).unsqueeze(1) > 0, negative, positive.unsqueeze(1))


class BSL(SL):
    """Bilateral softmax loss: -s_target / tau + (tau_negative / tau) log sum_j exp(s_j / tau_negative).

    Equal temperatures give SL. Source: Wu et al., "BSL: Understanding and improving softmax loss for recommendation",
    ICDE 2024.

    Parameters
    ----------
    tau
        Temperature of the target's score.
    tau_negative
        Temperature of the negatives' scores.
    k, cosine, pool, share
        See ``SL``.
    """

    def __init__(
        self,
        k: PositiveInt,
        tau: PositiveFloat = 0.1,
        tau_negative: PositiveFloat = 0.1,
        cosine: bool = True,
        pool: Pools = "non_target",
        share: Share = "position",
    ) -> None:
        super().__init__(k, tau, cosine, pool, share)
        self.tau_negative = tau_negative

    def target_losses(self, positive: Tensor, negative: Tensor, n_items: int, *known: Tensor) -> Tensor:
        spread = torch.logsumexp(_never_none(positive, negative) / self.tau_negative, 1)
        return (self.tau_negative * spread - positive) / self.tau


class PSL(SL):
    """Pairwise softmax loss: log sum_j a((s_j - s_target) / 2) ** (2 / tau), a surrogate of 1[s_j >= s_target].

    The surrogates are bounded, or grow less than the exponential, which gives SL: a large gap of a single negative
    counts less. Scores are cosines always, so that the halved gaps are in -1..1, where each a is positive. Published:
    tanh. Source: Yang et al., "PSL: Rethinking and improving softmax loss from pairwise perspective for
    recommendation", NeurIPS 2024.

    Parameters
    ----------
    surrogate
        a(x): ``tanh`` (tanh x + 1), ``relu`` (max(x + 1, 0)), ``atan`` (arctan x + 1) or ``exp``.
    k, tau, pool, share
        See ``SL``.
    """

    def __init__(
        self,
        k: PositiveInt,
        tau: PositiveFloat = 0.1,
        surrogate: Literal["tanh", "relu", "atan", "exp"] = "tanh",
        pool: Pools = "non_target",
        share: Share = "position",
    ) -> None:
        super().__init__(k, tau, True, pool, share)
        self.surrogate = surrogate

    def target_losses(self, positive: Tensor, negative: Tensor, n_items: int, *known: Tensor) -> Tensor:
        gaps = (_never_none(positive, negative) - positive.unsqueeze(1)) / 2
        forbidden = gaps == -torch.inf
        logs = _LOG_SURROGATES[self.surrogate](gaps.masked_fill(forbidden, 0.0)) * (2 / self.tau)
        return torch.logsumexp(logs.masked_fill(forbidden, -torch.inf), 1)


class SLAtK(SL):
    """SL@K: SL times sigma((s_target - b) / tau_weight), b the ``top``-th highest score of target and negatives.

    A target that scores far below a list's last place counts less. The published b is a user's and is estimated anew
    every 20 epochs; here it is the target's own, of its own negatives. The weight has no gradient, while in the
    authors' code it has one by the target's score. Published: top 20 of 1,000 negatives, tau 0.2, tau_weight 2.25.
    Source: Yang et al., "Breaking the top-K barrier", KDD 2025.

    Parameters
    ----------
    tau_weight
        Temperature of the weight; a large one weighs all targets alike, at 1/2.
    top
        Place of b among the scores, 1 for the highest; at most K.
    k, tau, cosine, pool, share
        See ``SL``.
    """

    def __init__(
        self,
        k: PositiveInt,
        tau: PositiveFloat = 0.1,
        tau_weight: PositiveFloat = 2.25,
        top: PositiveInt = 20,
        cosine: bool = True,
        pool: Pools = "non_target",
        share: Share = "position",
    ) -> None:
        super().__init__(k, tau, cosine, pool, share)
        self.tau_weight, self.top = tau_weight, min(top, k)

    def target_losses(self, positive: Tensor, negative: Tensor, n_items: int, *known: Tensor) -> Tensor:
        return self.weight(positive, negative) * super().target_losses(positive, negative, n_items)

    @torch.no_grad()
    def weight(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Weight of each target, [n], from scores [n] and [n, K]; 1 with fewer than ``top`` allowed negatives."""
        threshold = torch.cat([positive.unsqueeze(1), negative], 1).topk(self.top, 1).values[:, -1]
        return torch.sigmoid((positive - threshold) / self.tau_weight)


class DSL(SL):
    """A reconstruction of the dual-scale softmax loss, of which no equations are public; no reproduction.

    tau_t / tau (-s_target / tau_t + log(exp(s_target / tau_t) + sum_j w_j exp(s_j / tau_t))), with weights w_j of mean
    1 within a target's negatives, and a temperature tau_t of each target. Weights: softmax of ``hardness`` times the
    standardised score and ``similarity`` times the cosine of the negative's vector and the target's. Temperature: tau
    exp(``competition`` (c - mean of the batch's c)), within tau / 2 to 2 tau, where c is the mean of sigma((s_j -
    s_target) / tau) over the ``slate`` negatives of highest score. Neither has a gradient. With all three strengths 0
    it is sampled softmax (``SSM``) of s / tau. Source: the abstract of arXiv 2602.07206, and our own choices.

    Parameters
    ----------
    hardness, similarity
        Strengths of the weights. A negative similarity spares items that are like the target.
    competition
        Strength of the temperatures.
    slate
        Negatives that compete, at most K.
    k, tau, cosine, pool, share
        See ``SL``.
    """

    def __init__(
        self,
        k: PositiveInt,
        tau: PositiveFloat = 0.1,
        hardness: NonNegativeFloat = 0.5,
        similarity: float = 0.5,
        competition: NonNegativeFloat = 0.5,
        slate: PositiveInt = 20,
        cosine: bool = True,
        pool: Pools = "non_target",
        share: Share = "position",
    ) -> None:
        super().__init__(k, tau, cosine, pool, share)
        self.hardness, self.similarity, self.competition = hardness, similarity, competition
        self.slate = min(slate, k)

    def known(self, at: Evaluation, ids: Tensor, forbidden: Tensor | None) -> tuple[Tensor, ...]:
        """Logarithms of the weights, [N, K], and the temperatures, [N]."""
        if not len(at.targets):
            return at.states.new_empty(0, ids.shape[-1]), at.states.new_empty(0)
        positive = scores_of(at.states, at.table, at.targets.unsqueeze(1)).squeeze(1)
        negative = scores_of(at.states, at.table, ids)
        unit = at.table.unit()
        alike = scores_of(unit.weight[at.targets], unit, ids) if self.similarity else torch.zeros_like(negative)
        if forbidden is not None:
            negative = negative.masked_fill(forbidden, -torch.inf)
        return self.log_weights(negative, alike), self.temperatures(positive, negative)

    def log_weights(self, negative: Tensor, alike: Tensor) -> Tensor:
        """Logarithms of the weights from scores and similarities to the target, [N, K]."""
        allowed = negative > -torch.inf
        n = allowed.sum(1, keepdim=True).clamp(min=1).to(negative.dtype)
        mean = negative.masked_fill(~allowed, 0.0).sum(1, keepdim=True) / n
        centred = (negative - mean).masked_fill(~allowed, 0.0)
        hard = centred / (centred.square().sum(1, keepdim=True) / n).sqrt().add(_LEAST)
        strength = (self.hardness * hard + self.similarity * alike).masked_fill(~allowed, -torch.inf)
        # Where all are forbidden the scores of -inf say so already.
        return (strength - torch.logsumexp(strength, 1, keepdim=True) + n.log()).masked_fill(~allowed, 0.0)

    def temperatures(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Temperature of each target of a batch, [N], from scores [N] and [N, K]."""
        slate = negative.topk(self.slate, 1).values
        competing = torch.sigmoid((slate - positive.unsqueeze(1)) / self.tau).mean(1)
        factor = torch.exp(self.competition * (competing - competing.mean()))
        return self.tau * factor.clamp(0.5, 2.0)

    def target_losses(self, positive: Tensor, negative: Tensor, n_items: int, *known: Tensor) -> Tensor:
        log_weights, temperatures = known
        own, others = positive / temperatures, negative / temperatures.unsqueeze(1) + log_weights
        return (torch.logsumexp(torch.cat([own.unsqueeze(1), others], 1), 1) - own) * (temperatures / self.tau)
