"""Rows end to end instead of side by side with padding: how many together, and what each token of them sees."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


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

    Parameters
    ----------
    sizes
        Lengths of the pack's rows, [n] int64; they sum to T.
    past, prompt
        Tokens every row sees: those read before, and those read with the pack.
    """
    device = sizes.device
    # The prompt is row -1: every row sees it.
    of_prompt = torch.full((past + prompt,), -1, device=device)
    row = torch.cat([of_prompt, torch.arange(len(sizes), device=device).repeat_interleave(sizes)])
    order = torch.arange(len(row), device=device)
    return ((row == row[past:].unsqueeze(1)) | (row == -1)) & (order <= order[past:].unsqueeze(1))
