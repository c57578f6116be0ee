"""Lightning's checkpoints of a run, as ``recsys_lt.runs.checkpoints`` writes and reads them."""

from pathlib import Path
from typing import Any

from pytorch_lightning.plugins.io import TorchCheckpointIO

from recsys_lt.runs.checkpoints import Notes, load, save


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints, put in place whole or not at all, and read without unpickling code.

    The notes are written into every checkpoint; their fingerprints are compared with those of every one that is read.
    """

    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        save(Path(path), checkpoint, self.notes)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return load(Path(path), items=self.notes.items, events=self.notes.events)
