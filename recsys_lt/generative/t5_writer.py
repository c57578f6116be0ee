"""Decoding steps of a T5 model of Hugging Face, one pass over all beams of a user."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Encoded(NamedTuple):
    """What the encoder made of B users' inputs of S tokens."""

    states: Tensor  # [B, S, d]
    mask: Tensor  # whether a token is there, [B, S] bool


@dataclass
class _Cache:
    crossed: list[tuple[Tensor, Tensor]]  # keys and values of the input in each layer, [B, H, S, w]
    mask: Tensor  # [B, 1, 1, S], 0 or minus infinity
    keys: list[Tensor]  # of the steps so far in each layer, [B, H, 1 + beams * (depth - 1), w]
    values: list[Tensor]
    #: 0 where a key is of a beam's own sequence, else minus infinity, [B, n, keys so far]
    own: Tensor
    #: the step of each key so far
    steps: Tensor


class T5Writer:
    """``Writer`` of a ``T5ForConditionalGeneration``, in eval mode: its decoder with one row of queries a beam.

    The beams of a user are read as the positions of one sequence, each of which attends to the keys of its own
    ancestors. So a user's input is there once for all beams, and no cache is moved when beams are reordered. Keys of
    every step stay where they were written; ``parents`` only say which of them a beam may see.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._decoder = model, model.decoder
        config = model.config
        self._heads, self._width = config.num_heads, config.d_kv
        self._start = config.decoder_start_token_id
        self._attentions = [(block.layer[0], block.layer[1], block.layer[2]) for block in self._decoder.block]
        with torch.no_grad():
            self._joint = [
                torch.cat([own.SelfAttention.q.weight, own.SelfAttention.k.weight, own.SelfAttention.v.weight])
                for own, _, _ in self._attentions
            ]

    def begin(self, encoded: Encoded, beams: int, depth: int) -> _Cache:
        """See ``Writer``."""
        n_users = len(encoded.states)
        crossed = []
        for _, cross, _ in self._attentions:
            attention = cross.EncDecAttention
            crossed.append((self._split(attention.k(encoded.states)), self._split(attention.v(encoded.states))))
        mask = torch.zeros_like(encoded.mask, dtype=encoded.states.dtype).masked_fill_(~encoded.mask, -torch.inf)
        shape = (n_users, self._heads, 1 + beams * (depth - 1), self._width)
        keys = [encoded.states.new_empty(shape) for _ in self._attentions]
        values = [encoded.states.new_empty(shape) for _ in self._attentions]
        own = encoded.states.new_zeros(n_users, 1, 0)
        return _Cache(crossed, mask[:, None, None], keys, values, own, torch.zeros(0, dtype=torch.int64))

    def step(self, cache: _Cache, tokens: Tensor | None, parents: Tensor | None) -> Tensor:
        """See ``Writer``."""
        n_users = len(cache.own)
        if tokens is None or parents is None:
            tokens = cache.own.new_full((n_users, 1), self._start, dtype=torch.int64)
            parents = torch.zeros_like(tokens)
        n, before = tokens.shape[1], cache.own.shape[2]
        step = int(cache.steps[-1]) + 1 if before else 0
        itself = cache.own.new_full((n, n), -torch.inf).fill_diagonal_(0).expand(n_users, n, n)
        kept = cache.own.gather(1, parents.unsqueeze(2).expand(-1, -1, before))
        cache.own = torch.cat([kept, itself], 2)
        cache.steps = torch.cat([cache.steps, torch.full((n,), step)])
        bias = cache.own.unsqueeze(1) + self._bias(step, cache.steps)
        states = self._decoder.embed_tokens(tokens)
        for layer, (own, cross, forward) in enumerate(self._attentions):
            read = F.linear(own.layer_norm(states), self._joint[layer])
            query, key, value = (self._split(part) for part in read.chunk(3, dim=-1))
            keys, values = cache.keys[layer], cache.values[layer]
            keys[:, :, before : before + n], values[:, :, before : before + n] = key, value
            keys, values = keys[:, :, : before + n], values[:, :, : before + n]
            states = states + own.SelfAttention.o(self._attend(query, keys, values, bias))
            query = self._split(cross.EncDecAttention.q(cross.layer_norm(states)))
            states = states + cross.EncDecAttention.o(self._attend(query, *cache.crossed[layer], cache.mask))
            states = forward(states)
        states = self._decoder.final_layer_norm(states)
        if self._model.config.scale_decoder_outputs:
            states = states * self._model.model_dim**-0.5
        logits: Tensor = self._model.lm_head(states)
        return logits

    def _bias(self, step: int, steps: Tensor) -> Tensor:
        """Bias of keys of steps [K] for a query of the last one, [1, H, 1, K]."""
        attention = self._attentions[0][0].SelfAttention
        by_step = attention.compute_bias(1, step + 1, past_seen_tokens=step)
        return by_step[..., steps]

    def _split(self, states: Tensor) -> Tensor:
        """[B, n, H w] as [B, H, n, w]."""
        return states.unflatten(2, (self._heads, self._width)).transpose(1, 2)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        found = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias, scale=1.0)
        return found.transpose(1, 2).flatten(2)
