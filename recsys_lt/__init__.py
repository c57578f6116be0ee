"""Honest, fast experiments in sequential recommendation."""

from pathlib import Path

__version__ = "0.2.0"

_PACKAGE = Path(__file__).resolve().parent
#: What can be chosen: a folder a group. In the wheel it lies inside the package; in a checkout, beside it.
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"
