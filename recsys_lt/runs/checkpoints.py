"""Checkpoints of tensors and plain values: loadable with ``weights_only``, written in one step."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from recsys_lt.errors import UserError
from recsys_lt.runs.run_folder import BEST, LAST, OLDER, resume_command
from recsys_lt.system.atomic import replacing
from recsys_lt.system.machine import MachineError, refusals

#: The entry of a checkpoint that is this program's.
OURS = "recsys_lt"
#: Of the notes in a checkpoint: version 1 had one fingerprint of all data.
_FORMAT = 2
#: What only one of the two holds: the best epoch's metrics, and where training stopped.
_MARKS = {BEST: "notes", LAST: "loops"}


class Notes(NamedTuple):
    """Data and configuration that a checkpoint was trained with.

    ``items`` is the fingerprint of the item vocabulary: weights fit all data that share it. ``events`` is that of the
    events: a run can be resumed, and results can be compared, only on the same events. ``trained_as`` is the part of
    the configuration that decides the result.
    """

    items: str
    events: str
    trained_as: dict[str, Any]


def save(path: Path, checkpoint: dict[str, Any], notes: Notes) -> None:
    """Write a checkpoint with its notes; where the disk does not take it, an earlier one of that name is as it was."""
    with replacing(path) as partial:
        torch.save(checkpoint | {OURS: {"format": _FORMAT, **notes._asdict()}}, partial)


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Add to what the machine refuses inside the block which checkpoints of the run are whole, and how it goes on."""
    try:
        with refusals(folder):
            yield
    except MachineError as refused:
        whole = [name for name in (BEST, LAST) if (folder / name).exists()]
        if not whole:
            raise
        intact = f"{' and '.join(whole)} {'is' if len(whole) == 1 else 'are'} intact"
        remedy = f"{refused.remedy or 'Mend that'}, then run `{resume_command(folder)}`; {intact}"
        raise MachineError(refused.what, where=refused.where, remedy=remedy) from refused


def load(path: Path, *, items: str | None = None, events: str | None = None) -> dict[str, Any]:
    """Map a checkpoint: its tensors are read from the file where they are used.

    A file that is replaced meanwhile stays as it was for who has mapped it; writing to a tensor does not write to it.
    ``items`` and ``events`` are fingerprints of the data it must be of; None for any. UserError if the file is absent,
    broken, not one of ours, of an earlier version, or of other data.
    """
    if not path.is_file():
        raise UserError("there is no such checkpoint", where=path, remedy="Name a run folder that has trained")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises a dozen kinds for a file that is no checkpoint
        raise _broken(path, f"it cannot be read as a checkpoint ({type(error).__name__})") from error
    ours = checkpoint.get(OURS) if isinstance(checkpoint, dict) else None
    if not isinstance(ours, dict) or not ours.get("format"):
        raise UserError("it is not a checkpoint of this program", where=path, remedy="Name a run folder of recsys_lt")
    if ours["format"] != _FORMAT:
        raise UserError("it is of another version", where=path, remedy=OLDER)
    kinds = Notes.__annotations__ | {"trained_as": dict}
    if not all(isinstance(ours.get(key), kind) for key, kind in kinds.items()):
        raise _broken(path, "its notes cannot be read")
    for what, key, mine in (("other items", "items", items), ("other events", "events", events)):
        if mine is not None and ours[key] != mine:
            raise UserError(
                f"it was trained on another dataset ({what}: fingerprint {ours[key][:12]}, here {mine[:12]})",
                where=path,
                remedy="Use the run's own data, split and k_core, or train a new run",
            )
    mark = _MARKS.get(path.name)
    if mark is not None and not isinstance(checkpoint.get(mark), dict):
        raise _broken(path, f"it is no {path.name} (it holds no {mark})")
    weights = checkpoint.get("state_dict")
    if not isinstance(weights, dict) or not all(isinstance(each, torch.Tensor) for each in weights.values()):
        raise _broken(path, "it holds no weights")
    return checkpoint


def _broken(path: Path, what: str) -> UserError:
    return UserError(what, where=path, remedy="Restore it or train again")


def check_finite(path: Path, checkpoint: dict[str, Any]) -> None:
    """Raise UserError for weights that no model can have. It reads them all: once, where a stored run enters."""
    for name, each in checkpoint["state_dict"].items():
        if each.layout is not torch.strided or each.is_meta:
            raise UserError(f"{name} is no plain tensor", where=path, remedy="Restore the checkpoint, or train again")
        if each.is_floating_point() and not each.isfinite().all():
            raise UserError(
                f"its weights are not finite ({name}): training diverged",
                where=path,
                remedy="Train again, with a smaller optimizer.lr",
            )
