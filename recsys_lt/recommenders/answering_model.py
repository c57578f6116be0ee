"""What every language model that answers in words is asked."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn

from recsys_lt.data.batch import Batch, SeenSets
from recsys_lt.data.tasks.task import Task
from recsys_lt.errors import UserError
from recsys_lt.recommenders.dense import Ranked


def check_titles(titles: Iterable[str], dataset: str) -> None:
    """Raise UserError for data without titles: what an answering model is told, and tells, is titles."""
    if not any(str(title).strip() for title in titles):
        raise UserError(
            f"this model reads the items' titles, and {dataset or 'the dataset'} has none",
            where="model",
            remedy="Use data with titles, or model=e4srec, which reads none",
        )


def check_attributes(attributes: Iterable[str], dataset: str) -> None:
    """Raise UserError for data without attributes, where they are to be told."""
    if not any(str(known).strip() for known in attributes):
        raise UserError(
            f"{dataset or 'the dataset'} has no attributes",
            where="model.attributes=true",
            remedy="Leave it false, or give a column attributes or genres in the items' table",
        )


class AnsweringModel(nn.Module, ABC):
    """Learns the answer to a prompt, and ranks the catalogue by what it answers.

    Attributes
    ----------
    task
        What one training row is; each has one target.
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
