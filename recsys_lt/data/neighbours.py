"""Sparse matrices between items: how often one follows another in training histories, and how alike their texts are."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from recsys_lt.data.arrays import offsets_of, pieces, ragged_index
from recsys_lt.data.sequences import Sequences

_PAIRS = 1 << 23  # pairs of events that are counted at a time: 96 MB
_ENTRIES = 1 << 22  # of a dense product that a thread forms at a time: 16 MB


def transitions(data: Sequences, decay: float = 0.6, distance: int = 50, backward: float = 0.5) -> sp.csr_array:
    """Decayed counts of how often one item comes after another in the training histories, [I, I] float32.

    Entry (i, j) sums ``decay ** (d - 1)`` over all pairs of training events of one user, i and d events later j, and
    ``backward`` times the same over j and later i. The diagonal is empty.

    Parameters
    ----------
    data
        Only the first ``train_end`` events of each user are read.
    decay
        Factor of each step of distance.
    distance
        Largest distance that counts, in events.
    backward
        Weight of the other order; 0 for none.
    """
    lengths = np.asarray(data.train_end)
    events = np.asarray(data.items)[ragged_index(np.asarray(data.offsets)[:-1], lengths)]
    users = np.repeat(np.arange(len(lengths)), lengths)
    counts: Any = sp.csr_array((data.n_items, data.n_items), dtype=np.float32)
    parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []
    longest = min(distance, int(lengths.max(initial=1)) - 1)
    for d in range(1, longest + 1):
        first = np.flatnonzero((users[:-d] == users[d:]) & (events[:-d] != events[d:]))
        parts.append((events[first], events[first + d], np.full(len(first), decay ** (d - 1), dtype=np.float32)))
        if d == longest or sum(len(weights) for _, _, weights in parts) >= _PAIRS:
            rows, columns, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
            counts, parts = counts + sp.coo_array((weights, (rows, columns)), shape=counts.shape).tocsr(), []
    return counts + backward * counts.T.tocsr() if backward else counts


def normalised(counts: sp.csr_array, row: float, column: float) -> sp.csr_array:
    """Each entry divided by the sum of its row to the power ``row``, and of its column to the power ``column``."""
    rows, columns = (
        np.power(sums, -power, where=sums > 0, out=np.zeros_like(sums))
        for sums, power in ((counts.sum(1), row), (counts.sum(0), column))
    )
    return sp.csr_array(sp.diags_array(rows) @ counts @ sp.diags_array(columns), dtype=np.float32)


def best(matrix: sp.csr_array, n: int) -> sp.csr_array:
    """The n largest entries of each row, all of a shorter one; among equals those of the first columns."""
    matrix = matrix.sorted_indices()
    lengths = np.diff(matrix.indptr)
    kept = np.ones(matrix.nnz, dtype=bool)
    for row in np.flatnonzero(lengths > n):
        row_of = slice(matrix.indptr[row], matrix.indptr[row + 1])
        values = matrix.data[row_of]
        last = np.partition(values, len(values) - n)[len(values) - n]
        kept[row_of] = values > last
        equal = np.flatnonzero(values == last)
        kept[row_of][equal[: n - np.count_nonzero(kept[row_of])]] = True
    # Numbers as small as they may be: scipy would take the offsets' type for all of them.
    offsets = offsets_of(np.minimum(lengths, n)).astype(matrix.indices.dtype)
    return sp.csr_array((matrix.data[kept], matrix.indices[kept], offsets), shape=matrix.shape)


def best_of_dense(values: NDArray[np.float32], n: int) -> sp.csr_array:
    """``best`` of a dense matrix [R, I] without negative entries."""
    # The n-th largest of the maxima of a row's parts is at most the row's own n-th largest: few are left to sort.
    width = values.shape[1]
    firsts = np.linspace(0, width, min(width, 4 * n), endpoint=False).astype(np.int64)
    maxima = np.maximum.reduceat(values, firsts, axis=1)
    n_parts = maxima.shape[1]
    least = np.partition(maxima, n_parts - n, axis=1)[:, n_parts - n] if n < n_parts else np.zeros(len(values))
    rows, columns = (places.astype(np.int32) for places in np.nonzero((values >= least[:, None]) & (values > 0)))
    found = sp.coo_array((values[rows, columns], (rows, columns)), shape=values.shape)
    return best(found.tocsr(), n)


def text_neighbours(texts: sp.csr_array, n: int = 100) -> sp.csr_array:
    """Cosines of each item and the n others whose texts are most like its own, [I, I] float32.

    ``texts`` is [I, terms], rows of Euclidean norm 1 or, for an item without a text, empty: ``features.tfidf``.
    """

    def nearest(rows: slice) -> sp.csr_array:
        # A dense right side: most pairs of items share a word, and a sparse result would take three times as long.
        cosines = np.ascontiguousarray((texts @ texts[rows].T.toarray()).T)
        own = np.arange(len(cosines))
        cosines[own, own + rows.start] = 0
        return best_of_dense(cosines, n)

    return _in_pieces(nearest, texts.shape[0], texts.shape[0])


def best_of_product(left: sp.csr_array, right: sp.csr_array, n: int) -> sp.csr_array:
    """``best`` of the product of two matrices without negative entries."""

    def rows_of(rows: slice) -> sp.csr_array:
        return best_of_dense((left[rows] @ right).toarray(), n)

    return _in_pieces(rows_of, left.shape[0], right.shape[1])


def _in_pieces(make: Callable[[slice], sp.csr_array], n_rows: int, width: int) -> sp.csr_array:
    """The rows that ``make`` gives, some at a time, in as many threads as torch has."""
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        return sp.vstack(list(threads.map(make, pieces(n_rows, max(1, _ENTRIES // width)))), format="csr")
