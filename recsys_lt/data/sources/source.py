"""What a source is asked, and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from recsys_lt.data.formats.material import Material
from recsys_lt.errors import UserError


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Parameters
    ----------
    name
        The dataset's name.
    path
        ``dataset.path``: the user's own file.
    raw_dir
        ``dataset.raw_dir``: a folder with files the user already has.
    downloads
        Where fetched files are kept.
    announce
        Told, in one short line, what is being fetched.
    """

    name: str
    path: Path | None
    raw_dir: Path | None
    downloads: Path
    announce: Callable[[str], None]

    def refuse_path(self) -> None:
        """Raise ``UserError`` where the user named a file that this source would not read."""
        if self.path is not None:
            raise UserError(
                f"dataset={self.name} does not read a file of yours",
                where="dataset.path",
                remedy="Use dataset=file for your own file, or dataset.raw_dir for this dataset's files",
            )

    def refuse_raw_dir(self, remedy: str) -> None:
        """Raise ``UserError`` where the user named a folder that this source would not read."""
        if self.raw_dir is not None:
            raise UserError(f"dataset={self.name} reads no folder of raw files", where="dataset.raw_dir", remedy=remedy)


class Source(Protocol):
    """Where a dataset's interactions come from."""

    def locate(self, request: Request) -> Material:
        """Find the material, fetching it where need be; raises ``UserError`` where it cannot be had."""
