"""LinRec: linear attention of normalised ELU features, bidirectional and causal."""

import torch.nn.functional as F
from torch import Tensor

from recsys_lt.backbones.bert4rec import BERT4Rec
from recsys_lt.backbones.linear_attention import LinearAttention
from recsys_lt.backbones.sasrec import SASRec


class EluAttention(LinearAttention):
    """Queries and keys as ELU features of norm 1 in each head; weights are divided by the root of the head's width.

    Keys are normalised over their features, as in the authors' code. Normalised over the events of a row, an event's
    key would depend on later events, which causal attention must not.
    """

    def query_map(self, q: Tensor, n: Tensor) -> Tensor:
        """See ``LinearAttention``."""
        return F.normalize(F.elu(q), dim=-1) / q.shape[-1] ** 0.5

    def key_map(self, k: Tensor) -> Tensor:
        """See ``LinearAttention``."""
        return F.normalize(F.elu(k), dim=-1)


class LinRec(BERT4Rec):
    """BERT4Rec with linear attention: each masked item is predicted from the events on both sides.

    All else is ``BERT4Rec``. The authors train prefixes of a history, each with one target after it.

    References
    ----------
    Liu et al., "LinRec: Linear Attention Mechanism for Long-term Sequential Recommender Systems", SIGIR 2023
    (Applied-Machine-Learning-Lab/LinRec).
    """

    attention = EluAttention


class CausalLinRec(SASRec):
    """SASRec with linear attention: each event is predicted from those before it, all in one pass.

    All else is ``SASRec``, but that a window's pads are not attended to. See ``LinRec``.
    """

    attention = EluAttention
