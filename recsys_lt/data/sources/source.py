"""Sources of datasets, and the request each of them answers with its material."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from recsys_lt.data.formats.events import ROLES
from recsys_lt.data.interactions import Material
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
        Takes a short line on what is being fetched.
    columns
        ``dataset.columns``: headers of the user's own files.
    given_split
        Whether the source's own split is kept.
    """

    name: str
    path: Path | None
    raw_dir: Path | None
    downloads: Path
    announce: Callable[[str], None]
    columns: Mapping[str, str] = field(default_factory=dict)
    given_split: bool = False

    def refuse_path(self) -> None:
        """Raise ``UserError`` where the user named a file, or columns of events, that this source would not read."""
        if self.path is not None:
            remedy = "Use dataset=file for your own file, or dataset.raw_dir for this dataset's files"
            raise UserError(f"dataset={self.name} does not read a file of yours", where="dataset.path", remedy=remedy)
        for role in ROLES:
            if role != "item" and role in self.columns:
                what = f"dataset={self.name} reads no column of events by another name"
                remedy = "Leave it out: dataset.columns names events' columns for dataset=file alone"
                raise UserError(what, where=f"dataset.columns.{role}", remedy=remedy)

    def refuse_raw_dir(self, remedy: str) -> None:
        """Raise ``UserError`` where the user named a folder that this source would not read."""
        if self.raw_dir is not None:
            raise UserError(f"dataset={self.name} reads no folder of raw files", where="dataset.raw_dir", remedy=remedy)


@runtime_checkable
class Source(Protocol):
    """A place a dataset's interactions come from."""

    def locate(self, request: Request) -> Material:
        """Find the material, fetching it where need be; raises ``UserError`` where it cannot be had."""
