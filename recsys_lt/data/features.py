"""Item features: vectors made from item texts or read from a column of vectors, as artifacts that runs share."""

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from recsys_lt.data.facts import item_texts, item_vectors
from recsys_lt.data.item_data import ATTRIBUTES, TITLE
from recsys_lt.data.needs import Artifact
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError

if TYPE_CHECKING:
    import scipy.sparse as sp

_FILE = "vectors.npy"
_ITERATIONS = 8  # of subspace iteration; more change no result of a run
_WORD = re.compile(r"\w+")
_PHRASES = re.compile(r"[,;|]")  # pairs of words do not reach across these


def tfidf(texts: Sequence[str], fewest: int = 2) -> "sp.csr_array":
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
    import scipy.sparse as sp  # which every run would wait for

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


@dataclass(frozen=True)
class ItemVectors(Artifact):
    """Vectors of the items, [I, w]: rows of Euclidean norm 1, zeros for an item without content.

    A subclass is an encoder; ``encode`` gives the vectors.
    """

    def make(self, data: Sequences, needs: Mapping[str, Any], folder: Path) -> None:
        vectors = np.asarray(self.encode(data, needs), np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.save(folder / _FILE, vectors / np.maximum(norms, 1e-12), allow_pickle=False)

    def load(self, folder: Path) -> NDArray[np.float32]:
        found: NDArray[np.float32] = np.load(folder / _FILE, allow_pickle=False)
        return found

    @abstractmethod
    def encode(self, data: Sequences, needs: Mapping[str, Any]) -> NDArray[np.float32]:
        """Vectors of the items before they are normalised, [I, w]; ``needs`` as in ``make``.

        Raises UserError where the data lack a column.
        """

    @abstractmethod
    def check(self, data: Sequences) -> None:
        """Raise UserError where the data lack what the encoder reads."""


@dataclass(frozen=True)
class TextEncoder(ItemVectors):
    """Vectors of item texts.

    Parameters
    ----------
    columns
        Columns of texts that are read, one after the other; None for title and attributes, as far as there are.
    width
        Entries of a vector, w: the leading singular directions of the texts' matrix. None keeps an encoder's own.
    """

    columns: Sequence[str] | None = None
    width: PositiveInt | None = 256

    def check(self, data: Sequences) -> None:
        self.texts(data)

    def texts(self, data: Sequences) -> list[str]:
        """One text for each item, of all columns, [I]; UserError where the data lack one."""
        columns = (text_columns(data) or (TITLE,)) if self.columns is None else self.columns
        return joined_texts(data, columns, "features.encoder.columns")


@dataclass(frozen=True)
class TfIdf(TextEncoder):
    """TF-IDF of words and pairs of words, reduced by a truncated singular value decomposition (``tfidf``)."""

    def encode(self, data: Sequences, needs: Mapping[str, Any]) -> NDArray[np.float32]:
        terms = tfidf(self.texts(data))
        if not terms.nnz:
            remedy = "Leave features out, or read other columns (features.encoder.columns)"
            raise UserError(f"no two items of {data.name} share a word", where="features=tfidf", remedy=remedy)
        return reduced(terms, self.width or max(1, min(terms.shape) - 1))


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
    width: PositiveInt | None = None

    def check(self, data: Sequences) -> None:
        item_vectors(data.item_data, self.column, data.name, "features.encoder.column")

    def encode(self, data: Sequences, needs: Mapping[str, Any]) -> NDArray[np.float32]:
        vectors = item_vectors(data.item_data, self.column, data.name, "features.encoder.column")
        return np.asarray(vectors) if self.width is None else reduced(vectors, self.width)


def reduced(matrix: Any, width: int) -> NDArray[np.float32]:
    """The rows [I, n], sparse or an array, in the space of their ``width`` leading singular directions: [I, width].

    Products of rows are those of the truncated singular value decomposition; the axes are any orthonormal ones. With
    singular vectors as axes, rounding would decide them where singular values are equal, and equal runs would differ.
    Fewer columns are left where the matrix has fewer rows or columns than ``width``. Source: subspace iteration, Halko,
    Martinsson & Tropp, SIAM Review 2011, algorithm 4.4.
    """
    basis = np.random.default_rng(0).normal(size=(matrix.shape[1], min(width, *matrix.shape)))
    wide = matrix.astype(np.float64)
    for _ in range(_ITERATIONS):
        basis, _ = np.linalg.qr(wide.T @ (wide @ basis))
    found: NDArray[np.float32] = (wide @ basis).astype(np.float32)
    return found


def text_columns(data: Sequences) -> tuple[str, ...]:
    """Title and attributes, those of them that hold a text."""
    return tuple(
        name
        for name in (TITLE, ATTRIBUTES)
        if name in data.item_data and any(str(text).strip() for text in data.item_data[name])
    )


def joined_texts(data: Sequences, columns: Sequence[str], where: str) -> list[str]:
    """One text for each item, of several columns, [I]; ``where`` is the setting that names them, for messages.

    Raises UserError where there is no such column, it holds vectors, or no item has a text in it.
    """
    parts = [item_texts(data.item_data, column, data.name, where) for column in columns]
    return [", ".join(filter(None, texts)) for texts in zip(*parts, strict=True)]
