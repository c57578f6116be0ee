"""One process at a time, by a lock file that goes free when its holder dies."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys_lt.errors import UserError
from recsys_lt.system.machine import refusals

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


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
