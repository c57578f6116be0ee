"""What every sequential backbone answers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys_lt.backbones.padding import PaddedItems
from recsys_lt.data.batch import Batch
from recsys_lt.data.tasks.task import Task
from recsys_lt.losses.output_table import OutputTable

#: Tables of fewer rows (positions; small catalogues) are cheaper to update whole.
LARGE_TABLE = 1000


@dataclass(frozen=True)
class DataFacts:
    """What a model may know of the data.

    Parameters
    ----------
    n_users, n_items
        Sizes.
    popularity
        Training counts of the items, [I] int64.
    name
        The dataset's, for messages.
    titles
        Of the items, I texts ("" where there is none); empty where nobody asked.
    first_stage
        The trained backbone a model of two stages builds on; None for all others.
    attributes
        What else is known of the items, I texts ("Comedy, Drama"); empty where nobody asked, or nothing is.
    """

    n_users: int
    n_items: int
    popularity: Tensor
    name: str = ""
    titles: Sequence[str] | NDArray[np.str_] = ()
    first_stage: "Backbone | None" = None
    attributes: Sequence[str] | NDArray[np.str_] = ()


class Backbone(nn.Module, ABC):
    """Turns packed histories into states of width d, scored against an output table.

    Attributes
    ----------
    task
        What a training example is for this backbone.
    max_length
        How many of a user's latest events it reads.
    trainable
        False for a model that has nothing to learn by gradient (popularity).
    """

    task: Task
    max_length: int
    trainable: ClassVar[bool] = True

    def read_by_rows(self) -> None:
        """Have look-ups in large tables give the gradients of the rows they read, as sparse tensors."""
        for module in self.modules():
            if isinstance(module, nn.Embedding | PaddedItems):
                module.sparse = len(module.weight) >= LARGE_TABLE

    @abstractmethod
    def states(self, batch: Batch) -> Tensor:
        """A state for each target of a training batch, [N, d], in the order of ``batch.targets``."""

    @abstractmethod
    def user_states(self, batch: Batch) -> Tensor:
        """A state for each row, read after its last event, [B, d]."""

    @abstractmethod
    def output_table(self) -> OutputTable:
        """The table states are scored against: weight [I, d], bias [I] or None."""
