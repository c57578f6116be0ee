"""A spinner for what takes long."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def shown(label: str) -> Iterator[None]:
    """Show what is done on the terminal's error stream while the block runs."""
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(label)):
        yield
