"""Decoding steps of a causal stack of T5's blocks, after a history that was read once."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recsys_lt.generative.packed_t5 import Layout, PackedStack, norm

#: Keys and values of tokens in one block.
Pair = tuple[Tensor, Tensor]


@dataclass
class Cache:
    """What beams have written so far, and the keys and values of the histories, in every block."""

    stack: PackedStack
    read: list[Pair]  # of the histories, [B, h, L, d] each
    hidden: Tensor  # minus infinity at fillers of the histories, [B, 1, 1, L]
    lengths: Tensor  # of the histories, [B]
    biases: Tensor  # of a token so many places before, [h, places]
    last: Tensor  # states of the histories' last tokens, [B, d]
    written: list[Pair]  # by the beams, [B, n, h, s, d] each; none before the first step

    @classmethod
    def of(cls, stack: PackedStack, states: Tensor, layout: Layout, pairs: list[Pair], depth: int) -> "Cache":
        """The cache of histories read by ``stack``, for at most ``depth`` tokens after them."""
        own = stack.stack.block[0].layer[0].SelfAttention
        real = layout.real()
        hidden = torch.zeros(real.shape, device=real.device).masked_fill_(~real, -torch.inf)
        places = depth + real.shape[1]

        def by_heads(x: Tensor) -> Tensor:
            return layout.rectangle_of(x).unflatten(2, (own.n_heads, -1)).transpose(1, 2)

        return cls(
            stack,
            [(by_heads(keys), by_heads(values)) for keys, values in pairs],
            hidden[:, None, None],
            layout.lengths,
            own.compute_bias(1, places, past_seen_tokens=places - 1)[0, :, 0].flip(1),
            states[layout.ends],
            [],
        )

    def step(self, x: Tensor, parents: Tensor) -> Tensor:
        """Last states of the next token of n beams a row, of its input vectors: [B, n, d] -> [B, n, d].

        ``parents`` [B, n] are the beams of the step before that they go on from.
        """
        before = [tuple(_chosen(part, parents) for part in pair) for pair in self.written]
        self.written = []
        for number, block in enumerate(self.stack.stack.block):
            attention, normed = block.layer[0].SelfAttention, norm(block.layer[0].layer_norm, x)
            q, k, v = (self._split(part(normed), attention) for part in (attention.q, attention.k, attention.v))
            if before:
                k, v = (torch.cat([old, new], 3) for old, new in zip(before[number], (k, v), strict=True))
            self.written.append((k, v))
            keys, values = self.read[number]
            of_read = self._scores(q.squeeze(3), keys, k.shape[3])
            of_written = (q * k).sum(4) + self.biases[:, : k.shape[3]].flip(1)
            weights = torch.cat([of_read, of_written], 3).softmax(3)
            of_read, of_written = weights.split([of_read.shape[3], of_written.shape[3]], 3)
            found = (of_read.transpose(1, 2) @ values).transpose(1, 2) + (of_written.unsqueeze(4) * v).sum(3)
            x = x + attention.o(found.flatten(2))
            x = x + self.stack.feed_forward(block, x, None, None)
        return norm(self.stack.stack.final_layer_norm, x)

    def _split(self, x: Tensor, attention: Any) -> Tensor:
        """[B, n, h * d] -> [B, n, h, 1, d]."""
        return x.unflatten(2, (attention.n_heads, 1, -1))

    def _scores(self, q: Tensor, keys: Tensor, written: int) -> Tensor:
        """Scores of the histories' tokens [B, n, h, L], for the queries [B, n, h, d] of the token written last."""
        places = self.lengths.unsqueeze(1) + written - 1 - torch.arange(keys.shape[2], device=q.device)
        bias = self.biases[:, places.clamp(min=0)].transpose(0, 1).unsqueeze(2)
        return (q.transpose(1, 2) @ keys.transpose(2, 3) + bias + self.hidden).transpose(1, 2)


def _chosen(written: Tensor, parents: Tensor) -> Tensor:
    """Entries [B, m, ...] of the beams that others go on from, [B, n] -> [B, n, ...]."""
    rows = torch.arange(len(parents), device=parents.device).unsqueeze(1)
    return written[rows, parents]
