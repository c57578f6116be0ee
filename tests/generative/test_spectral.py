"""Ids from co-occurrence: clusters of graphs, paths through them, and held-out interactions, which change none."""

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_lt.generative.spectral import Clusters, cluster_qr, spectral_clusters
from tests.data.small_sequences import sequences_of


def blocks_of(sizes: list[int], seed: int, between: float = 0.01) -> tuple[sp.csr_array, np.ndarray]:
    """A graph of blocks, in random order of the nodes, with few edges between them; and the block of each node."""
    rng = np.random.default_rng(seed)
    block = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    chance = np.where(block[:, None] == block, 0.5, between)
    upper = np.triu(rng.random(chance.shape) < chance, 1)
    return sp.csr_array((upper | upper.T).astype(np.float32)), block


@pytest.mark.parametrize("joined", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_clusters_of_a_block_graph_are_its_blocks(joined, seed):
    graph, block = blocks_of([80, 50, 40, 30], seed)
    found = spectral_clusters(graph, 4, joined, np.random.default_rng(0))
    pairs = np.unique(np.stack([found, block]), axis=1)
    assert pairs.shape[1] == 4
    assert set(found.tolist()) == set(range(4))


def test_cluster_qr_of_indicator_vectors():
    block = np.array([0, 2, 1, 1, 0, 2, 2])
    indicators = np.eye(3)[block] / np.sqrt(np.bincount(block))
    rotated = indicators @ np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    found = cluster_qr(rotated)
    assert len(np.unique(np.stack([found, block]), axis=1).T) == 3


def nested(held_out: int = 0):
    """Users within one of four blocks of ten items; two blocks have a few users in common. Item 40 is in no history."""
    rng, other = np.random.default_rng(0), np.random.default_rng(held_out)
    histories = [(user % 4 * 10 + rng.permutation(10)[:8]).tolist() for user in range(120)]
    histories += [[*half, *(half + 10)] for half in (rng.permutation(10)[:4] for _ in range(12))]
    histories += [[*(half + 20), *(half + 30)] for half in (rng.permutation(10)[:4] for _ in range(12))]
    held = [other.permutation(41)[:2].tolist() for _ in histories]
    ends = [len(history) for history in histories]
    full = [history + more for history, more in zip(histories, held, strict=True)]
    return sequences_of(full, ends, ends, [end + 1 for end in ends], n_items=41)


@pytest.mark.parametrize("own_tokens", [True, False])
def test_paths_lead_through_clusters_of_clusters(own_tokens):
    ids = Clusters(clusters=2, largest=12, own_tokens=own_tokens).map(nested(), {}, np.random.default_rng(0))
    assert ids.depth == 3
    assert ids.lengths.tolist() == [3] * 40 + [2]
    halves, blocks = ids.codes[:40, 0].reshape(2, 20), ids.codes[:40, 1].reshape(4, 10)
    for parts in (halves, blocks):
        assert (parts == parts[:, :1]).all()
        assert len(set(parts[:, 0].tolist())) == len(parts)
    assert ids.codes[40, 0] not in halves
    last = ids.codes[:40, 2]
    assert len(np.unique(last)) == (40 if own_tokens else 10)
    assert ids.sizes == ((3, 5, 40) if own_tokens else (3, 5, 10))
    assert not ids.leaks


def test_held_out_interactions_change_no_path():
    one, other = (Clusters(clusters=2, largest=12).map(nested(n), {}, np.random.default_rng(0)).codes for n in (1, 2))
    np.testing.assert_array_equal(one, other)


def test_items_without_any_co_occurrence_share_one_cluster():
    ids = Clusters(clusters=2).map(sequences_of([[0], [2]], [1, 1], n_items=3), {}, np.random.default_rng(0))
    assert ids.codes.tolist() == [[0, 0], [0, 1], [0, 2]]
