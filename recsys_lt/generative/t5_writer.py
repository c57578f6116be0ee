"""Decoding steps of a T5 model of Hugging Face, one pass over all beams of a user."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_STEP = 8  # inputs whose lengths are equal, rounded up to a multiple of this, are read together


class Encoded(NamedTuple):
    """What the encoder made of B users' inputs of S tokens."""

    states: Tensor  # [B, S, d]
    mask: Tensor  # whether a token is there, [B, S] bool; a user's tokens come first


class _Group(NamedTuple):
    """Users whose inputs are about as long."""

    users: Tensor  # [G]
    hidden: Tensor  # 0 where a token is there, else minus infinity, [G, 1, 1, S]
    crossed: list[tuple[Tensor, Tensor]]  # keys and values of the input in each layer, [G, H, S, w]


@dataclass
class _Cache:
    groups: list[_Group]
    order: Tensor  # place of each user among the groups' users, [B]
    keys: list[Tensor]  # of the steps so far in each layer, [B, H, 1 + beams * (depth - 1), w]
    values: list[Tensor]
    own: Tensor  # 0 where a key is of a beam's own sequence, else minus infinity, [B, n, keys so far]
    steps: Tensor  # the step of each key so far


class T5Writer:
    """``Writer`` of a ``T5ForConditionalGeneration``, in eval mode: its decoder with one row of queries a beam.

    The beams of a user are read as the positions of one sequence, each of which attends to the keys of its own
    ancestors. So a user's input is there once for all beams, and no cache is moved when beams are reordered: keys stay
    where they were written, and ``parents`` only say which of them a beam sees.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._decoder = model, model.decoder
        config = model.config
        self._heads, self._width = config.num_heads, config.d_kv
        self._start = config.decoder_start_token_id
        self._blocks = [tuple(block.layer) for block in self._decoder.block]
        with torch.no_grad():
            own = [attention.SelfAttention for attention, _, _ in self._blocks]
            self._joint = [torch.cat([one.q.weight, one.k.weight, one.v.weight]) for one in own]

    def begin(self, encoded: Encoded, beams: int, depth: int) -> _Cache:
        """See ``Writer``."""
        states, mask = encoded
        n_users = len(states)
        lengths = mask.sum(1)
        rounded = (lengths + _STEP - 1) // _STEP * _STEP
        groups = []
        for length in rounded.unique().tolist():
            users = (rounded == length).nonzero().squeeze(1)
            there = mask[users, :length]
            hidden = torch.zeros_like(there, dtype=states.dtype).masked_fill_(~there, -torch.inf)
            read = states[users, :length]
            crossed = [
                (self._split(cross.EncDecAttention.k(read)), self._split(cross.EncDecAttention.v(read)))
                for _, cross, _ in self._blocks
            ]
            groups.append(_Group(users, hidden[:, None, None], crossed))
        shape = (n_users, self._heads, 1 + beams * (depth - 1), self._width)
        keys, values = ([states.new_empty(shape) for _ in self._blocks] for _ in range(2))
        order = torch.cat([group.users for group in groups]).argsort()
        return _Cache(groups, order, keys, values, states.new_zeros(n_users, 1, 0), lengths.new_zeros(0))

    def step(self, cache: _Cache, tokens: Tensor | None, parents: Tensor | None) -> Tensor:
        """See ``Writer``."""
        n_users = len(cache.own)
        if tokens is None or parents is None:
            tokens = cache.steps.new_full((n_users, 1), self._start)
            parents = torch.zeros_like(tokens)
        bias = self._seen(cache, parents)
        n, until = bias.shape[2:]
        states = self._decoder.embed_tokens(tokens)
        for layer, (own, cross, forward) in enumerate(self._blocks):
            read = F.linear(_normed(own, states), self._joint[layer])
            query, key, value = (self._split(part) for part in read.chunk(3, dim=-1))
            keys, values = cache.keys[layer][:, :, :until], cache.values[layer][:, :, :until]
            keys[:, :, until - n :], values[:, :, until - n :] = key, value
            states = states + own.SelfAttention.o(_attend(query, keys, values, bias))
            query = self._split(cross.EncDecAttention.q(_normed(cross, states)))
            found = [_attend(query[group.users], *group.crossed[layer], group.hidden) for group in cache.groups]
            states = states + cross.EncDecAttention.o(torch.cat(found)[cache.order])
            states = states + forward.DenseReluDense(_normed(forward, states))
        states = self._decoder.final_layer_norm(states)
        if self._model.config.scale_decoder_outputs:
            states = states * self._model.model_dim**-0.5
        logits: Tensor = self._model.lm_head(states)
        return logits

    def _seen(self, cache: _Cache, parents: Tensor) -> Tensor:
        """What is added to the scores of the keys so far and of this step's, [B, H, n, K]; the cache learns of them."""
        n_users, n = parents.shape
        before = len(cache.steps)
        step = int(cache.steps[-1]) + 1 if before else 0
        itself = cache.own.new_full((n, n), -torch.inf).fill_diagonal_(0).expand(n_users, n, n)
        kept = cache.own.gather(1, parents.unsqueeze(2).expand(-1, -1, before))
        cache.own = torch.cat([kept, itself], 2)
        cache.steps = torch.cat([cache.steps, cache.steps.new_full((n,), step)])
        by_step = self._blocks[0][0].SelfAttention.compute_bias(1, step + 1, past_seen_tokens=step)
        found: Tensor = cache.own.unsqueeze(1) + by_step[..., cache.steps]
        return found

    def _split(self, states: Tensor) -> Tensor:
        """[B, n, H w] as [B, H, n, w]."""
        return states.unflatten(2, (self._heads, self._width)).transpose(1, 2)


def _normed(layer: Any, states: Tensor) -> Tensor:
    norm = layer.layer_norm
    return F.rms_norm(states, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _attend(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Attention of [B, H, n, w] to keys and values [B, H, K, w], without a scale, as in T5: [B, n, H w]."""
    found = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias, scale=1.0)
    return found.transpose(1, 2).flatten(2)
