"""Item features: TF-IDF by hand, reduction, and what is refused."""

from math import log

import numpy as np

from recsys_lt.data.features import reduced, tfidf


def test_tfidf_of_four_texts_by_hand():
    found = tfidf(["Red lamp, red", "red LAMP", "blue chair", ""])
    # red (f = 2), lamp, "red lamp"; each in 2 of 4 texts. The comma separates "lamp" from the second "red".
    # blue, chair and "blue chair" are in one text alone, and link no two items.
    assert found.shape == (4, 3)
    first = np.array([1 + log(2), 1, 1])
    np.testing.assert_allclose(np.sort(found[[0]].toarray().ravel())[::-1], first / np.linalg.norm(first), rtol=1e-6)
    np.testing.assert_allclose(found[[1]].toarray().ravel(), [3**-0.5] * 3, rtol=1e-6)
    assert found[[2, 3]].nnz == 0


def test_rarer_terms_weigh_more():
    found = tfidf(["a b", "a c", "a b", "a c", "a"], fewest=2).toarray()
    # a is in 5 of 5 texts: 1 + log(6 / 6) = 1; b in 2: 1 + log(6 / 3); "a b" as b.
    expected = np.array([1, 1 + log(2), 1 + log(2)])
    np.testing.assert_allclose(np.sort(found[0][found[0] > 0]), np.sort(expected / np.linalg.norm(expected)), rtol=1e-6)


def test_reduction_keeps_products_of_a_low_rank_matrix():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(30, 3)) @ rng.normal(size=(3, 12))
    small = reduced(matrix, 3)
    assert small.shape == (30, 3)
    np.testing.assert_allclose(small @ small.T, matrix @ matrix.T, atol=1e-4)
    np.testing.assert_array_equal(small, reduced(matrix, 3))
