"""Attention within the rows of a pack: none of the products between tokens that do not see each other."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lt.llm.packages import needed

_NAME = "recsys_lt_packed"


@dataclass(frozen=True)
class Blocks:
    """Where the rows of a pack lie, as a rectangle of R rows and L places, the last token of a shorter one repeated.

    Parameters
    ----------
    prompt
        Tokens that every row sees, before the rows.
    places
        Which token of the rows stands at each place, [R, L].
    back
        At which place each token of the rows stands, [T], in the flattened rectangle.
    sees
        Which of the prompt's tokens and of its row's places each place sees, [L, prompt + L]. The repetitions stand at
        the end, where no other place sees them.
    """

    prompt: int
    places: Tensor
    back: Tensor
    sees: Tensor

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


class PackedAttention:
    """What the attention layers of a language model are told of the pack that is under way.

    Its layers go on as they are where they do not run through ``transformers``' ``sdpa``.
    """

    def __init__(self) -> None:
        self.blocks: Blocks | None = None
        self._taken = False

    def on(self, causal: Any) -> None:
        """Put it into the layers of a causal language model of ``transformers``."""
        if causal.config._attn_implementation != "sdpa":
            return
        transformers, masks = needed("transformers"), needed("transformers.masking_utils")
        transformers.AttentionInterface.register(_NAME, _attention)
        transformers.AttentionMaskInterface.register(_NAME, masks.sdpa_mask)
        causal.set_attn_implementation(_NAME)
        self._taken = causal.config._attn_implementation == _NAME
        for module in causal.modules():
            module.packed = self

    def fitting(self, lengths: Sequence[int], prompt: int, device: torch.device) -> Blocks | None:
        """The blocks of a pack, where they are read as such and it pays."""
        return Blocks.of(lengths, prompt, device) if self._taken else None

    @contextmanager
    def reading(self, blocks: Blocks | None) -> Iterator[None]:
        """Tell the layers, while the block runs."""
        self.blocks = blocks
        try:
            yield
        finally:
            self.blocks = None


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: Any
) -> tuple[Tensor, None]:
    """In the place of ``transformers``' ``sdpa``: [1, H, q, d], [1, h, k, d] twice -> [1, q, H, d]."""
    blocks: Blocks | None = module.packed.blocks
    if blocks is None:
        plain: tuple[Tensor, None] = needed("transformers.integrations.sdpa_attention").sdpa_attention_forward(
            module, query, key, value, attention_mask, **more
        )
        return plain
    groups, scale = query.shape[1] // key.shape[1], more.get("scaling")
    given = query.dtype
    if query.device.type == "cpu":  # where torch's kernel is twice as slow backward in bfloat16
        query, key, value = (part.float() for part in (query, key, value))
    # Of the prompt there are queries too, unless it was read before.
    asking = query.shape[2] - len(blocks.back)
    key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
    before, within = slice(blocks.prompt), slice(blocks.prompt, None)

    def of_rows(part: Tensor) -> Tensor:
        return part[0][:, blocks.places].transpose(0, 1)  # [R, H, L, d]

    def of_all(part: Tensor) -> Tensor:
        shared = part[:, :, before].expand(len(blocks.places), -1, -1, -1)
        return torch.cat([shared, of_rows(part[:, :, within])], 2)

    q = of_rows(query[:, :, asking:])
    read = F.scaled_dot_product_attention(q, of_all(key), of_all(value), attn_mask=blocks.sees, scale=scale)
    found = read.transpose(1, 2).flatten(0, 1)[blocks.back].unsqueeze(0)
    if asking:
        prompt = query[:, :, :asking], key[:, :, before], value[:, :, before]
        own = F.scaled_dot_product_attention(*prompt, is_causal=True, scale=scale)
        found = torch.cat([own.transpose(1, 2), found], 1)
    return found.to(given), None
