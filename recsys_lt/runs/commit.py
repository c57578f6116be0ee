"""Which code made a run."""

import subprocess
from functools import cache
from pathlib import Path

from recsys_lt.system import package


@cache
def commit() -> str | None:
    """The commit of this code, with ``-dirty`` where files differ from it; None where it is not of a clone with git.

    An installed package may lie in somebody else's repository, whose commits say nothing of it.
    """
    folder = package.PACKAGE
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
