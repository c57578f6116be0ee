"""Item ids quantised from item vectors: k-means of residuals, and of parts of the vectors."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from recsys_lt.data.arrays import Ints
from recsys_lt.data.features import ItemVectors
from recsys_lt.data.needs import Need
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.generative.item_ids import IdMap, ItemIds, told_apart

_Size = Annotated[int, Field(ge=2, le=1 << 16)]
Vectors = NDArray[np.float32]


def kmeans(vectors: Vectors, size: int, iterations: int, rng: np.random.Generator) -> tuple[Vectors, Ints]:
    """Centres [K, w] of vectors [n, w], and the nearest one of each vector, [n].

    K is ``size``, or the number of different vectors where these are fewer. Source: Lloyd's algorithm from seeds of
    k-means++ (Arthur & Vassilvitskii, SODA 2007).
    """
    from scipy.cluster.vq import kmeans2, vq  # which every run would wait for

    centres = [vectors[rng.integers(len(vectors))]]
    distances = np.full(len(vectors), np.inf)
    while len(centres) < size:  # scipy's own seeds take time in the square of their number
        distances = np.minimum(distances, ((vectors - centres[-1]) ** 2).sum(1, dtype=np.float64))
        if not distances.any():
            break
        centres.append(vectors[rng.choice(len(vectors), p=distances / distances.sum())])
    found, _ = kmeans2(vectors, np.stack(centres), iter=iterations, minit="matrix")
    return found, vq(vectors, found)[0].astype(np.int64)


@dataclass(frozen=True)
class Quantised(ItemIds):
    """Item ids quantised from vectors; a collision token follows where two items have the same codes.

    Parameters
    ----------
    vectors
        What makes a vector for each item.
    levels
        Number of codes of an item.
    size
        Number of codes of a level.
    """

    vectors: ItemVectors
    levels: Annotated[int, Field(ge=1, le=16)] = 3
    size: _Size = 256

    def needs(self) -> Mapping[str, Need]:
        """The item vectors."""
        return {"vectors": self.vectors}

    def check(self, data: Sequences) -> None:
        try:
            self.vectors.check(data)
        except UserError as error:
            where = str(error.where).replace("features.encoder", "item_ids.vectors")
            raise UserError(error.what, where=where, remedy=error.remedy) from error

    def map(self, data: Sequences, needs: Mapping[str, Any], rng: np.random.Generator) -> IdMap:
        found: Vectors = needs["vectors"]
        codes = self.codes(found, rng)
        origin = f"{type(self).__name__} {self.levels} x {self.size} of {type(self.vectors).__name__}"
        return told_apart(codes, (self.size,) * self.levels, origin)

    @abstractmethod
    def codes(self, vectors: Vectors, rng: np.random.Generator) -> NDArray[np.int32]:
        """Codes [I, levels] of vectors [I, w]."""


@dataclass(frozen=True)
class ResidualKMeans(Quantised):
    """k-means of the vectors, then of what each level's nearest centre leaves of them.

    Parameters
    ----------
    vectors, levels, size
        See ``Quantised``.
    iterations
        Of Lloyd's algorithm, at each level.
    """

    iterations: PositiveInt = 100

    def codes(self, vectors: Vectors, rng: np.random.Generator) -> NDArray[np.int32]:
        residuals, found = vectors, []
        for _ in range(self.levels):
            centres, codes = kmeans(residuals, self.size, self.iterations, rng)
            residuals = residuals - centres[codes]
            found.append(codes)
        return np.stack(found, axis=1).astype(np.int32)


@dataclass(frozen=True)
class PartKMeans(Quantised):
    """k-means of each of ``levels`` equal parts of the vectors (product quantisation).

    Parameters
    ----------
    vectors, levels, size
        See ``Quantised``.
    iterations
        Of Lloyd's algorithm, for each part.
    """

    iterations: PositiveInt = 100

    def codes(self, vectors: Vectors, rng: np.random.Generator) -> NDArray[np.int32]:
        if vectors.shape[1] < self.levels:
            what = f"vectors of {vectors.shape[1]} entries cannot be split into {self.levels} parts"
            raise UserError(what, where="item_ids.levels", remedy="Give fewer levels, or wider vectors")
        parts = np.array_split(vectors, self.levels, axis=1)
        found = [kmeans(np.ascontiguousarray(part), self.size, self.iterations, rng)[1] for part in parts]
        return np.stack(found, axis=1).astype(np.int32)
