"""Files that are there whole or not at all: no reader, and no run that is killed, meets half a file."""

import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from recsys_lt.errors import UserError
from recsys_lt.system.machine import refusals

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
