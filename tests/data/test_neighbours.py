"""Sparse matrices between items: by hand, and against plain forms."""

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_lt.data import neighbours
from recsys_lt.data.features import tfidf
from recsys_lt.data.neighbours import best, best_of_product, normalised, text_neighbours, transitions
from tests.data.small_sequences import sequences_of


def test_the_graph_of_a_small_log_by_hand():
    # The last two events of the first user are targets: nothing of them may be counted.
    data = sequences_of([[0, 1, 2, 3, 1], [2, 2, 0]], [3, 3], [3, -1], [4, -1], n_items=4)
    found = transitions(data, decay=0.5, distance=2, backward=0.25).toarray()
    forward = np.zeros((4, 4))
    forward[0, 1] = forward[1, 2] = 1  # the first user, one event apart
    forward[0, 2] = 0.5  # two apart
    forward[2, 0] = 1 + 0.5  # the second user: one apart, and two apart; an item after itself does not count
    np.testing.assert_allclose(found, forward + 0.25 * forward.T)
    assert found.dtype == np.float32


@pytest.mark.parametrize("pairs", [1, 1 << 23])
def test_transitions_are_those_of_a_plain_loop(monkeypatch, pairs):
    monkeypatch.setattr(neighbours, "_PAIRS", pairs)
    random = np.random.default_rng(0)
    histories = [random.integers(0, 12, random.integers(1, 15)).tolist() for _ in range(40)]
    ends = [len(history) * 2 // 3 for history in histories]
    plain = np.zeros((12, 12))
    for history, end in zip(histories, ends, strict=True):
        for i in range(end):
            for j in range(i + 1, min(end, i + 5)):
                if history[i] != history[j]:
                    plain[history[i], history[j]] += 0.7 ** (j - i - 1)
                    plain[history[j], history[i]] += 0.3 * 0.7 ** (j - i - 1)
    found = transitions(sequences_of(histories, ends, n_items=12), decay=0.7, distance=4, backward=0.3)
    np.testing.assert_allclose(found.toarray(), plain, rtol=1e-5)


def test_entries_are_divided_by_powers_of_the_sums():
    counts = sp.csr_array(np.array([[0, 3, 1], [0, 0, 0], [2, 0, 0]], dtype=np.float32))
    rows, columns = np.array([4, 1, 2]), np.array([2, 3, 1])  # the sum of an empty row divides nothing
    expected = counts.toarray() / rows[:, None] ** 0.5 / columns**0.2
    np.testing.assert_allclose(normalised(counts, 0.5, 0.2).toarray(), expected, rtol=1e-6)


@pytest.mark.parametrize("entries", [10, 1 << 22])
def test_the_largest_entries_of_a_product_in_pieces(monkeypatch, entries):
    monkeypatch.setattr(neighbours, "_ENTRIES", entries)
    random = np.random.default_rng(2)
    left, right = (sp.csr_array(np.maximum(random.normal(size=(30, 30)) - 1, 0).astype(np.float32)) for _ in range(2))
    found = best_of_product(left, right, 4)
    np.testing.assert_allclose(found.toarray(), best((left @ right).tocsr(), 4).toarray(), rtol=1e-6)


def test_the_largest_entries_of_a_row_and_of_equals_the_first():
    values = np.array([[1, 3, 2, 3, 3], [0, 1, 0, 0, 2], [2, 2, 2, 2, 0]], dtype=np.float32)
    kept = best(sp.csr_array(values), 2).toarray()
    assert kept.tolist() == [[0, 3, 0, 3, 0], [0, 1, 0, 0, 2], [2, 2, 0, 0, 0]]


@pytest.mark.parametrize("n", [1, 7, 60, 200])
def test_nearest_texts_are_those_of_a_full_sort(n):
    random = np.random.default_rng(1)
    words = [f"w{number}" for number in range(30)]
    texts = [" ".join(random.choice(words, random.integers(0, 6))) for _ in range(80)]
    texts[5] = texts[40] = texts[41] = "w1 w2"  # equal ones
    vectors = tfidf(texts)
    cosines = (vectors @ vectors.T).toarray()
    np.fill_diagonal(cosines, 0)
    plain = np.zeros_like(cosines)
    for row, near in enumerate(cosines):
        first = np.argsort(-near, kind="stable")[:n]
        plain[row, first] = near[first]
    np.testing.assert_allclose(text_neighbours(vectors, n).toarray(), plain, atol=1e-6)
