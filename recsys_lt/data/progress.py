"""A progress bar for whatever takes longer than people wait without asking."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 2.0  # seconds before a bar is shown


@contextmanager
def shown(label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a bar on the terminal's error stream while the block runs, if it runs for long.

    Parameters
    ----------
    label
        What is being done.
    total
        How much there is to do, in any unit; None where nobody knows.

    Yields
    ------
    advance
        Tell it how much more is done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task(label, total=total)
    timer = threading.Timer(PATIENCE, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda amount: bar.advance(task, amount)
    finally:
        timer.cancel()
        timer.join()  # a bar must not start after it was stopped
        bar.stop()
