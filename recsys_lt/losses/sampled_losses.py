"""Losses on a target's score and K negative scores: the sampled losses of the literature."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from recsys_lt.losses.negatives import Pools, Share
from recsys_lt.losses.sampled import SampledLoss, n_allowed

_Part = Annotated[float, Field(ge=0, le=1)]


class BCE(SampledLoss):
    """Binary cross-entropy: softplus(-s_target) + mean over the K negatives of softplus(s_j).

    Of negatives shared by a batch those outside a target's pool are left out of its mean. Published: one unseen
    negative a position. Source: Kang & McAuley, ICDM 2018 (SASRec); arXiv 2402.06216 for the mean over K.
    """

    def target_losses(self, positive: Tensor, negative: Tensor, n_items: int, *known: Tensor) -> Tensor:
        return F.softplus(-positive) + _mean_of_allowed(F.softplus(negative), negative)


class BPR(SampledLoss):
    """Bayesian personalised ranking: mean over the K negatives of softplus(s_j - s_target).

    Of negatives shared by a batch those outside a target's pool are left out of its mean. Published: one unseen
    negative a position. Source: Rendle et al., UAI 2009.
    """

    def target_losses(self, positive: Tensor, negative: Tensor, n_items: int, *known: Tensor) -> Tensor:
        return _mean_of_allowed(F.softplus(negative - positive.unsqueeze(1)), negative)


def _mean_of_allowed(losses: Tensor, negative: Tensor) -> Tensor:
    """[n, K] -> [n]; the loss of a forbidden negative, whose score is -inf, is 0; 0 where all are."""
    return losses.sum(1) / n_allowed(negative).clamp_(min=1)


class NCE(SampledLoss):
    """Noise-contrastive estimation: softplus(-s_target) + sum over the K negatives of softplus(s_j), scores shifted.

    The shift is log(I / K) - c; with c = log(I / K) the loss is negative sampling (Mikolov et al., NeurIPS 2013).
    -log(K q) is log(I / K) for uniform noise q = 1 / I, and c stands for the log-partition sum. Published: c = 10 (1
    and 5 are slower, 50 fails on Beauty), and 500 negatives on Beauty, 100 on Yelp, of all items, for each position.
    Source: Gutmann & Hyvarinen, AISTATS 2010; arXiv 2402.06216v2.
    """

    def __init__(self, k: PositiveInt, c: float = 10.0, pool: Pools = "all", share: Share = "position") -> None:
        super().__init__(k, pool, share)
        self.c = c

    def target_losses(self, positive: Tensor, negative: Tensor, n_items: int, *known: Tensor) -> Tensor:
        shift = math.log(n_items / self.negatives.k) - self.c
        return F.softplus(-(positive + shift)) + F.softplus(negative + shift).sum(1)


class GBCE(SampledLoss):
    """-(beta log sigma(s_target) + sum_j log(1 - sigma(s_j))) / (K + 1).

    With the sampling rate a = K / (I - 1), beta = a (t (1 - 1/a) + 1/a): t = 0 is plain BCE with K negatives (beta =
    1), t = 1 corrects all of the over-confidence that sampling brings (beta = a). Published: t = 0.75, and 256
    negatives of all items for each position. Of negatives shared by a batch those outside a target's pool are left out:
    its divisor is one more than those that are left. The sampling rate stays that of the K drawn. Source: Petrov &
    Macdonald, RecSys 2023 (gSASRec).
    """

    def __init__(self, k: PositiveInt, t: _Part = 0.75, pool: Pools = "all", share: Share = "position") -> None:
        super().__init__(k, pool, share)
        self.t = t

    def target_losses(self, positive: Tensor, negative: Tensor, n_items: int, *known: Tensor) -> Tensor:
        # beta * logsigmoid is exact in float32, so the published float64 detour through sigma^-beta is not needed.
        total = self.beta(n_items) * F.softplus(-positive) + F.softplus(negative).sum(1)
        return total / (n_allowed(negative) + 1)

    def beta(self, n_items: int) -> float:
        """Exponent of the target's probability."""
        rate = self.negatives.k / max(n_items - 1, 1)
        return rate * (self.t * (1 - 1 / rate) + 1 / rate)


class SCE(SampledLoss):
    """Scaled cross-entropy: -s_target + log(exp(s_target) + alpha * sum_j exp(s_j)).

    Published: alpha = 100, and 500 negatives on Beauty, 100 on Yelp and ML-1M, of all items, for each position. An
    alpha of (I - 1) / k makes the sum unbiased with pool ``non_target``; 1 is SSM. Source: Xu et al., arXiv 2402.06216,
    equation of l_SCE.
    """

    def __init__(self, k: PositiveInt, alpha: PositiveFloat, pool: Pools = "all", share: Share = "position") -> None:
        super().__init__(k, pool, share)
        self.alpha = alpha

    def target_losses(self, positive: Tensor, negative: Tensor, n_items: int, *known: Tensor) -> Tensor:
        logits = torch.cat([positive.unsqueeze(1), negative + math.log(self.alpha)], 1)
        return torch.logsumexp(logits, 1) - positive

    def _differentiate(
        self, positive: Tensor, negative: Tensor, n_items: int, wanted: bool, *known: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        # The softmax's gradient is its probabilities: five passes over the scores, in place, where autograd
        # takes a dozen and as many buffers. A test holds it equal to autograd's of ``target_losses``.
        shift = math.log(self.alpha)
        top = torch.maximum(negative.amax(1) + shift, positive)
        probabilities = negative.sub_((top - shift).unsqueeze(1)).exp_()
        own = (positive - top).exp()
        partition = probabilities.sum(1) + own
        losses = partition.log() - (positive - top)
        return losses, own / partition - 1, probabilities.div_(partition.unsqueeze(1))


class SSM(SCE):
    """Sampled softmax: cross-entropy over the target and K sampled items, which is SCE with alpha 1."""

    def __init__(self, k: PositiveInt, pool: Pools = "all", share: Share = "position") -> None:
        super().__init__(k, 1.0, pool, share)
