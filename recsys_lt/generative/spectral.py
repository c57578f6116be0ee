"""Item ids from the items' co-occurrence in training histories: paths through clusters of clusters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt

from recsys_lt.data.arrays import Ints
from recsys_lt.data.neighbours import transitions
from recsys_lt.data.sequences import Sequences
from recsys_lt.generative.item_ids import IdMap, ItemIds

if TYPE_CHECKING:
    import scipy.sparse as sp


def cluster_qr(vectors: NDArray[np.float64]) -> Ints:
    """Cluster of each row of the leading eigenvectors of a graph, [n, N]: 0..N-1, [n].

    Source: Damle, Minden & Ying, "Simple, direct and efficient multi-way spectral clustering", 2019, algorithm 1.
    """
    from scipy.linalg import polar, qr  # which every run would wait for

    _, _, order = qr(vectors.T, mode="economic", pivoting=True)
    rotation, _ = polar(vectors[order[: vectors.shape[1]]].T)
    found: Ints = np.abs(vectors @ rotation).argmax(1)
    return found


def spectral_clusters(graph: "sp.csr_array", n: int, joined: float, rng: np.random.Generator) -> Ints:
    """``n`` clusters of a graph's nodes by the leading eigenvectors of its normalised adjacency, [nodes].

    Parameters
    ----------
    graph
        Symmetric weights without negative ones, more than ``n`` nodes.
    n
        Number of clusters; some may be empty.
    joined
        Weight that joins every node to all others together, in mean degrees: without it, small parts that hang on the
        graph by few edges become clusters of their own (Qin & Rohe, NeurIPS 2013).
    rng
        Of the vector that the search for eigenvectors begins with.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    size = graph.shape[0]
    degrees = np.asarray(graph.sum(1), dtype=np.float64)
    added = joined * degrees.mean()
    scale = 1 / np.sqrt(np.maximum(degrees + added, 1e-12))
    weights = graph.astype(np.float64)

    def times(x: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled = scale * x.ravel()
        found: NDArray[np.float64] = scale * (weights @ scaled + added / size * scaled.sum())
        return found

    operator = LinearOperator((size, size), matvec=times, dtype=np.float64)  # type: ignore[call-arg]
    _, vectors = eigsh(operator, k=n, which="LA", v0=rng.normal(size=size))
    return cluster_qr(vectors)


@dataclass(frozen=True)
class Clusters(ItemIds):
    """Collaborative ids: the path of clusters to an item, and a last token of its own.

    The graph of items that occur together in training histories is divided into clusters, and each large one again.
    Items that occur with no other are one cluster more. Source: P5's CID (Hua et al., SIGIR-AP 2023), there without
    ``joined``.

    Parameters
    ----------
    clusters
        Number of clusters that a cluster is divided into.
    largest
        A cluster of more items is divided again.
    deepest
        Most clusters of a path.
    own_tokens
        Whether the last token is no other item's; False: it numbers the items of a cluster, from 0 in each.
    distance
        Largest distance of two events of a history that counts as occurring together.
    joined
        See ``spectral_clusters``.
    """

    clusters: Annotated[int, Field(ge=2, le=1 << 10)] = 10
    largest: PositiveInt = 500
    deepest: Annotated[int, Field(ge=1, le=16)] = 8
    own_tokens: bool = True
    distance: PositiveInt = 50
    joined: NonNegativeFloat = 1.0

    def map(self, data: Sequences, needs: Mapping[str, Any], rng: np.random.Generator) -> IdMap:
        graph = transitions(data, decay=1.0, distance=self.distance, backward=1.0)
        known = np.asarray(graph.sum(1)) > 0
        used = [0] * (self.deepest + 1)  # clusters of each level so far
        leaves: list[tuple[tuple[int, ...], Ints]] = []  # clusters that are not divided, with their paths
        waiting: list[tuple[tuple[int, ...], Ints]] = [((), np.flatnonzero(known))] if known.any() else []
        while waiting:
            path, members = waiting.pop(0)
            parts = self._divided(graph, members, len(path), rng)
            if len(parts) < 2:
                leaves.append((path, members))
                continue
            for part in parts:
                waiting.append(((*path, used[len(path)]), part))
                used[len(path)] += 1
        if not known.all():
            leaves.append(((used[0],), np.flatnonzero(~known)))
            used[0] += 1
        last = [0] * (self.deepest + 1)  # last tokens of each level so far
        codes = np.full((data.n_items, 1 + max(len(path) for path, _ in leaves)), -1, dtype=np.int32)
        for path, members in leaves:
            level = len(path)
            first = last[level] if self.own_tokens else 0
            codes[members, :level] = path
            codes[members, level] = used[level] + first + np.arange(len(members))
            last[level] = max(last[level], first + len(members))
        sizes = tuple(used[level] + last[level] for level in range(codes.shape[1]))
        kind = "a token of its own" if self.own_tokens else "a number in the last of them"
        return IdMap(codes, sizes, f"clusters of co-occurring items ({self.clusters}, {self.largest}) and {kind}")

    def _divided(self, graph: "sp.csr_array", members: Ints, level: int, rng: np.random.Generator) -> list[Ints]:
        """The clusters of a cluster, fewer than two where it is not divided."""
        if (level and len(members) <= self.largest) or level == self.deepest or len(members) <= self.clusters:
            return []
        labels = spectral_clusters(graph[members][:, members], self.clusters, self.joined, rng)
        return [members[labels == label] for label in np.unique(labels)]
