"""The checkpoint that a run resumes or starts from, checked before the run folder changes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.runs.checkpoints import OURS, Notes, check_finite, load
from recsys_lt.runs.run_folder import BEST, LAST, finished
from recsys_lt.runs.stored import Stored, check_trained_as, store
from recsys_lt.runs.trust import is_trusted
from recsys_lt.system.atomic import temporary_beside
from recsys_lt.training.build import Parts
from recsys_lt.training.trained import check_users

_HAS_IDS = re.compile(r"parametrizations\..*\.known$")
_AFRESH = "Restore it, or start a new run"


class Earlier(NamedTuple):
    """Where a run stopped: its checkpoint, and the epochs it had completed."""

    path: Path
    epoch: int


def read_earlier(folder: Path, notes: Notes, parts: Parts, module: nn.Module) -> Earlier | None:
    """Find the state to go on from; None if the run was stopped before its first epoch ended.

    The checkpoints must be of these notes, and fit the recommender that the run makes. UserError if they are not of
    this run, or the run is longer than it is to become.
    """
    path, best = folder / LAST, folder / BEST
    if not path.exists():
        if finished(folder) and (not best.exists() or getattr(module, "trainable", True)):
            what = f"the run is finished, and {LAST}, from which it could go on, is not there"
            raise UserError(what, where=folder, remedy=_AFRESH)
        return None
    if path.is_dir():  # DeepSpeed's own format, which only DeepSpeed reads, and unpickles
        if not is_trusted("deepspeed"):
            raise UserError(
                "it is a folder as DeepSpeed writes it, and to read it may run code that is in it",
                where=path,
                remedy="If the run is yours, add --trust deepspeed",
            )
        return Earlier(path, 0)
    last = _checked(path, notes, module)
    try:
        done = int(last["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
        validated = last["callbacks"]["Journal"]["best"] is not None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError("it is no checkpoint that training goes on from", where=path, remedy=_AFRESH) from error
    if parts.trainer.max_epochs < done:
        raise UserError(
            f"the run has trained {done} epochs already",
            where="trainer.max_epochs",
            remedy=f"Give at least {done}",
        )
    if validated:
        _checked(best, notes, module)
    return Earlier(path, done)


def begin_anew(folder: Path, this: Stored) -> None:
    """Note what a run is from here on, and take away metrics.json: where it is, all the rest is of the same state.

    If that fails, both are as they were.
    """
    metrics = folder / "metrics.json"
    aside = temporary_beside(metrics)
    if metrics.exists():
        metrics.replace(aside)
    try:
        store(folder, this)
    except BaseException:
        if aside.exists():
            aside.replace(metrics)
        raise
    aside.unlink(missing_ok=True)


def load_start(folder: Path, parts: Parts, data: Sequences, module: nn.Module) -> None:
    """Load the weights of the best checkpoint in another run's folder, from which training of this one starts.

    UserError if there is no such checkpoint, or it is of other items or of a model of other shapes.
    """
    path = folder / BEST
    checkpoint = load(path, items=data.item_fingerprint)
    check_finite(path, checkpoint)
    check_users(parts, checkpoint[OURS], data, path)
    theirs, ours = _shapes(checkpoint["state_dict"]), _shapes(module.state_dict())
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            shapes = [list(shape) if shape is not None else "absent" for shape in (theirs.get(name), ours.get(name))]
            raise UserError(
                f"its {name} is {shapes[0]}, and this run's is {shapes[1]}",
                where=f"model.start_from={folder}",
                remedy="Name a run of the same model with the same sizes",
            )
    # Which items have an id embedding is a matter of the events that this run is trained on (``backbones.content``).
    own = {name: one for name, one in module.state_dict().items() if _HAS_IDS.search(name)}
    module.load_state_dict(checkpoint["state_dict"] | own)


def _checked(path: Path, notes: Notes, module: nn.Module) -> dict[str, Any]:
    checkpoint = load(path, items=notes.items, events=notes.events)
    check_trained_as(checkpoint[OURS]["trained_as"], notes.trained_as, path)
    if _shapes(checkpoint["state_dict"]) != _shapes(module.state_dict()):
        raise UserError("its weights are not those of the model in config.yaml", where=path, remedy=_AFRESH)
    check_finite(path, checkpoint)
    return checkpoint


def _shapes(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "shape", None) for name, value in state.items()}
