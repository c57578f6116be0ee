"""Generalised binary cross-entropy, the loss of gSASRec."""

import torch.nn.functional as F
from torch import Tensor

from recsys_lt.errors import UserError
from recsys_lt.losses.sampled import SampledLoss, n_allowed


class GBCE(SampledLoss):
    """-(beta log sigma(s_target) + sum_j log(1 - sigma(s_j))) / (K + 1).

    With the sampling rate a = K / (I - 1), beta = a (t (1 - 1/a) + 1/a): t = 0 is plain BCE with K negatives
    (beta = 1), t = 1 corrects all of the over-confidence that sampling brings (beta = a).

    Of negatives shared by a batch those outside a target's pool are left out: its divisor is one more than those that
    are left. The sampling rate stays that of the K drawn. Source: Petrov & Macdonald, RecSys 2023 (gSASRec).

    Parameters
    ----------
    k
        Negatives for each target (published: 256).
    t
        Calibration in [0, 1] (published: 0.75).
    pool, share
        See ``Negatives``; published: all, position.
    """

    def __init__(self, k: int, t: float = 0.75, pool: str = "all", share: str = "position") -> None:
        super().__init__(k, pool, share)
        if not 0 <= t <= 1:
            raise UserError(f"t is {t}", where="loss.t", remedy="Give a calibration in [0, 1]")
        self.t = t

    def target_losses(self, positive: Tensor, negative: Tensor, n_items: int) -> Tensor:
        # beta * logsigmoid is exact in float32, so the published float64 detour through sigma^-beta is not needed.
        total = self.beta(n_items) * F.softplus(-positive) + F.softplus(negative).sum(1)
        return total / (n_allowed(negative) + 1)

    def beta(self, n_items: int) -> float:
        """Exponent of the target's probability."""
        rate = self.negatives.k / max(n_items - 1, 1)
        return rate * (self.t * (1 - 1 / rate) + 1 / rate)
