"""Objects of a configuration: each ``_target_`` node is compared with the class it names, and made."""

import collections.abc
import inspect
import math
import types
import typing
from collections.abc import Mapping
from functools import partial
from pathlib import PurePath
from pkgutil import resolve_name
from typing import Any

from recsys_lt.errors import UserError
from recsys_lt.runs.reading import nodes
from recsys_lt.system.machine import refusals

_WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a word", type(None): "null"}
_LISTS = (
    list,
    tuple,
    set,
    frozenset,
    *(getattr(collections.abc, name) for name in ("Sequence", "Collection", "Iterable")),
)
_ANYTHING = (Any, object, type, collections.abc.Callable)  # a value, or a node of any class
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
#: Keys of a node that say how it is made, and are none of its class.
_MARKS = ("_target_", "_partial_", "_convert_")
LARGEST = 2**53  # beyond, floats skip whole numbers, and so would anything that counts


def check_numbers(where: str, value: object, largest: int = LARGEST) -> None:
    """Raise UserError for a number, anywhere below ``where``, that is not finite or is larger than any use of it."""
    for place, one in nodes(value, where):
        if isinstance(one, float) and not math.isfinite(one):
            raise UserError(f"it is {one}", where=place, remedy="Give a finite number")
        if isinstance(one, int) and abs(one) > largest:
            raise UserError(f"it is {one}", where=place, remedy=f"Give at most {largest}")


def instantiate(where: str, node: object, *kinds: type) -> Any:
    """Make what a resolved ``_target_`` node stands for; ``where`` is its key.

    Hydra's ``instantiate`` would resolve values a second time, take the name of a file for a reference, and say what is
    wrong in a traceback. The class must be one of ``kinds``, or have the members of a protocol. UserError as
    ``class_and_options``, and for a value that the class refuses.
    """
    made, options = class_and_options(where, node, kinds, later=False)
    return call(where, made, options)


def call(where: str, make: Any, options: Mapping[str, Any]) -> Any:
    """Call ``make`` with options; what it refuses becomes one line that names the part of the configuration."""
    try:
        with refusals():
            return make(**options)
    except (TypeError, ValueError, ImportError) as error:
        group = where.partition(".")[0]
        raise UserError(str(error), where=group, remedy=f"Look at conf/{group}/ for its keys") from error


def class_and_options(where: str, node: object, kinds: tuple[type, ...], later: bool) -> tuple[type, dict[str, Any]]:
    """The class that a node names, and the arguments it gives: nodes in them are made.

    The class's parameters are compared with the keys, and plain types of their annotations with the values: numbers,
    words, booleans, null, lists and mappings of them, and nodes in the place of objects. What a value must be beyond
    that, its class says. UserError names the key, its value and what it must be.

    A class that is called ``later`` (``_partial_``) gets positional arguments that the node does not have.
    """
    if not isinstance(node, Mapping) or "_target_" not in node:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise UserError(
            f"it is {_short(node)}",
            where=where,
            remedy=f"Give a mapping whose _target_ names a class, which must be a {names}",
        )
    made = _class(where, node["_target_"], kinds)
    if node.get("_partial_", False) is not later:
        raise UserError(
            f"it is {node.get('_partial_')}", where=f"{where}._partial_", remedy=f"Give {str(later).lower()}"
        )
    parameters, more = _parameters(made)
    group = where.partition(".")[0]
    given = [key for key in node if key not in _MARKS]
    unknown = [key for key in given if key not in parameters and not more]
    lacking = [
        name
        for name, (parameter, _) in parameters.items()
        if name not in given
        and parameter.default is parameter.empty
        and (parameter.kind is parameter.KEYWORD_ONLY or not later)
    ]
    for what, keys in (("there is no key", unknown), ("it lacks the key", lacking)):
        if keys:
            raise UserError(f"{what} {keys[0]!r}", where=where, remedy=f"Look at conf/{group}/ for its keys")
    anything = inspect.Parameter("more", inspect.Parameter.KEYWORD_ONLY), Any
    return made, {key: _value(f"{where}.{key}", node[key], *parameters.get(key, anything)) for key in given}


def _class(where: str, target: object, kinds: tuple[type, ...]) -> type:
    place, names = f"{where}._target_", " or ".join(kind.__name__ for kind in kinds)
    remedy = f"Name a class that is a {names}, as package.module.Class"
    if not isinstance(target, str) or ":" in target:
        raise UserError(f"it is {target!r}", where=place, remedy=remedy)
    try:
        made = resolve_name(target)
    except ModuleNotFoundError as error:
        module = (error.name or target).partition(".")[0]
        raise UserError(
            f"{target!r} is in the module {module}, which is not installed",
            where=place,
            remedy="Install it, or put its folder on PYTHONPATH",
        ) from error
    except Exception as error:  # importing somebody's module may raise anything
        raise UserError(f"{target!r} cannot be imported", where=place, remedy=remedy) from error
    if not isinstance(made, type) or not any(_is_kind(made, kind) for kind in kinds):
        raise UserError(f"{target} is no {names}", where=place, remedy=remedy)
    return made


def _is_kind(made: type, kind: type) -> bool:
    if getattr(kind, "_is_protocol", False):
        return all(hasattr(made, name) for name in vars(kind) if not name.startswith("_"))
    return issubclass(made, kind)


def _parameters(made: type) -> tuple[dict[str, tuple[inspect.Parameter, Any]], bool]:
    """What a class is made of, with annotations, and whether it takes keys of any other name too."""
    found: dict[str, tuple[inspect.Parameter, Any]] = {}
    for base in made.__mro__:
        constructor = vars(base).get("__init__")
        if not inspect.isfunction(constructor):
            continue
        try:
            hints = typing.get_type_hints(constructor)
        except (NameError, TypeError):  # annotations of somebody's class that hold in a type checker alone
            hints = {}
        rest = None
        for parameter in list(inspect.signature(constructor).parameters.values())[1:]:
            if parameter.kind is parameter.VAR_KEYWORD:
                rest = parameter.name
            elif parameter.kind is not parameter.VAR_POSITIONAL:
                found.setdefault(parameter.name, (parameter, hints.get(parameter.name, Any)))
        if rest is None:
            return found, False
        if typing.get_origin(hints.get(rest)) is typing.Unpack:
            for key, hint in typing.get_type_hints(typing.get_args(hints[rest])[0]).items():
                found.setdefault(key, (inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY), hint))
            return found, False
        # What else it takes goes to the class it is derived from.
    return found, any("__init__" in vars(base) for base in made.__mro__[:-1])


def _value(where: str, value: object, parameter: inspect.Parameter, hint: Any) -> Any:
    """An argument: the value, with nodes in it made."""
    if value is None and parameter.default is None:  # whatever its annotation says
        return None
    if not _fits(value, hint):
        if isinstance(value, Mapping):  # name the key that is at fault, if it is a mapping that is wanted
            held = _inside(hint, _MAPPINGS, -1)
            wrong = [(f"{where}.{key}", one, held) for key, one in value.items() if not _fits(one, held)]
            where, value, hint = (*wrong, (where, value, hint))[0]
        raise UserError(f"it is {_short(value)}", where=where, remedy=f"Give {' or '.join(map(_said, _parts(hint)))}")
    return _made(where, value, hint)


def _made(where: str, value: object, hint: Any) -> Any:
    """The value with nodes made, each of which must be of the hint's class where the hint has one."""
    if isinstance(value, Mapping) and "_target_" in value:
        parts = _parts(hint)
        kinds = tuple(part for part in map(_class_of, parts) if part is not None)
        if kinds:
            return instantiate(where, value, *kinds)
        # A callable that makes objects of a class is a node of that class, called later.
        made = [_class_of(typing.get_args(part)[-1]) for part in parts if _is_callable(part) and typing.get_args(part)]
        of_callable = tuple(kind for kind in made if kind is not None)
        if not of_callable and value.get("_partial_") is not True:
            return instantiate(where, value, object)
        later, options = class_and_options(where, value, of_callable or (object,), later=True)
        return partial(later, **options)
    if isinstance(value, Mapping):
        return {key: _made(f"{where}.{key}", one, _inside(hint, _MAPPINGS, -1)) for key, one in value.items()}
    if isinstance(value, list):
        return [_made(where, one, _inside(hint, _LISTS, 0)) for one in value]
    return value


def _is_callable(part: Any) -> bool:
    return typing.get_origin(part) is collections.abc.Callable


def _class_of(part: Any) -> type | None:
    """The class that a node in the place of a part must be of; None for a part that is no class of objects."""
    part = typing.get_origin(part) or part
    plain = part in (*_ANYTHING, *_WORDS, *_LISTS, *_MAPPINGS)
    return part if isinstance(part, type) and not plain and not issubclass(part, PurePath) else None


def _inside(hint: Any, origins: tuple[Any, ...], place: int) -> Any:
    """What a list or mapping holds."""
    found = [typing.get_args(part) for part in _parts(hint) if typing.get_origin(part) in origins]
    return found[0][place] if found else Any


def _parts(hint: Any) -> list[Any]:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return list(typing.get_args(hint)) if union else [hint]


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of one of the hint's types, as far as these can be told."""
    return any(_is(value, part) for part in _parts(hint))


def _is(value: object, part: Any) -> bool:
    origin, inside = typing.get_origin(part) or part, typing.get_args(part)
    if part is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if part in _WORDS:
        return type(value) is part
    if origin is typing.Literal:
        return value in inside
    if _is_fixed(origin, inside):
        return isinstance(value, list) and len(value) == len(inside) and all(map(_fits, value, inside))
    if origin in _LISTS:
        return isinstance(value, list) and all(_fits(one, inside[0]) for one in value if inside)
    if origin in _MAPPINGS:
        return isinstance(value, Mapping) and all(_fits(one, inside[1]) for one in value.values() if inside)
    if isinstance(origin, type) and issubclass(origin, PurePath):
        return isinstance(value, str)
    if (kind := _class_of(part)) is not None:
        return isinstance(value, Mapping) or _is_kind(type(value), kind)  # a node, or an object that is made already
    return True


def _is_fixed(origin: Any, inside: tuple[Any, ...]) -> bool:
    """Whether a tuple's values have types of their own, as in ``tuple[int, str]``."""
    return origin is tuple and bool(inside) and inside[-1] is not Ellipsis


def _said(part: Any) -> str:
    origin, inside = typing.get_origin(part) or part, typing.get_args(part)
    if part in _WORDS:
        return _WORDS[part]
    if origin is typing.Literal:
        return " or ".join(map(str, inside))
    if _is_fixed(origin, inside):
        return f"a list of {len(inside)}: {', '.join(' or '.join(map(_said, _parts(one))) for one in inside)}"
    if origin in _LISTS:
        return "a list" + (f" of which each is {' or '.join(map(_said, _parts(inside[0])))}" if inside else "")
    if origin in _MAPPINGS:
        return "a mapping" + (f" of which each value is {' or '.join(map(_said, _parts(inside[1])))}" if inside else "")
    if isinstance(origin, type) and issubclass(origin, PurePath):
        return "a path"
    return f"a mapping whose _target_ names a {getattr(part, '__name__', part)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
