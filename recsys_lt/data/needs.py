"""Needs of models and losses: trained runs and artifacts that must be made before a run."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError


@dataclass(frozen=True)
class TrainedRun:
    """A trained run; given is its model, frozen and in eval mode, which must be of class ``kind``.

    ``folder`` is its run folder; give the option of this need's name. None trains a run of ``model`` and ``loss``
    first, on the same data with the same seed; its other settings are the published ones, where there are any. With
    ``same_events`` it must be trained on the events that the run itself is trained on, so that it has seen no target of
    the test; the items must be the same always.
    """

    folder: str | None = None
    model: str = "sasrec"
    loss: str = "ce"
    kind: type = object
    same_events: bool = True


def starting_point(start_from: str | None, kind: type = object) -> TrainedRun:
    """The run that training starts from (``model.start_from``), frozen: the reference of a preference loss.

    Raises UserError if training starts from random weights.
    """
    if start_from is None:
        what = "it needs the model that training starts from, and there is none"
        raise UserError(what, where="model.start_from", remedy="Give the run folder of a trained model")
    return TrainedRun(start_from, kind=kind, same_events=False)


class Artifact(ABC):
    """Files made from the training data before a run: item codes, item vectors, a graph.

    A subclass is a frozen dataclass of plain values. Its class, these values, its own needs, the data and the seed
    determine the files. Cells of a sweep for which all of them are equal share the files.
    """

    def needs(self) -> "Mapping[str, Need]":
        """What must be made before this, by name."""
        return {}

    @abstractmethod
    def make(self, data: Sequences, needs: Mapping[str, Any], folder: Path) -> None:
        """Write the files, made from the data the run is trained on, into an empty folder.

        ``needs`` has what was made for ``needs``: models of trained runs, and what ``load`` gives of artifacts. Torch's
        generator is seeded with the run's seed.
        """

    @abstractmethod
    def load(self, folder: Path) -> Any:
        """Read what ``make`` wrote: what a model or loss is given."""


Need = TrainedRun | Artifact


class HasNeeds:
    """A class of models or losses that says what must be made before it."""

    @classmethod
    def needs(cls, options: Mapping[str, Any], start_from: str | None) -> Mapping[str, Need]:
        """What must be made first, by name; a model finds it in ``DataFacts.needs``, a loss in ``Loss.prepare``.

        ``options`` are the constructor's arguments as the configuration has them; ``start_from`` is the run folder
        whose weights training starts from (see ``starting_point``), or None.
        """
        return {}
