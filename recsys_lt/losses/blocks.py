"""Gradients formed in the forward pass, a block of rows at a time.

Autograd keeps every logit until the backward pass. Here a block of rows is scored, its loss and its
score gradients are formed, and both are folded into the gradients of states and table while the block is still
in cache: the logits of more than one block never exist. Each weight row keeps a table gradient of its
own, so that W weighted means cost one pass over the logits.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from recsys_lt.errors import UserError
from recsys_lt.losses.output_table import OutputTable, Scorer

# A block of logits of about 8 MB on a CPU (it shares the cache with the table), 1 GB on a GPU.
_CPU_BLOCK = 1 << 21
_GPU_BLOCK = 1 << 28


def row_blocks(n_rows: int, width: int, device: torch.device) -> Iterator[slice]:
    """Slices of rows whose block of ``width`` values a row has a good size on the device."""
    budget = _CPU_BLOCK if device.type == "cpu" else _GPU_BLOCK
    width = max(width, 1)
    # Where the cache holds few rows, products of more are worth leaving it for (64 against 20 rows at 100,000 items: a
    # quarter less time), as long as the block stays within 256 MB (on a CPU).
    size = max(budget // width, min(64, 32 * budget // width), 16)
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def cross_entropies(states: Tensor, targets: Tensor, scorer: Scorer) -> Tensor:
    """Cross-entropy of each target over the catalogue, [N], which autograd knows.

    A block of logits is held at a time, and computed again for its gradient.
    """
    n_items = scorer.n_items

    def of_rows(states: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(scorer.block(states, 0, n_items).float(), targets, reduction="none")

    parts = [
        checkpoint(of_rows, states[rows], targets[rows], use_reentrant=False)
        for rows in row_blocks(len(states), n_items, states.device)
    ]
    return torch.cat(parts)


def logit_blocks(states: Tensor, item_vectors: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the states [N, d] and the logits of each, [n, I], in the vectors' type.

    A block of logits takes the memory of the one before: fresh pages cost more than the arithmetic.
    """
    buffer = None
    for rows in row_blocks(len(states), len(item_vectors), states.device):
        own = states[rows].to(item_vectors.dtype)
        if buffer is None:
            buffer = own.new_empty((len(own), len(item_vectors)))
        yield rows, torch.matmul(own, item_vectors.T, out=buffer[: len(own)])


def product_dtype(x: Tensor) -> torch.dtype:
    """Type of the logits products: autocast's where it is on, else the tensor's own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


@dataclass
class Gradients:
    """What a loss's forward pass leaves for its backward pass.

    ``states`` [N, d] is the gradient of each target's own loss by its state; ``table`` [W, I, d] and ``bias`` [W, I]
    (None without one) are those of ``weights @ losses``. ``ids`` [U], ascending, are the rows that ``table`` and
    ``bias`` are of; None for all I.
    """

    states: Tensor
    table: Tensor
    bias: Tensor | None
    ids: Tensor | None = None

    @classmethod
    def zeros(cls, states: Tensor, table: OutputTable, n_weights: int, ids: Tensor | None = None) -> "Gradients":
        weight, bias = table.weight, table.bias
        shape = n_weights, len(weight if ids is None else ids)
        by_table = weight.new_zeros((*shape, weight.shape[1]))
        return cls(torch.zeros_like(states), by_table, None if bias is None else bias.new_zeros(shape), ids)

    @classmethod
    def touching(
        cls, states: Tensor, table: OutputTable, n_weights: int, *ids: Tensor
    ) -> "tuple[Gradients, tuple[Tensor, ...]]":
        """Zeros for the rows ``ids`` alone where the table asks for that and they are fewer than its own; else for all.

        Also returns where in the gradients each id's row is, shaped like ``ids``.
        """
        if not table.sparse or sum(part.numel() for part in ids) >= len(table.weight):
            return cls.zeros(states, table, n_weights), ids
        touched, inverse = torch.cat([part.flatten() for part in ids]).unique(return_inverse=True)
        places = inverse.split([part.numel() for part in ids])
        gradients = cls.zeros(states, table, n_weights, touched)
        return gradients, tuple(place.view_as(part) for place, part in zip(places, ids, strict=True))

    def add_product(self, w: int, by_logits: Tensor, states: Tensor) -> None:
        """Add to the table's gradient of weighting w that of logits [n, I] by states [n, d] of their type."""
        if by_logits.dtype == self.table.dtype:
            self.table[w].addmm_(by_logits.T, states)
        else:
            self.table[w] += by_logits.T @ states


class Evaluation(NamedTuple):
    """States [N, d] to score against targets [N] under weights [W, N], and whether gradients are wanted."""

    states: Tensor
    targets: Tensor
    table: OutputTable
    weights: Tensor
    wanted: bool


Passed = tuple[Tensor, Gradients | None]  # losses [N], and gradients where they are wanted
Pass = Callable[[Evaluation], Passed]


class _WeightedMeans(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[no-untyped-def, override]
        ctx,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        weights: Tensor,
        sparse: bool,
        one_pass: Pass,
    ) -> tuple[Tensor, Tensor]:
        wanted = any(ctx.needs_input_grad[:3])
        losses, gradients = one_pass(Evaluation(states, targets, OutputTable(weight, bias, sparse), weights, wanted))
        if gradients is not None:
            ctx.save_for_backward(weights, gradients.states, gradients.table, gradients.bias, gradients.ids)
            ctx.n_items = len(weight)
        ctx.mark_non_differentiable(losses)
        return _means(weights, losses), losses

    @staticmethod
    @once_differentiable
    def backward(ctx, by_totals: Tensor, _by_losses: Tensor):  # type: ignore[no-untyped-def, override]
        weights, of_states, of_table, of_bias, ids = ctx.saved_tensors
        by_totals = by_totals / max(weights.shape[1], 1)
        with torch.autocast(by_totals.device.type, enabled=False):
            per_row = by_totals @ weights
            one = len(by_totals) == 1
            by_table = of_table[0] * by_totals if one else torch.tensordot(by_totals, of_table, 1)
            by_bias = None if of_bias is None else by_totals @ of_bias
        if ids is not None:
            by_table = _sparse(ids, by_table, ctx.n_items)
            by_bias = None if by_bias is None else _sparse(ids, by_bias, ctx.n_items)
        return of_states * per_row.unsqueeze(1), by_table, by_bias, None, None, None, None


def _sparse(ids: Tensor, rows: Tensor, n_rows: int) -> Tensor:
    """Rows ``ids`` of a tensor that is zero elsewhere; ``ids`` ascend and are distinct."""
    size = (n_rows, *rows.shape[1:])
    return torch.sparse_coo_tensor(ids.unsqueeze(0), rows, size, is_coalesced=True, check_invariants=False)


def weighted_means(
    states: Tensor, targets: Tensor, table: OutputTable, weights: Tensor | None, one_pass: Pass
) -> tuple[Tensor, Tensor]:
    """Totals [W] and losses [N] of a pass that forms its gradients as it goes (see ``Loss.__call__``)."""
    if weights is None:
        weights = states.new_ones((1, len(targets)))
    totals, losses = _WeightedMeans.apply(states, table.weight, table.bias, targets, weights, table.sparse, one_pass)
    return totals, losses.detach()


def plain_means(losses: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """The same from losses [N] that autograd knows: what the textbook forms return. UserError for another shape."""
    if losses.ndim != 1:
        what = f"plain_means was given a tensor of shape {list(losses.shape)}, not one loss for each target"
        raise UserError(what, where="loss", remedy='Give it N losses (reduction="none")')
    if weights is None:
        weights = losses.new_ones((1, len(losses)))
    return _means(weights, losses), losses.detach()


def _means(weights: Tensor, losses: Tensor) -> Tensor:
    with torch.autocast(losses.device.type, enabled=False):  # a mean of many is no product for bfloat16
        return weights @ losses.to(weights.dtype) / max(len(losses), 1)
