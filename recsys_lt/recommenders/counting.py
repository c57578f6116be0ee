"""Full ranking by counting: how many items score at least as high as the target. No sort, no [B, I] array."""

import torch
from torch import Tensor

from recsys_lt.data.batch import SeenSets
from recsys_lt.losses.output_table import OutputTable

# Scores held at a time: 16 MB on a CPU. Less than 2 ** 24, up to which float32 counts exactly.
_BLOCK = 1 << 22


def rank_by_scores(
    states: Tensor, table: OutputTable, targets: Tensor, masked: SeenSets | None, k: int
) -> tuple[Tensor, Tensor]:
    """Rank of each target over the whole catalogue, and the first k items.

    Ties count against the target: its rank is the number of items, itself included, that score at least as
    high, to within the rounding of a dot product; a score that is not a number counts as higher. A model that
    gives every item one score thus ranks every target last.

    Parameters
    ----------
    states
        [B, d].
    table
        Output table over the I items.
    targets
        [B], or empty when only lists are wanted.
    masked
        Items that cannot be recommended, by row. A target among them is ranked I.
    k
        Length of the lists; 0 for none.

    Returns
    -------
    ranks
        1-based, [B] int64 (empty without targets).
    top_items
        Best first, ties by item id, [B, k] int64; -1 where fewer than k items may be recommended.
    """
    n_rows, n_items = len(states), len(table.weight)
    wanted = len(targets) > 0
    ranks = torch.zeros(n_rows if wanted else 0, dtype=torch.int64, device=states.device)
    bar = _bar(states, table, targets) if wanted else None
    row, item = _pairs(masked, states.device)
    best = (states.new_full((n_rows, k), -torch.inf), targets.new_full((n_rows, k), -1))
    width = max(1, min(n_items, _BLOCK // max(n_rows, 1)))
    for start in range(0, n_items, width):
        stop = min(start + width, n_items)
        scores = states @ table.weight[start:stop].T
        if table.bias is not None:
            scores += table.bias[start:stop]
        inside = (item >= start) & (item < stop)
        scores[row[inside], item[inside] - start] = -torch.inf
        if k:
            best = _merge(best, scores, start, k)
        if bar is not None:
            # Zeros and ones in place of the scores: sums of booleans take five times the product's time.
            counted = torch.promote_types(scores.dtype, torch.float32)
            ranks += (stop - start) - scores.lt_(bar.unsqueeze(1)).sum(1, dtype=counted).long()
    if wanted:
        hidden = torch.zeros(n_rows, dtype=torch.bool, device=states.device)
        hidden[row[item == targets[row]]] = True
        ranks[hidden] = n_items
    values, items = best
    return ranks, items.masked_fill(values == -torch.inf, -1)


def _bar(states: Tensor, table: OutputTable, targets: Tensor) -> Tensor:
    """The score an item must stay below to be ranked behind the target, [B]."""
    vectors = table.weight[targets]
    score = (states * vectors).sum(1)
    # Two orders of summation of one dot product differ by about sqrt(d) roundings of its size.
    slack = states.norm(dim=1) * vectors.norm(dim=1)
    if table.bias is not None:
        score = score + table.bias[targets]
        slack = slack + table.bias[targets].abs()
    return score - 2 * states.shape[1] ** 0.5 * torch.finfo(states.dtype).eps * slack


def _pairs(masked: SeenSets | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """(row, item) of all that is masked, flat."""
    if masked is None:
        nothing = torch.zeros(0, dtype=torch.int64, device=device)
        return nothing, nothing
    rows = torch.arange(len(masked.offsets) - 1, device=device)
    row = torch.repeat_interleave(rows, masked.offsets.diff(), output_size=len(masked.items))
    return row, masked.items


def _merge(best: tuple[Tensor, Tensor], scores: Tensor, start: int, k: int) -> tuple[Tensor, Tensor]:
    """The k best of what stood before and of a block of scores, ties by item id."""
    n = min(k, scores.shape[1])
    more = min(n + 1, scores.shape[1])
    values, places = scores.topk(more, dim=1)
    # topk takes any of the items tied at its last place; the few rows where that matters are sorted.
    torn = values[:, n - 1] == values[:, more - 1]
    places = places[:, :n]
    if more > n and bool(torn.any()):
        order = scores[torn].argsort(dim=1, descending=True, stable=True)[:, :n]
        places[torn] = order
    places = places.sort(dim=1).values
    values = torch.cat([best[0], scores.gather(1, places)], 1)
    items = torch.cat([best[1], places + start], 1)
    order = values.argsort(dim=1, descending=True, stable=True)[:, :k]
    return values.gather(1, order), items.gather(1, order)
