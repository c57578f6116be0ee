"""Rows end to end in packs, without padding: how many together, what each token sees, and attention within the rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys_lt.llm.pretrained import needed

_NAME = "recsys_lt_packed"
# Beyond it the weights that are held for the backward pass, of all layers, would take gigabytes; torch's kernel holds
# none, and in float32 it is half as slow as in bfloat16.
_MOST_KEYS = 512


def packs(lengths: Sequence[int], prompt: int, most: int) -> Iterator[list[int]]:
    """Rows in their order, as many together as ``most`` tokens hold beside a prompt; a longer row is alone."""
    pack: list[int] = []
    for length in lengths:
        if pack and prompt + sum(pack) + length > most:
            yield pack
            pack = []
        pack.append(length)
    if pack:
        yield pack


def who_sees_whom(sizes: Tensor, past: int, prompt: int) -> Tensor:
    """Which tokens each token of a pack sees, the prompt's included, [prompt + T, past + prompt + T] bool.

    The rows' lengths are ``sizes`` [n]; every row sees ``past`` tokens read before and ``prompt`` read with the pack.
    """
    device = sizes.device
    # The prompt is row -1: every row sees it.
    of_prompt = torch.full((past + prompt,), -1, device=device)
    row = torch.cat([of_prompt, torch.arange(len(sizes), device=device).repeat_interleave(sizes)])
    order = torch.arange(len(row), device=device)
    return ((row == row[past:].unsqueeze(1)) | (row == -1)) & (order <= order[past:].unsqueeze(1))


@dataclass(frozen=True)
class Blocks:
    """Where the rows of a pack lie, as a rectangle of R rows and L places, the last token of a shorter one repeated."""

    prompt: int  # tokens that every row sees, before the rows
    places: Tensor  # which token of the rows stands at each place, [R, L]
    back: Tensor  # at which place each token of the rows stands, [T], in the flattened rectangle
    sees: Tensor  # which of the prompt's tokens and its row's places each place sees, [L, prompt + L]

    @staticmethod
    def of(lengths: Sequence[int], prompt: int, device: torch.device) -> "Blocks | None":
        """The rectangle of rows of these lengths; None where one product over all pairs of tokens is less work."""
        longest, n_tokens = max(lengths), sum(lengths)
        if len(lengths) * longest * (prompt + longest) >= n_tokens * (prompt + n_tokens):
            return None
        sizes = torch.tensor(lengths, device=device)
        first, place = sizes.cumsum(0) - sizes, torch.arange(longest, device=device)
        inside = place < sizes.unsqueeze(1)
        return Blocks(
            prompt,
            first.unsqueeze(1) + torch.minimum(place, sizes.unsqueeze(1) - 1),
            inside.flatten().nonzero().squeeze(1),
            torch.cat([inside.new_ones(longest, prompt), inside.new_ones(longest, longest).tril()], 1),
        )


class Pass:
    """What the layers of a language model know of the pass that is under way."""

    keys: Tensor | None = None  # the random stream of each token, [T] int64; None when ranking
    blocks: Blocks | None = None  # None where a mask says what each token sees


def attend_in_blocks(causal: Any, under_way: Pass) -> bool:
    """Have the attention layers of a causal language model read ``Pass.blocks``.

    Returns whether they do: those that do not run through ``transformers``' ``sdpa`` go on as they are.
    """
    if causal.config._attn_implementation != "sdpa":
        return False
    transformers, masks = needed("transformers"), needed("transformers.masking_utils")
    transformers.AttentionInterface.register(_NAME, _attention)
    transformers.AttentionMaskInterface.register(_NAME, masks.sdpa_mask)
    causal.set_attn_implementation(_NAME)
    for module in causal.modules():
        module.under_way = under_way
    return causal.config._attn_implementation == _NAME


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: Any
) -> tuple[Tensor, None]:
    """In the place of ``transformers``' ``sdpa``: [1, H, q, d], [1, h, k, d] twice -> [1, q, H, d]."""
    blocks: Blocks | None = module.under_way.blocks
    if blocks is None:
        return needed("transformers.integrations.sdpa_attention").sdpa_attention_forward(
            module, query, key, value, attention_mask, **more
        )
    scale = more.get("scaling")
    # Of the prompt there are queries too, unless it was read before.
    asking = query.shape[2] - len(blocks.back)
    before, within = slice(blocks.prompt), slice(blocks.prompt, None)

    def of_rows(part: Tensor) -> Tensor:
        tokens = part[0].transpose(0, 1)
        laid: Tensor = _Laid.apply(tokens.flatten(1), blocks.places.flatten(), blocks.back)
        return laid.view(*blocks.places.shape, *tokens.shape[1:]).transpose(1, 2)  # [R, H, L, d]

    def of_all(part: Tensor) -> Tensor:
        shared = part[:, :, before].expand(len(blocks.places), -1, -1, -1)
        return torch.cat([shared, of_rows(part[:, :, within])], 2)

    read = attended(of_rows(query[:, :, asking:]), of_all(key), of_all(value), blocks.sees, scale)
    found = _Taken.apply(read.transpose(1, 2).reshape(-1, query.shape[1] * query.shape[3]), blocks.back)
    found = found.view(1, -1, query.shape[1], query.shape[3])
    if asking:
        prompt = query[:, :, :asking], key[:, :, before], value[:, :, before]
        own = attended(*prompt, blocks.sees.new_ones(asking, asking).tril(), scale)
        found = torch.cat([own.transpose(1, 2), found], 1)
    return found, None


class _Laid(torch.autograd.Function):
    """Tokens [T, c] at their places in the rectangle, [R * L, c].

    The places that repeat a token are seen by no token and read by none, so that their gradients are zero.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, places: Tensor, back: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(back)
        return tokens.index_select(0, places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (back,) = ctx.saved_tensors
        return grad.index_select(0, back), None, None


class _Taken(torch.autograd.Function):
    """The tokens [T, c] of what stands in the rectangle, [R * L, c]."""

    @staticmethod
    def forward(ctx: Any, laid: Tensor, back: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(back)
        ctx.n_places = len(laid)
        return laid.index_select(0, back)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (back,) = ctx.saved_tensors
        return grad.new_zeros(ctx.n_places, grad.shape[1]).index_copy_(0, back, grad), None


def attended(query: Tensor, key: Tensor, value: Tensor, sees: Tensor, scale: float | None) -> Tensor:
    """Attention of H heads, of which H / h read the same keys and values: [R, H, q, d], [R, h, k, d] -> [R, H, q, d].

    ``sees`` [q, k] tells which keys each query sees, one at least, the same for all rows and heads; ``scale`` is that
    of the products, None for d ** -0.5.
    """
    groups = query.shape[1] // key.shape[1]
    # The heads that read the same keys ask one after the other: nothing is copied for each of them.
    asked = query.unflatten(1, (-1, groups)).flatten(2, 3)
    sees = sees.repeat(groups, 1)
    if asked.device.type != "cpu" or asked.dtype == torch.float32:
        found = F.scaled_dot_product_attention(asked, key, value, attn_mask=sees, scale=scale)
    elif key.shape[2] <= _MOST_KEYS:
        found = _by_products(asked, key, value, sees, asked.shape[-1] ** -0.5 if scale is None else scale)
    else:
        wide = F.scaled_dot_product_attention(asked.float(), key.float(), value.float(), attn_mask=sees, scale=scale)
        found = wide.to(query.dtype)
    return found.unflatten(2, (groups, -1)).flatten(1, 2)


def _by_products(query: Tensor, key: Tensor, value: Tensor, sees: Tensor, scale: float) -> Tensor:
    """The same with every weight held: on a processor torch's kernel takes five times as long in bfloat16."""
    n_rows = len(query)
    query, key, value = (part.flatten(0, 1) for part in (query, key, value))
    hidden = torch.zeros_like(sees, dtype=query.dtype).masked_fill(~sees, -torch.inf)
    scores = torch.baddbmm(hidden, query, key.transpose(1, 2), alpha=scale)
    # By way of float32 it is 2.5 times as fast where keys are no multiple of 32; a backward pass would hold both.
    weights = scores.softmax(-1) if scores.requires_grad else scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).unflatten(0, (n_rows, -1))
