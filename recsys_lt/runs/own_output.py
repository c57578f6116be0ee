"""What a cell prints, in a file of its own: cells side by side would talk into each other on one terminal."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

OUTPUT = "output.txt"


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
