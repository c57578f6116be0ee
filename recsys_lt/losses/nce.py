"""Noise-contrastive estimation and negative sampling."""

import math

import torch.nn.functional as F
from torch import Tensor

from recsys_lt.losses.sampled import SampledLoss


class NEG(SampledLoss):
    """Negative sampling: softplus(-s_target) + sum over the K negatives of softplus(s_j).

    Source: Mikolov et al., NeurIPS 2013; arXiv 2402.06216v2.
    """

    def target_losses(self, positive: Tensor, negative: Tensor, n_items: int) -> Tensor:
        shift = self.shift(n_items)
        return F.softplus(-(positive + shift)) + F.softplus(negative + shift).sum(1)

    def shift(self, n_items: int) -> float:
        """Shift of every score before the logistic function."""
        return 0.0


class NCE(NEG):
    """Noise-contrastive estimation: NEG on scores shifted by log(I / K) - c.

    -log(K q) is log(I / K) for uniform noise q = 1 / I, and c stands for the log-partition sum.

    Source: Gutmann & Hyvarinen, AISTATS 2010; arXiv 2402.06216v2.

    Parameters
    ----------
    k
        Negatives for each target (published: 500 on Beauty, 100 on Yelp).
    c
        The assumed log-partition sum (published: 10; 1 and 5 are slower, 50 fails on Beauty).
    pool, share
        See ``Negatives``; published: all, position.
    """

    def __init__(self, k: int, c: float = 10.0, pool: str = "all", share: str = "position") -> None:
        super().__init__(k, pool, share)
        self.c = c

    def shift(self, n_items: int) -> float:
        return math.log(n_items / self.negatives.k) - self.c
