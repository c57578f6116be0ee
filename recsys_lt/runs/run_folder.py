"""The run folder: names of its files, and its lock, which one process at a time holds."""

import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from recsys_lt.errors import UserError
from recsys_lt.runs.reading import read_json
from recsys_lt.system.atomic import locked
from recsys_lt.system.stopping import Stopped

#: The checkpoints of the best epoch, and of the last one.
BEST, LAST = "best.ckpt", "last.ckpt"
REPORT = "report.html"
#: Where what a run needed lies in its folder, by the option it stands for.
NEEDS = "needs"
#: The remedy for a run of an earlier version.
OLDER = "recsys_lt 0.1.0 reads runs that were made before 0.2.0"
_CONFIG, _METRICS, _LOCK = "config.yaml", "metrics.json", ".lock"


def holds_a_run(folder: Path) -> bool:
    """Whether a run was begun in the folder."""
    return any((folder / name).exists() for name in (_CONFIG, _METRICS, BEST, LAST))


def finished(folder: Path, tested: bool = False) -> bool:
    """Whether a folder holds a run that came to its end, and was ``tested``."""
    try:
        metrics = read_json(folder / _METRICS)
        return bool(metrics["finished"]) and (not tested or "test" in metrics)
    except (UserError, KeyError, TypeError):
        return False


def held(folder: Path) -> AbstractContextManager[bool]:
    """Hold a run's folder while the block runs, if no other process does; yield whether it is held."""
    return locked(folder / _LOCK)


@contextmanager
def new_folder(wanted: Path, fixed: bool, working: Path) -> Iterator[Path]:
    """Hold a folder without a run while the block runs.

    A run that is refused or stopped before it did anything leaves nothing in it, as tables would show it as failed, nor
    empty folders below ``working``, the working directory. ``wanted`` exists. Where another run has it a number is
    added to its name, as two runs may start in the same second; UserError if it is ``fixed``.
    """
    folder, number = wanted, 1
    while True:
        before = {path.name for path in folder.iterdir()}
        if not holds_a_run(folder):
            with held(folder) as mine:
                if mine and not holds_a_run(folder):
                    try:
                        yield folder
                    except (UserError, Stopped):
                        _clear(folder, before, working)
                        raise
                    return
        if fixed:
            raise UserError(
                "another run is in this folder",
                where=folder,
                remedy=f"Name another folder, or go on with that run: {resume_command(folder)}",
            )
        number += 1
        folder = wanted.with_name(f"{wanted.name}_{number}")
        folder.mkdir(exist_ok=True)


def _clear(folder: Path, before: set[str], working: Path) -> None:
    if {path.name for path in folder.iterdir()} - before <= {_CONFIG, _LOCK}:
        for name in (_CONFIG, _LOCK):
            (folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            for path in (folder, *folder.parents):
                if path == working or (path != folder and working not in path.parents):
                    break
                path.rmdir()  # it stays if there is something in it


def resume_command(folder: Path) -> str:
    """The command that goes on with the run in a folder, as a shell takes it."""
    return f"python -m recsys_lt resume {shlex.quote(str(folder))}"
