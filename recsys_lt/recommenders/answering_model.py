"""What every language model that answers in words is asked."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from recsys_lt.data.batch import Batch, SeenSets
from recsys_lt.data.rows import RowPlan
from recsys_lt.recommenders.dense import Ranked


class AnsweringModel(nn.Module, ABC):
    """Learns the answer to a prompt, and ranks the catalogue by what it answers.

    Attributes
    ----------
    row_plan
        What one training row is; each has one target.
    max_length
        Latest events read.
    trainable
        False for a model that is taken as it is.
    needs_seen
        Whether training batches carry each row's training items.
    """

    row_plan: RowPlan
    max_length: int
    trainable: bool
    needs_seen: bool = False

    @abstractmethod
    def answer_losses(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of the tokens of each row's answer, [B], differentiable. Pure."""

    @abstractmethod
    def ranked(self, batch: Batch, masked: SeenSets | None, k: int) -> Ranked:
        """Rank the catalogue for a batch's users, without what is masked."""
