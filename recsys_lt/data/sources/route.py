"""A way to fetch a dataset's files."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class FetchError(Exception):
    """A route did not work; another may."""


class Route(Protocol):
    """One way to fetch a dataset's files."""

    @property
    def origin(self) -> str:
        """What is fetched and from where, in words that let a person fetch it by hand."""

    def fetch(self, folder: Path, announce: Callable[[str], None]) -> None:
        """Put the files into the folder, which exists; raises ``FetchError`` where that fails."""
