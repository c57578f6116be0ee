"""Whether the packages of the extra ``llm`` are there; nothing else of the program needs them."""

from importlib import import_module
from types import ModuleType

from recsys_lt.errors import UserError


def needed(package: str, extra: str = "llm") -> ModuleType:
    """Import a package of an extra.

    Raises
    ------
    UserError
        If it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise UserError(
            f"the package {package} cannot be imported ({error})",
            where="llm",
            remedy=f"Install it with: pip install 'recsys_lt[{extra}]'",
        ) from error
