"""Files that are there whole or not at all, whoever reads them or is killed; and one process at a time, by a lock."""

import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from recsys_lt.errors import UserError
from recsys_lt.system.machine import refusals

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_UNFINISHED = re.compile(r"\..+\.\d+\.[0-9a-f]{8}(\.\w+)?")  # the names of ``temporary_beside``


def temporary_beside(path: Path) -> Path:
    """A new name in the folder of ``path``: hidden, nobody else's, and with the same ending."""
    return path.with_name(f".{path.stem}.{os.getpid()}.{uuid.uuid4().hex[:8]}{path.suffix}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name beside ``path`` to write; it takes the place of ``path`` when the block ends well.

    Folders are made as needed. After an error ``path`` is as it was, and nothing is left beside it. UserError where it
    is a link, a device, a pipe or a socket: a file in its place would be another thing, and a link in a run folder may
    lead anywhere. MachineError if the machine does not take it: no space, no right, a name too long.
    """
    temporary = temporary_beside(path)
    with refusals(path):
        if path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir()):
            what = "a link" if path.is_symlink() else "a device, a pipe or a socket"
            raise UserError(f"it is {what}, not a file", where=path, remedy="Name another file")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        except OSError as error:
            if error.filename == str(temporary):
                error.filename = str(path)  # whose name a reader knows
            raise
        finally:
            with suppress(OSError):  # the first error is the one to report
                temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a writer left in the folder when it was killed. For a folder nobody else writes to."""
    for path in folder.glob(".*"):
        if _UNFINISHED.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON with two-space indent; a number that is none is an error, as JSON has no NaN."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold the lock while the block runs, if it is free; yield whether it was.

    Where the system has no such locks (some network folders, Windows) it counts as free: writers rename whole folders
    into place, so a lock saves work and is not what keeps data whole. The lock file is made where absent, and left.
    ``waiting`` is called once where another process holds the lock, which is then waited for; None not to wait.
    """
    with refusals(path):
        # A pipe in its place would be waited for without end, and a link may lead anywhere.
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise UserError("it is not a file, so it cannot be locked", where=path, remedy="Remove it")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    free = True
    try:
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            free = waiting is not None
            if waiting is not None:
                waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass
        yield free
    finally:
        os.close(descriptor)  # which frees the lock
