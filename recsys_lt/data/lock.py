"""One process at a time, by a lock file that goes free by itself when its holder dies."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys_lt.errors import UserError
from recsys_lt.system.machine import refusals


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a lock file, made where absent; its descriptor.

    A pipe in its place would be waited for without end, and a link may lead anywhere.
    """
    with refusals(path):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise UserError("it is not a file, so it cannot be locked", where=path, remedy="Remove it")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock while the block runs.

    Where the system has no such locks (some network folders, Windows) the block runs without: writers
    rename whole folders into place, so the lock saves work and is not what keeps data whole.

    Parameters
    ----------
    path
        The lock file; made where absent, and left.
    waiting
        Called once if another process holds the lock.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with _opened(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass
        yield  # closing the file frees the lock


@contextmanager
def locked_at_once(path: Path) -> Iterator[bool]:
    """Hold the lock while the block runs, if it is free; yield whether it was.

    Where the system has no such locks it counts as free.

    Parameters
    ----------
    path
        The lock file; made where absent, and left.
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    with _opened(path) as file:
        free = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            free = False
        except OSError:
            pass
        yield free  # closing the file frees the lock
