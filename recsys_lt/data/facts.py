"""Facts of the data that a model is made with: sizes, popularity and the columns of the items."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recsys_lt.data.item_data import ItemColumn
from recsys_lt.errors import UserError


@dataclass(frozen=True)
class DataFacts:
    """Facts of the data that a model is made with.

    A model reads the columns of items it needs (``texts``, ``vectors``) where it is made: what is missing is refused
    before anything is trained.

    Parameters
    ----------
    n_users, n_items
        Sizes.
    popularity
        Training counts of the items, [I] int64.
    name
        The dataset's, for messages.
    item_data
        The columns of the items that the dataset offers, texts [I] or vectors [I, d], by name.
    needs
        What was made for the model's ``needs``, by name.
    outline
        Whether the model is made only to find out whether it can be: weights from elsewhere need not be read.
    """

    n_users: int
    n_items: int
    popularity: Tensor
    name: str = "the dataset"
    item_data: Mapping[str, ItemColumn] = field(default_factory=dict)
    needs: Mapping[str, Any] = field(default_factory=dict)
    outline: bool = False

    def texts(self, column: str, where: str = "model") -> list[str]:
        """A column of texts, [I], "" for an item without one.

        The column is title, attributes, or another that the dataset offers; ``where`` is the setting that has it read,
        for messages. Raises UserError where the dataset has no such column, it holds vectors, or no item has a text in
        it.
        """
        return item_texts(self.item_data, column, self.name, where)

    def vectors(self, column: str, where: str = "model") -> NDArray[np.float32]:
        """A column of vectors, [I, d], mapped from a file; zeros for an item without one.

        Raises UserError where the dataset has no such column, or it holds texts.
        """
        return item_vectors(self.item_data, column, self.name, where)


_OTHER = "Give the column in a file of dataset.items, or choose another setting or model, which does not read it"


def item_texts(item_data: Mapping[str, ItemColumn], column: str, name: str, where: str) -> list[str]:
    """See ``DataFacts.texts``; ``name`` is the dataset's."""
    texts = [str(text) for text in _column(item_data, column, name, where, 1)]
    if not any(text.strip() for text in texts):
        raise UserError(f"no item of {name} has a text in the column {column!r}", where=where, remedy=_OTHER)
    return texts


def item_vectors(item_data: Mapping[str, ItemColumn], column: str, name: str, where: str) -> NDArray[np.float32]:
    """See ``DataFacts.vectors``; ``name`` is the dataset's."""
    return _column(item_data, column, name, where, 2).view(np.float32)


def _column(item_data: Mapping[str, ItemColumn], column: str, name: str, where: str, ndim: int) -> ItemColumn:
    if column not in item_data:
        offered = ", ".join(sorted(item_data)) or "none"
        what = f"the items' column {column!r} is read, which {name} lacks (columns: {offered})"
        raise UserError(what, where=where, remedy=_OTHER)
    found = item_data[column]
    if found.ndim != ndim:
        what = "vectors, not texts" if ndim == 1 else "texts, not vectors"
        raise UserError(f"the column {column!r} of {name} holds {what}", where=where, remedy=_OTHER)
    return found
