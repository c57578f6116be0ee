"""Linear attention on packed histories: products of feature maps of queries and keys in the place of a softmax."""

from abc import abstractmethod

import torch.nn.functional as F
from torch import Tensor

from recsys_lt.backbones.attention import Attention, Queries, split_heads

#: Events in a chunk of causal attention, whose sums of keys and values are kept: [h, L / CHUNK, d / h, d / h] a row.
CHUNK = 64


class LinearAttention(Attention):
    """Attention whose weights are products q . k of feature maps, which a subclass gives: sum_s (q_t . k_s) v_s.

    A row of l events costs 2 l^2 d products in the order (Q K') V, and 2 l d^2 / h in the order Q (K' V), which holds
    nothing of size l^2. The cheaper order is taken. Causal attention adds up K' V over the events before a chunk, and
    takes the events of the chunk itself in the first order. Pads take no part. There are no weights to drop:
    ``dropout`` is of the answers.
    """

    @abstractmethod
    def query_map(self, q: Tensor, n: Tensor) -> Tensor:
        """Map of queries [..., h, d / h], whose rows have ``n`` events, [..., 1, 1]."""

    @abstractmethod
    def key_map(self, k: Tensor) -> Tensor:
        """Map of keys [..., h, d / h], with one head after the other."""

    def forward(self, query: Tensor, key_value: Tensor, pad: Tensor, queries: Queries) -> Tensor:
        """See ``Attention``."""
        layout, every = queries.layout, queries.events is None
        n = (layout.lengths[layout.batch.rows_of_events()] if every else layout.lengths).float()
        q, k, v = split_heads(query, key_value, self.heads)
        q, k = self.query_map(q, n.view(-1, 1, 1)), self.key_map(k)
        answers = []
        for (_, events, real), (asking, _) in zip(layout.rectangles, queries.asked, strict=True):
            of_q, of_k, of_v = (
                x.index_select(0, places.flatten()).view(*places.shape, *x.shape[1:]).transpose(1, 2)
                for x, places in ((q, asking), (k, events), (v, events))
            )
            # Keys beyond a row's end are others', and weigh nothing.
            of_k = of_k * real[:, None, :, None]
            answers.append(attended(of_q, of_k, of_v, layout.causal and every).transpose(1, 2))
        return self.dropout(queries.joined(answers), queries.streams)

    def padded(self, query: Tensor, key_value: Tensor, real: Tensor, causal: bool) -> Tensor:
        """See ``Attention``."""
        q, k, v = split_heads(query, key_value, self.heads)
        q = self.query_map(q, real.sum(1).clamp(min=1).float()[:, None, None, None])
        k = self.key_map(k) * real[:, :, None, None]
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return by_pairs(q, k, v, causal).transpose(1, 2).reshape(query.shape)


def attended(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Answers to q [g, h, q, c] of k and v [g, h, l, c], by the order of products that costs less -> [g, h, q, c]."""
    n, (length, width) = q.shape[2], k.shape[2:]
    if causal:
        return by_pairs(q, k, v, causal) if length <= CHUNK else by_chunks(q, k, v)
    return by_pairs(q, k, v, causal) if 2 * n * length <= (n + length) * width else by_sums(q, k, v)


def by_pairs(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """(Q K') V, where causal with the products of events and later ones left out."""
    weights = q @ k.transpose(2, 3)
    return (weights.tril() if causal else weights) @ v


def by_sums(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Q (K' V)."""
    return q @ (k.transpose(2, 3) @ v)


def by_chunks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention, q and k of the same l events: K' V of all chunks before, and pairs in each chunk."""
    length = k.shape[2]
    q, k, v = (F.pad(x, (0, 0, 0, -length % CHUNK)).unflatten(2, (-1, CHUNK)).flatten(1, 2) for x in (q, k, v))
    sums = (k.transpose(2, 3) @ v).unflatten(1, (-1, -(-length // CHUNK))).cumsum(2)
    before = F.pad(sums[:, :, :-1], (0, 0, 0, 0, 1, 0)).flatten(1, 2)
    answers = q @ before + by_pairs(q, k, v, causal=True)
    return answers.unflatten(1, (sums.shape[1], -1)).flatten(2, 3)[:, :, :length]
