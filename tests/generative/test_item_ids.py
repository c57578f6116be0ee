"""Item ids: what a map knows and refuses, builders by hand, and that no held-out interaction enters."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lt.data.features import TfIdf
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.generative.item_ids import IdFile, IdMap, OwnTokens, RandomNumbers, SequentialNumbers, told_apart
from recsys_lt.generative.quantised import PartKMeans, ResidualKMeans, kmeans
from recsys_lt.generative.vectors import Counts
from tests.data.small_sequences import sequences_of


def data_of(seed: int = 0, held_out: int = 0) -> Sequences:
    """30 users with histories in one of three blocks of ten items; the last two events of each are held out."""
    rng = np.random.default_rng(seed)
    histories = [(user % 3 * 10 + rng.permutation(10)[:8]).tolist() for user in range(30)]
    if held_out:
        other = np.random.default_rng(held_out)
        histories = [history[:6] + other.permutation(30)[:2].tolist() for history in histories]
    return sequences_of(histories, [6] * 30, [6] * 30, [7] * 30, n_items=30)


def made(ids, data: Sequences, tmp_path: Path) -> IdMap:
    needs = {}
    for name, need in ids.needs().items():
        need.make(data, {}, tmp_path)
        needs[name] = need.load(tmp_path)
    return ids.map(data, needs, np.random.default_rng(0))


def codes_of(rows) -> np.ndarray:
    return np.array(rows, dtype=np.int32)


def test_facts_of_a_map_by_hand():
    ids = told_apart(codes_of([[0, 1], [0, 1], [2, 0], [0, 0]]), (4, 2), "by hand")
    assert ids.codes.tolist() == [[0, 1, 0], [0, 1, 1], [2, 0, 0], [0, 0, 0]]
    assert (ids.sizes, ids.depth, ids.n_tokens) == ((4, 2, 2), 3, 8)
    assert ids.utilisation == (0.5, 1.0, 1.0)
    assert (ids.unique_codes, ids.largest_share) == (0.5, 0.75)
    assert ids.tokens.tolist() == [[0, 5, 6], [0, 5, 7], [2, 4, 6], [0, 4, 6]]


def test_no_collision_no_further_token():
    assert told_apart(codes_of([[0, 1], [1, 1]]), (2, 2), "by hand").depth == 2


@given(st.integers(1, 40), st.integers(2, 12))
def test_digits_are_a_bijection_of_equal_depth(n, base):
    data = sequences_of([[0]], [1], n_items=n)
    for ids in (RandomNumbers(base), SequentialNumbers(base), SequentialNumbers(base, "train")):
        found = ids.map(data, {}, np.random.default_rng(n))
        numbers = (found.codes * base ** np.arange(found.depth)[::-1]).sum(1)
        assert sorted(numbers.tolist()) == list(range(n))
        assert found.shared
        assert found.n_tokens == base


def test_numbers_in_order_of_first_appearance():
    data = sequences_of([[4, 2, 1], [2, 0, 3]], [2, 1], [-1, -1], [2, 2], n_items=6)
    found = SequentialNumbers().map(data, {}, np.random.default_rng(0))
    assert found.codes[:, 0].tolist() == [3, 2, 1, 4, 0, 5]
    assert found.leaks
    trained = SequentialNumbers(events="train").map(data, {}, np.random.default_rng(0))
    assert trained.codes[[4, 2], 0].tolist() == [0, 1]
    assert not trained.leaks


@pytest.mark.parametrize("kind", [ResidualKMeans, PartKMeans])
def test_codes_of_vectors_know_the_blocks_of_items(kind, tmp_path):
    found = made(kind(Counts(width=8), levels=2, size=3), data_of(), tmp_path)
    if kind is ResidualKMeans:
        first = found.codes[:, 0].reshape(3, 10)
        assert (first == first[:, :1]).all()
        assert len(set(first[:, 0].tolist())) == 3
    assert found.collision_token
    assert len(np.unique(found.codes, axis=0)) == 30


@pytest.mark.parametrize(
    "ids",
    [
        ResidualKMeans(Counts(width=8), levels=2, size=4),
        PartKMeans(Counts(width=8), levels=2, size=4),
        SequentialNumbers(events="train"),
        RandomNumbers(),
        OwnTokens(),
    ],
    ids=lambda ids: type(ids).__name__,
)
def test_held_out_interactions_do_not_enter(ids, tmp_path):
    first, second = (made(ids, data_of(held_out=held_out), tmp_path) for held_out in (1, 2))
    np.testing.assert_array_equal(first.codes, second.codes)
    assert not first.leaks


def test_ids_in_order_of_all_events_say_that_they_leak(tmp_path):
    first, second = (made(SequentialNumbers(), data_of(held_out=held_out), tmp_path) for held_out in (1, 2))
    assert (first.codes != second.codes).any()
    assert first.leaks
    assert second.facts()["leaks"]


def test_kmeans_finds_the_groups_and_takes_equal_vectors():
    rng = np.random.default_rng(0)
    middles = np.repeat(np.eye(4, dtype=np.float32) * 10, 25, axis=0)
    centres, nearest = kmeans(middles + rng.normal(size=(100, 4)).astype(np.float32) * 0.1, 4, 20, rng)
    assert [len(set(nearest[n * 25 : n * 25 + 25].tolist())) for n in range(4)] == [1] * 4
    assert len(centres) == 4
    centres, nearest = kmeans(middles, 7, 20, rng)
    assert len(centres) == 4
    np.testing.assert_allclose(centres[nearest], middles)


def test_each_level_of_residuals_leaves_less(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    rng, left, norms = np.random.default_rng(1), vectors, []
    for _ in range(3):
        centres, codes = kmeans(left, 8, 50, rng)
        left = left - centres[codes]
        norms.append(float((left**2).mean()))
    assert norms[0] > 1.2 * norms[1] > 1.2**2 * norms[2]
    found = ResidualKMeans(Counts(), levels=1, size=8, iterations=50).codes(vectors, np.random.default_rng(1))
    np.testing.assert_array_equal(found[:, 0], kmeans(vectors, 8, 50, np.random.default_rng(1))[1])


def test_vectors_of_a_column_that_is_not_there_are_refused_by_the_name_of_the_setting():
    with pytest.raises(UserError, match=r"^item_ids\.vectors\.columns: the items' column 'title' is read, which small"):
        ResidualKMeans(TfIdf()).check(data_of())


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=3), min_size=1, max_size=6))
@settings(max_examples=200)
def test_a_map_is_refused_exactly_where_one_path_begins_another(paths):
    depth = max(map(len, paths))
    codes = codes_of([path + [-1] * (depth - len(path)) for path in paths])
    begins = any(one == other[: len(one)] for i, one in enumerate(paths) for j, other in enumerate(paths) if i != j)
    if begins:
        with pytest.raises(UserError, match="tokens"):
            IdMap(codes, (3,) * depth, "by hand")
    else:
        assert IdMap(codes, (3,) * depth, "by hand").lengths.tolist() == [len(path) for path in paths]


@pytest.mark.parametrize(
    ("codes", "sizes", "said"),
    [
        (np.zeros((0, 2), np.int32), (2, 2), "shape"),
        (codes_of([[0], [1]]), (2, 2), "shape"),
        (codes_of([[0], [2]]), (2,), "item number 1 has token 2 of 2 at level 1"),
        (codes_of([[-1, 0], [0, 1]]), (2, 2), "item number 0 has no token"),
        (codes_of([[0, -1, 0], [1, 0, 0]]), (2, 2, 2), "after the end"),
        (codes_of([[0, 1], [1, 1], [0, 1]]), (2, 2), "item numbers 0 and 2 have the same tokens"),
    ],
)
def test_a_map_that_is_none_is_refused(codes, sizes, said):
    with pytest.raises(UserError, match=said):
        IdMap(codes, sizes, "by hand")


def test_maps_are_read_as_they_were_written(tmp_path):
    ids = replace(told_apart(codes_of([[0, 1], [0, 1]]), (4, 2), "by hand"), leaks=True, shared=False)
    ids.save(tmp_path)
    found = IdMap.load(tmp_path)
    np.testing.assert_array_equal(found.codes, ids.codes)
    assert (found.sizes, found.facts(), found.collision_token) == (ids.sizes, ids.facts(), True)


def test_a_file_of_ids(tmp_path):
    path = tmp_path / "ids.tsv"
    path.write_text("i2\ta b\ni0\tb b\nother\tz z\n\ni1\ta c\n")
    found = IdFile(str(path)).map(sequences_of([[0]], [1], n_items=3), {}, np.random.default_rng(0))
    assert found.codes.tolist() == [[1, 0], [0, 1], [0, 0]]
    assert found.sizes == (2, 2)
    path.write_text("i0\ta\ni1\tb c\n")
    found = IdFile(str(path), ragged=True).map(sequences_of([[0]], [1], n_items=2), {}, np.random.default_rng(0))
    assert found.codes.tolist() == [[0, -1], [1, 0]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("i0\ta b\n", "it lacks 1 of the 2 items of small, such as 'i1'"),
        ("i0\ta b\ni1\ta b\n", "item numbers 0 and 1 have the same tokens"),
        ("i0\ta b\ni1\ta\n", "line 2: item 'i1' has 1 tokens, but the first item has 2"),
        ("i0\ta b\ni0\ta c\ni1\tb b", "line 2: item 'i0' appears twice"),
        ("i0 a b\n", "line 1: it is not an item id, a tab and tokens"),
        ("", "it lacks 2 of the 2 items"),
        (None, "there is no such file"),
    ],
)
def test_a_file_that_is_none_of_the_catalogue_is_refused(tmp_path, text, said):
    path = tmp_path / "ids.tsv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=said) as refused:
        IdFile(str(path)).check(sequences_of([[0]], [1], n_items=2))
    assert "\n" not in str(refused.value)
    assert refused.value.remedy
