"""Item features: vectors made from item texts or read from a column of vectors, as artifacts that runs share."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_lt.data.facts import item_texts, item_vectors
from recsys_lt.data.item_data import ATTRIBUTES, TITLE
from recsys_lt.data.needs import Artifact
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError

_FILE = "vectors.npy"
_WORD = re.compile(r"\w+")
_PHRASES = re.compile(r"[,;|]")  # pairs of words do not reach across these


def tfidf(texts: Sequence[str], fewest: int = 2) -> sp.csr_array:
    """TF-IDF of words and of pairs of neighbouring words, in lower case.

    A term that occurs f times in a text and in n of the I texts weighs (1 + log f) (1 + log((1 + I) / (1 + n))).

    Parameters
    ----------
    texts
        A text for each item, [I].
    fewest
        Terms of fewer texts are left out: they link no two items.

    Returns
    -------
    scipy.sparse.csr_array
        Rows of Euclidean norm 1, [I, terms] float32; zeros for a text without a term.
    """
    numbers: dict[str, int] = {}
    columns: list[int] = []
    ends = [0]
    for text in texts:
        for phrase in _PHRASES.split(text.lower()):
            words = _WORD.findall(phrase)
            terms = words + [f"{one} {other}" for one, other in pairwise(words)]
            columns.extend(numbers.setdefault(term, len(numbers)) for term in terms)
        ends.append(len(columns))
    shape = (len(texts), max(len(numbers), 1))
    counts = sp.csr_array((np.ones(len(columns), np.float32), columns, ends), shape=shape)
    counts.sum_duplicates()
    of_texts = np.bincount(counts.indices, minlength=shape[1])
    kept = np.flatnonzero(of_texts >= fewest)
    counts = counts[:, kept]
    rarity = 1 + np.log((1 + len(texts)) / (1 + of_texts[kept]))
    weights = (1 + np.log(counts.data)) * rarity[counts.indices]
    rows = np.repeat(np.arange(len(texts)), np.diff(counts.indptr))
    norms = np.sqrt(np.bincount(rows, weights**2, minlength=len(texts)))
    counts.data = (weights / norms[rows]).astype(np.float32)
    return counts


def joined_texts(data: Sequences, columns: Sequence[str], where: str) -> list[str]:
    """One text for each item, of several columns, [I]; see ``item_texts`` for what is refused."""
    parts = [item_texts(data.item_data, column, data.name, where) for column in columns]
    return [", ".join(filter(None, texts)) for texts in zip(*parts, strict=True)]


@dataclass(frozen=True)
class ItemVectors(Artifact):
    """Vectors of the items, [I, w]: rows of Euclidean norm 1, zeros for an item without content.

    A subclass is an encoder; ``encode`` gives the vectors.
    """

    def make(self, data: Sequences, needs: Mapping[str, Any], folder: Path) -> None:
        vectors = np.asarray(self.encode(data), np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.save(folder / _FILE, vectors / np.maximum(norms, 1e-12), allow_pickle=False)

    def load(self, folder: Path) -> NDArray[np.float32]:
        found: NDArray[np.float32] = np.load(folder / _FILE, allow_pickle=False)
        return found

    def encode(self, data: Sequences) -> NDArray[np.float32]:
        """Vectors of the items before they are normalised, [I, w]. Raises UserError where the data lack a column."""
        raise NotImplementedError

    def check(self, data: Sequences) -> None:
        """Raise UserError where the data lack what the encoder reads."""


@dataclass(frozen=True)
class TextEncoder(ItemVectors):
    """Vectors of item texts.

    Parameters
    ----------
    columns
        Columns of texts that are read, one after the other.
    width
        Entries of a vector, w: the leading singular directions of the texts' matrix. None keeps an encoder's own.
    """

    columns: Sequence[str] = (TITLE, ATTRIBUTES)
    width: int | None = 256

    def check(self, data: Sequences) -> None:
        joined_texts(data, self.columns, "features.encoder.columns")


@dataclass(frozen=True)
class TfIdf(TextEncoder):
    """TF-IDF of words and pairs of words, reduced by a truncated singular value decomposition (``tfidf``)."""

    def encode(self, data: Sequences) -> NDArray[np.float32]:
        terms = tfidf(joined_texts(data, self.columns, "features.encoder.columns"))
        return reduced(terms, self.width or min(terms.shape) - 1)


@dataclass(frozen=True)
class Column(ItemVectors):
    """A column of vectors that the dataset offers, such as a ``.npy`` file of ``dataset.items``.

    Parameters
    ----------
    column
        Its name.
    width
        Entries of a vector after a truncated singular value decomposition; None leaves the vectors as they are.
    """

    column: str = "vectors"
    width: int | None = None

    def check(self, data: Sequences) -> None:
        item_vectors(data.item_data, self.column, data.name, "features.encoder.column")

    def encode(self, data: Sequences) -> NDArray[np.float32]:
        vectors = item_vectors(data.item_data, self.column, data.name, "features.encoder.column")
        return np.asarray(vectors) if self.width is None else reduced(vectors, self.width)


def reduced(matrix: Any, width: int) -> NDArray[np.float32]:
    """The rows [I, n] in their ``width`` leading singular directions, [I, width]: U S of a truncated decomposition.

    The matrix is sparse or an array. Fewer columns are left where it has no more than ``width`` rows or columns.
    Signs are fixed, so that equal input gives equal vectors. Raises UserError for a width below 1.
    """
    from scipy.sparse.linalg import svds

    if width < 1:
        raise UserError(f"it is {width}", where="features.encoder.width", remedy="Give a positive number, such as 256")
    width = min(width, min(matrix.shape) - 1)
    if width < 1:
        return np.asarray(matrix @ np.eye(matrix.shape[1]), np.float32)
    left, values, right = svds(matrix.astype(np.float64), k=width, random_state=0)
    order = np.argsort(-values)
    signs = np.sign(right[np.arange(width), np.abs(right).argmax(1)])
    found: NDArray[np.float32] = ((left * (values * signs))[:, order]).astype(np.float32)
    return found
