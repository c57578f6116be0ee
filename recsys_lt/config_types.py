"""Whether configured values have the types their class declares; Python itself would only notice later."""

import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any

from hydra.utils import get_class

from recsys_lt.errors import UserError

_WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a word", type(None): "null"}


def check_types(where: str, node: Mapping[str, Any]) -> None:
    """Compare a ``_target_`` node's values with the annotations of its class.

    Only plain types are compared (numbers, words, booleans, null); what a value must be beyond that, the class says.

    Raises
    ------
    UserError
        Naming the key, its value and what it must be.
    """
    constructor = get_class(node["_target_"]).__init__
    if inspect.isfunction(constructor):
        hints = typing.get_type_hints(constructor)
        for key, value in node.items():
            if isinstance(value, Mapping) and "_target_" in value:
                check_types(f"{where}.{key}", value)
            elif key in hints:
                allowed = _plain(hints[key])
                if allowed and not _fits(value, allowed):
                    wanted = " or ".join(_WORDS[kind] for kind in allowed)
                    raise UserError(f"it is {value!r}", where=f"{where}.{key}", remedy=f"Give {wanted}")


def _plain(hint: Any) -> list[type]:
    """The plain types a hint allows; none if it is, or may be, anything else."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    parts = list(typing.get_args(hint)) if union else [hint]
    return parts if all(part in _WORDS for part in parts) else []


def _fits(value: object, allowed: list[type]) -> bool:
    if isinstance(value, bool):
        return bool in allowed
    if isinstance(value, int):
        return int in allowed or float in allowed
    return type(value) in allowed
