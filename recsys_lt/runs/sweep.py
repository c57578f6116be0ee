"""The folder of a sweep: which cells are done, begun or under way in another process, and which failed."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recsys_lt.errors import UserError, one_line
from recsys_lt.runs.reading import read_json
from recsys_lt.runs.run_folder import finished, held, holds_a_run
from recsys_lt.runs.stored import Stored, deciding, store, stored_as_text
from recsys_lt.system.atomic import locked, write_json

_FAILED = "failed.json"
#: What a cell prints: cells side by side would talk into each other on one terminal.
OUTPUT = "output.txt"


class Claim(NamedTuple):
    """What a process may do with a cell.

    ``new``: run it; ``begun``: resume the run in the folder; ``done``: nothing, the run is finished; ``busy``: nothing,
    another process works on it.
    """

    state: Literal["new", "begun", "done", "busy"]
    folder: Path


class Failure(NamedTuple):
    """A cell that failed: its folder's name, why (in one line), its exit code, and the process it ran in.

    ``launch`` is the start of the sweep in which it failed; "" where its note cannot be read.
    """

    cell: str
    line: str
    code: int
    process: int
    launch: str


@contextmanager
def claimed(run: Stored, wanted: Path) -> Iterator[Claim]:
    """Claim a cell of a sweep while the block runs.

    Cells are told apart by their resolved configuration, so that a sweep may be started again in another order, on
    other devices, by another launcher, or twice at once. Where the file system has no locks (some network folders) two
    sweeps at once may both run a cell.

    ``wanted`` is the run folder it would have, in the folder of the sweep. One that holds another cell (of an earlier
    sweep with another configuration) is left as it is, and a number added to the name. A new cell's ``config.yaml`` is
    written.
    """
    this, sweep = deciding(run.config), wanted.parent
    sweep.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # Cells ask one after the other: two may want the same folder.
        with locked(sweep / ".cells.lock", lambda: None):
            tested = OmegaConf.select(run.config, "trainer.test") is not False
            claim = _found(this, sweep, tested) or Claim("new", _free(wanted))
            if claim.state != "done":
                claim.folder.mkdir(parents=True, exist_ok=True)
                if stack.enter_context(held(claim.folder)):
                    (claim.folder / _FAILED).unlink(missing_ok=True)
                    if finished(claim.folder, tested):  # since it was looked at
                        claim = Claim("done", claim.folder)
                else:  # another process trains or resumes this very run
                    claim = Claim("busy", wanted)
            if claim.state == "new":
                store(claim.folder, run)
        yield claim


def note_failure(folder: Path, line: str, code: int, launch: str) -> None:
    """Leave in a cell's folder why it failed, for the process that started the sweep ``launch`` and for people."""
    write_json(folder / _FAILED, {"error": line, "exit_code": code, "launch": launch, "process": os.getpid()})


def failures(sweep: Path) -> list[Failure]:
    """The cells that failed in any start of a sweep and were not run again since, in the order of their folders."""
    return [_failure(path) for path in sorted(sweep.glob(f"*/{_FAILED}"))]


def _failure(path: Path) -> Failure:
    try:
        noted = read_json(path)
        line, code, process = one_line(str(noted["error"])), int(noted["exit_code"]), int(noted["process"])
        return Failure(one_line(path.parent.name), line, code, process, str(noted["launch"]))
    except (UserError, ValueError, TypeError, KeyError, OverflowError):
        return Failure(one_line(path.parent.name), one_line(f"{path}: it cannot be read. Remove it."), 0, 0, "")


def validated(folder: Path) -> float | None:
    """Validation NDCG@10 of a run; None if it did not come to its end."""
    return read_json(folder / "metrics.json")["valid"]["ndcg@10"] if finished(folder) else None


def _found(this: dict[str, Any], sweep: Path, tested: bool) -> Claim | None:
    """The finished run of a cell (and ``tested``, where that is wanted), else one that was begun."""
    begun = None
    for path in sorted(sweep.glob("*/config.yaml")):
        try:
            if deciding(stored_as_text(path.parent).config) != this:
                continue
        except (UserError, OmegaConfBaseException) as error:
            what = error.what if isinstance(error, UserError) else str(error)
            _say(one_line(f"recsys_lt: {path}: no cell is recognised in it ({what}). Mend or remove its folder."))
            continue
        if finished(path.parent, tested):
            return Claim("done", path.parent)
        begun = begun or Claim("begun", path.parent)
    return begun


@cache  # each cell of a sweep looks at all folders
def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _free(wanted: Path) -> Path:
    folder, number = wanted, 1
    while holds_a_run(folder):
        number += 1
        folder = wanted.with_name(f"{wanted.name}_{number}")
    return folder


@contextmanager
def own_output(folder: Path) -> Iterator[Callable[[str], None]]:
    """Send what this process and its children print to ``output.txt`` of a run folder while the block runs.

    File descriptors are redirected, not Python's streams alone, so that child processes and libraries in C are heard.
    The file is added to, not begun anew: a run that goes on keeps what it said before. Yields a function that prints a
    line where output went before.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    before = os.dup(1), os.dup(2)
    try:
        with (folder / OUTPUT).open("ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(line_buffering=True)  # a cell that is killed has said what it said
        yield partial(_write, before[0])
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for saved, descriptor in zip(before, (1, 2), strict=True):
            os.dup2(saved, descriptor)
            os.close(saved)


def _write(descriptor: int, line: str) -> None:
    with suppress(OSError):  # whoever read it may have gone; the run goes on
        os.write(descriptor, f"{line}\n".encode())  # one call a line: lines of several processes do not mix
