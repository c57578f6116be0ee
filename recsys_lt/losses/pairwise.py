"""Pairwise losses: BCE and BPR."""

import torch.nn.functional as F
from torch import Tensor

from recsys_lt.losses.sampled import SampledLoss, n_allowed


class BCE(SampledLoss):
    """Binary cross-entropy: softplus(-s_target) + mean over the K negatives of softplus(s_j).

    Of negatives shared by a batch those outside a target's pool are left out of its mean. Source: Kang & McAuley, ICDM
    2018 (SASRec); arXiv 2402.06216 for the mean over K.

    Parameters
    ----------
    k, pool, share
        See ``Negatives``; published: 1, unseen, position.
    """

    def __init__(self, k: int = 1, pool: str = "unseen", share: str = "position") -> None:
        super().__init__(k, pool, share)

    def target_losses(self, positive: Tensor, negative: Tensor, n_items: int) -> Tensor:
        return F.softplus(-positive) + _mean_of_allowed(F.softplus(negative), negative)


class BPR(SampledLoss):
    """Bayesian personalised ranking: mean over the K negatives of softplus(s_j - s_target).

    Of negatives shared by a batch those outside a target's pool are left out of its mean. Source: Rendle et al., UAI
    2009.

    Parameters
    ----------
    k, pool, share
        See ``Negatives``; published: 1, unseen, position.
    """

    def __init__(self, k: int = 1, pool: str = "unseen", share: str = "position") -> None:
        super().__init__(k, pool, share)

    def target_losses(self, positive: Tensor, negative: Tensor, n_items: int) -> Tensor:
        return _mean_of_allowed(F.softplus(negative - positive.unsqueeze(1)), negative)


def _mean_of_allowed(losses: Tensor, negative: Tensor) -> Tensor:
    """[n, K] -> [n]; the loss of a forbidden negative, whose score is -inf, is 0; 0 where all are."""
    return losses.sum(1) / n_allowed(negative).clamp_(min=1)
