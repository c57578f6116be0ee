"""A spinner for whatever takes longer than people wait without asking."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 2.0  # seconds before it is shown


@contextmanager
def shown(label: str) -> Iterator[None]:
    """Show what is done on the terminal's error stream while the block runs, if it runs for long."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    status = console.status(Text(label))
    timer = threading.Timer(PATIENCE, status.start)
    timer.daemon = True
    if console.is_terminal:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if console.is_terminal:
            timer.join()  # it must not start after it was stopped
        status.stop()
