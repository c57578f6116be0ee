"""Sampled softmax (SSM) and its scaled form (SCE)."""

import math

import torch
from torch import Tensor

from recsys_lt.errors import UserError
from recsys_lt.losses.sampled import SampledLoss


class SCE(SampledLoss):
    """Scaled cross-entropy: -s_target + log(exp(s_target) + alpha * sum_j exp(s_j)).

    Source: Xu et al., arXiv 2402.06216, equation of l_SCE.

    Parameters
    ----------
    k
        Negatives for each target (published: 500 on Beauty, 100 on Yelp and ML-1M).
    alpha
        Weight of the sampled partition sum (published: 100). (I - 1) / k makes the sum unbiased; 1 is SSM.
    pool, share
        See ``Negatives``; published: all, position.
    """

    def __init__(self, k: int, alpha: float, pool: str = "all", share: str = "position") -> None:
        super().__init__(k, pool, share)
        if not alpha > 0:
            raise UserError(f"alpha is {alpha}", where="loss.alpha", remedy="Give a positive weight, such as 100")
        self.alpha = alpha

    def target_losses(self, positive: Tensor, negative: Tensor, n_items: int) -> Tensor:
        logits = torch.cat([positive.unsqueeze(1), negative + math.log(self.alpha)], 1)
        return torch.logsumexp(logits, 1) - positive

    def _differentiate(
        self, positive: Tensor, negative: Tensor, n_items: int, wanted: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        # The softmax's gradient is its probabilities: five passes over the scores, in place, where autograd
        # takes a dozen and as many buffers. A test holds it equal to ``plain``, which differentiates ``target_losses``.
        shift = math.log(self.alpha)
        top = torch.maximum(negative.amax(1) + shift, positive)
        probabilities = negative.sub_((top - shift).unsqueeze(1)).exp_()
        own = (positive - top).exp()
        partition = probabilities.sum(1) + own
        losses = partition.log() - (positive - top)
        return losses, own / partition - 1, probabilities.div_(partition.unsqueeze(1))


class SSM(SCE):
    """Sampled softmax: cross-entropy over the target and K sampled items, which is SCE with alpha 1."""

    def __init__(self, k: int, pool: str = "all", share: str = "position") -> None:
        super().__init__(k, 1.0, pool, share)
