"""The installed package: its version, its configuration folder, the commit of its code, and what its extras bring."""

import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from recsys_lt.errors import UserError

__version__ = "0.2.0"

#: Whether this process trains nothing; set before ``recsys_lt.recommenders.recommender`` is imported.
only_ranks = False

PACKAGE = Path(__file__).resolve().parents[1]
#: What can be chosen: a folder a group. In the wheel it lies inside the package; in a checkout, beside it.
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"


def check_installed(where: str, extra: str, *packages: str) -> None:
    """Raise UserError where a package that an extra of ours brings is not installed."""
    for name in packages:
        if find_spec(name) is None:
            remedy = f"Install it with: pip install 'recsys_lt[{extra}]'"
            raise UserError(f"the package {name} is not installed", where=where, remedy=remedy)


@cache
def commit() -> str | None:
    """The commit of this code, with ``-dirty`` where files differ from it; None where it is not of a clone with git.

    An installed package may lie in somebody else's repository, whose commits say nothing of it.
    """
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
