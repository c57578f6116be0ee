"""The installed package: its version and its configuration folder."""

from pathlib import Path

__version__ = "0.2.0"

#: Whether this process trains nothing; set before recommenders are imported, see ``recsys_lt.recommenders.base``.
only_ranks = False

PACKAGE = Path(__file__).resolve().parents[1]
#: What can be chosen: a folder a group. In the wheel it lies inside the package; in a checkout, beside it.
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
