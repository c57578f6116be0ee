"""What every language model that answers in words is asked."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from recsys_lt.data.batch import Batch, SeenSets
from recsys_lt.data.tasks.task import Task
from recsys_lt.recommenders.dense import Ranked


class AnsweringModel(nn.Module, ABC):
    """Learns the answer to a prompt, and ranks the catalogue by what it answers.

    Attributes
    ----------
    task
        What a training example is; each has one target.
    max_length
        Latest events read.
    trainable
        False for a model that is taken as it is.
    needs_seen
        Whether training batches carry each row's training items.
    n_candidates
        How many items a first stage finds for this model to put in order; None where there is no first stage.
    """

    task: Task
    max_length: int
    trainable: bool
    needs_seen: bool = False
    n_candidates: int | None = None

    @abstractmethod
    def answer_losses(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of the tokens of each row's answer, [B], differentiable. Pure."""

    def retrieved(self, batch: Batch, masked: SeenSets | None) -> Tensor | None:
        """Ranks of a batch's targets by the first stage alone, [B], where this orders what that one found."""
        return None

    def inseparable(self) -> Tensor | None:
        """See ``Recommender.inseparable``."""
        return None

    @abstractmethod
    def ranked(self, batch: Batch, masked: SeenSets | None, k: int) -> Ranked:
        """Rank the catalogue for a batch's users, without what is masked."""
