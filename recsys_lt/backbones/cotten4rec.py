"""Cotten4Rec: BERT4Rec with cosine similarities in the place of the softmax."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lt.backbones.attention import Queries, split_heads
from recsys_lt.backbones.bert4rec import BERT4Rec
from recsys_lt.backbones.layers import RowDropout
from recsys_lt.backbones.linear_attention import LinearAttention
from recsys_lt.native import cosine_attention


class CosineAttention(LinearAttention):
    """Queries and keys of norm 1; the answers are divided by n ** sigmoid(p), of n events and a learned p of each head.

    Without the division, learning diverges; a fixed exponent makes long histories weigh too much or too little. On a
    GPU, one Triton kernel computes the answers to all events.
    """

    def __init__(self, heads: int, max_length: int, dropout: RowDropout) -> None:
        super().__init__(heads, max_length, dropout)
        self.exponent = nn.Parameter(torch.full((heads, 1), 0.5))

    def forward(self, query: Tensor, key_value: Tensor, pad: Tensor, queries: Queries) -> Tensor:
        """See ``Attention``."""
        heads = split_heads(query, key_value, self.heads)
        if queries.events is not None or not cosine_attention.usable(*heads):
            return super().forward(query, key_value, pad, queries)
        offsets, exponents = queries.layout.batch.offsets, self.exponent.sigmoid().flatten()
        answers = cosine_attention.CosineAttention.apply(*heads, exponents, offsets)
        return self.dropout(answers.flatten(1), queries.streams)

    def query_map(self, q: Tensor, n: Tensor) -> Tensor:
        """See ``LinearAttention``; the answers are divided here."""
        return F.normalize(q, dim=-1) * n ** -self.exponent.sigmoid()

    def key_map(self, k: Tensor) -> Tensor:
        """See ``LinearAttention``."""
        return F.normalize(k, dim=-1)


class Cotten4Rec(BERT4Rec):
    """BERT4Rec whose attention is linear in the length of a history: cosine similarities, without a softmax.

    All else is ``BERT4Rec``, so that the two differ in their attention alone. The authors' notebook normalises before
    each layer, not after it, and has no projection after the attention.

    References
    ----------
    arXiv 2602.06935; the exponent and both orders of the products are those of gmongaras/Cottention_Transformer.
    """

    attention = CosineAttention
