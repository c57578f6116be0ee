"""The folder of a sweep: which cells are done, begun or under way in another process, and which failed."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recsys_lt.atomic import write_json
from recsys_lt.data.lock import locked, locked_at_once
from recsys_lt.errors import UserError
from recsys_lt.evidence.stored import NO_DIFFERENCE, Stored, store, stored
from recsys_lt.evidence.trust import trusting_as

_FAILED = "failed.json"


class Claim(NamedTuple):
    """What a process may do with a cell.

    ``new``: run it; ``begun``: go on with the run in the folder; ``done``: nothing, the folder holds it;
    ``busy``: nothing, another process is at it.
    """

    state: Literal["new", "begun", "done", "busy"]
    folder: Path


class Failure(NamedTuple):
    """A cell that failed: its folder's name, the line that says why, its exit code, and the process it ran in."""

    cell: str
    line: str
    code: int
    process: int


@contextmanager
def claimed(run: Stored, wanted: Path) -> Iterator[Claim]:
    """Claim a cell of a sweep while the block runs.

    Cells are told apart by their resolved configuration, so that a sweep may be started again in another order, on
    other devices, by another launcher, or twice at once. Where the file system has no locks (some network folders)
    two sweeps at once may both run a cell.

    Parameters
    ----------
    run
        The cell; written as ``config.yaml`` of the folder it gets, if it is to be run.
    wanted
        The run folder it would have, in the folder of the sweep. One that holds another cell (of an earlier sweep with
        another configuration) is left as it is, and a number added to the name.
    """
    sweep = wanted.parent
    locks = sweep / ".cells"
    locks.mkdir(parents=True, exist_ok=True)
    deciding = _deciding(run.config)
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True, default=str).encode()).hexdigest()[:16]
    with locked_at_once(locks / f"{digest}.lock") as mine:
        if not mine:
            yield Claim("busy", wanted)
            return
        # Two cells that want the same folder ask one after the other.
        with locked(locks / "folders.lock", lambda: None):
            with trusting_as(run.config):  # a cell of other classes is another one
                claim = _found(deciding, sweep) or Claim("new", _free(wanted))
            if claim.state != "done":
                (claim.folder / _FAILED).unlink(missing_ok=True)
                store(claim.folder, run)
        yield claim


def note_failure(folder: Path, line: str, code: int, launch: str) -> None:
    """Leave in a cell's folder why it failed, for the process that started the sweep ``launch`` and for people."""
    write_json(folder / _FAILED, {"error": line, "exit_code": code, "launch": launch, "process": os.getpid()})


def failures(sweep: Path, launch: str) -> list[Failure]:
    """The cells that failed in this launch of a sweep, in the order of their folders."""
    found = []
    for path in sorted(sweep.glob(f"*/{_FAILED}")):
        noted = json.loads(path.read_text(encoding="utf-8"))
        if noted["launch"] == launch:
            found.append(Failure(path.parent.name, noted["error"], noted["exit_code"], noted["process"]))
    return found


def _found(deciding: dict[str, Any], sweep: Path) -> Claim | None:
    """The finished run of a cell, else one that was begun."""
    begun = None
    for path in sorted(sweep.glob("*/config.yaml")):
        try:
            if _deciding(stored(path.parent).config) != deciding:
                continue
        except (UserError, OmegaConfBaseException):
            continue  # no run of this version
        if finished(path.parent):
            return Claim("done", path.parent)
        begun = begun or Claim("begun", path.parent)
    return begun


def finished(folder: Path) -> bool:
    """Whether a folder holds a run that came to its end."""
    try:
        return bool(json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["finished"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _free(wanted: Path) -> Path:
    folder, number = wanted, 1
    while any((folder / name).exists() for name in ("config.yaml", "metrics.json")):
        number += 1
        folder = wanted.with_name(f"{wanted.name}_{number}")
    return folder


def _deciding(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration without what cannot change a result."""
    tree: Any = OmegaConf.to_container(config, resolve=True)
    for key in NO_DIFFERENCE:
        *above, last = key.split(".")
        inside = tree
        for part in above:
            inside = inside.get(part, {})
        inside.pop(last, None)
    return tree
