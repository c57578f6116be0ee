"""From packed histories to left-padded ones, for backbones that mix positions of a fixed window."""

import torch
from torch import Tensor, nn

from recsys_lt.data.batch import Batch


class _PlaceOnPads(torch.autograd.Function):
    """Rows x [T, d] put at their slots of [count, d], all other slots holding the pad [d].

    The pad's gradient is zero by definition, not None: see ``PaddedItems``.
    """

    @staticmethod
    def forward(ctx, x: Tensor, pad: Tensor, slots: Tensor, count: int) -> Tensor:  # type: ignore[override,no-untyped-def]
        ctx.save_for_backward(slots)
        return pad.expand(count, -1).clone().index_copy_(0, slots, x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override,no-untyped-def]
        (slots,) = ctx.saved_tensors
        return grad.index_select(0, slots), grad.new_zeros(grad.shape[1]), None, None


class PaddedItems(nn.Module):
    """Item embeddings laid out in a window, right-aligned, with a pad vector before short histories.

    The reference's pad is a row of the item table with ``padding_idx``: drawn at random, entering the computation, and
    never learned. But its gradient is zero, not absent, so Adam's coupled weight decay does shrink it (to nothing
    within an epoch at lr 1e-4, weight decay 5e-4). Hence a parameter with a zero gradient here rather than a buffer.
    """

    def __init__(self, n_items: int, width: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_items, width).normal_(0, std))
        self.pad = nn.Parameter(torch.empty(width).normal_(0, std))
        self.sparse = False  # as in nn.Embedding

    def forward(self, batch: Batch, length: int) -> Tensor:
        """The last ``length`` places of each row, [B, length, d]; no history may be longer."""
        if max(batch.lengths, default=0) > length:
            raise ValueError(f"a history of {max(batch.lengths)} events in a window of {length}")
        # Row b ends at slot (b + 1) * length; its events move there from offsets[b + 1].
        ends = torch.arange(1, len(batch) + 1, device=batch.items.device) * length
        shift = (ends - batch.offsets[1:])[batch.rows_of_events()]
        slots = shift + torch.arange(len(batch.items), device=batch.items.device)
        events = nn.functional.embedding(batch.items, self.weight, sparse=self.sparse)
        window: Tensor = _PlaceOnPads.apply(events, self.pad, slots, len(batch) * length)
        return window.view(len(batch), length, -1)

    def padded(self, items: Tensor, real: Tensor) -> Tensor:
        """``forward`` of a window [B, L] that is padded already -> [B, L, d]."""
        return torch.where(real.unsqueeze(2), nn.functional.embedding(items, self.weight), self.pad)


def is_event(batch: Batch, length: int) -> Tensor:
    """Which places of the window hold an event rather than a pad, [B, length] bool."""
    places = torch.arange(length, device=batch.items.device)
    return places >= length - batch.offsets.diff().unsqueeze(1)
