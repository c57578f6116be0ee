"""Fetching a file from an official host."""

import hashlib
import logging
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from recsys_lt.data.progress import shown
from recsys_lt.data.sources.route import FetchError
from recsys_lt.system.atomic import replacing

TIMEOUTS = (10, 60)  # seconds: to connect, and between two pieces of the answer
RETRIES = 2


@dataclass(frozen=True)
class Remote:
    """A file on a host.

    Parameters
    ----------
    url
        Its address.
    sha256
        Of its content, in hexadecimal; None where the owner gives none and we never held the file.
    """

    url: str
    sha256: str | None = None

    @property
    def name(self) -> str:
        return PurePosixPath(self.url).name


@dataclass(frozen=True)
class Download:
    """Files from a host; of an archive, the wanted members.

    Parameters
    ----------
    files
        What to fetch.
    members
        Paths in the archive(s) to unpack, by their last names; without any, the files are what is wanted.
    """

    files: tuple[Remote, ...]
    members: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        return " and ".join(file.url for file in self.files)

    def fetch(self, folder: Path, announce: Callable[[str], None]) -> None:
        for file in self.files:
            _fetch(file, folder)
            if self.members:
                archive = folder / file.name
                unpack(archive, dict.fromkeys(self.members), folder)
                archive.unlink()


def unpack(archive: Path, members: dict[str, str | None], folder: Path) -> None:
    """Write members of a zip into a folder, by their last names.

    Parameters
    ----------
    archive
        The zip.
    members
        SHA-256 of each wanted member, by its path; None to take what is there.
    folder
        Where to.

    Raises
    ------
    FetchError
        The archive is damaged, lacks a member, or holds other content.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            for member, sha256 in members.items():
                content = opened.read(member)
                if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
                    raise FetchError(f"{member} of {archive.name} has another SHA-256 than expected")
                with replacing(folder / PurePosixPath(member).name) as temporary:
                    temporary.write_bytes(content)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise FetchError(f"{archive.name} cannot be unpacked: {error}") from error


class _Bar:
    """The four things pooch asks of a progress bar."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.total = 0
        self._advance = advance

    def update(self, amount: int) -> None:
        self._advance(amount)

    def reset(self) -> None: ...

    def close(self) -> None: ...


def _fetch(file: Remote, folder: Path) -> None:
    import pooch

    pooch.get_logger().setLevel(logging.ERROR)
    fetcher = pooch.create(
        path=folder,
        base_url="",
        registry={file.name: file.sha256},
        urls={file.name: file.url},
        retry_if_failed=RETRIES,
    )
    try:
        with shown(f"fetching {file.name}") as advance:
            fetcher.fetch(
                file.name,
                downloader=pooch.HTTPDownloader(progressbar=_Bar(advance), timeout=TIMEOUTS, chunk_size=1 << 16),
            )
    except (OSError, ValueError) as error:  # no connection or a refusal; another hash
        raise FetchError(f"{file.url}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"HTTP {status}"
    if isinstance(error, ValueError):
        return "the file's hash is not the expected one"
    return f"not reachable ({type(error).__name__})"
