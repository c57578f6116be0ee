"""Objects of a configuration: each ``_target_`` node is checked against the class it names, then instantiated."""

import collections.abc
import difflib
import inspect
import math
import traceback
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path, PurePath
from typing import Annotated, Any

from pydantic import ConfigDict, PydanticUserError, Strict, TypeAdapter, ValidationError
from pydantic_core import SchemaError, core_schema

from recsys_lt.errors import UserError
from recsys_lt.runs.reading import nodes
from recsys_lt.system.machine import refusals

#: What a configuration has in the place of other collections.
_PLAIN = {
    collections.abc.Sequence: list,
    collections.abc.Collection: list,
    collections.abc.Iterable: list,
    PurePath: str,
    Path: str,
    collections.abc.Mapping: dict,
    collections.abc.MutableMapping: dict,
}
#: Parts of pydantic's messages, and the plainer ones that replace them.
_PLAINER = {
    "an instance of": "a mapping whose _target_ names a",
    "a valid integer": "a whole number, such as 10",
    "a valid number": "a number, such as 0.001",
    "a valid boolean": "true or false",
    "a valid list": "a list, in brackets",
    "a valid string": "text",
}
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


def call(where: str, make: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """Call ``make`` with options; what it refuses becomes one line that names the part of the configuration."""
    try:
        with refusals():
            return make(**options)
    except (TypeError, ValueError, ImportError) as error:
        group = where.partition(".")[0]
        raise UserError(str(error), where=group, remedy=f"Look at conf/{group}/ for its keys") from error


def arguments(where: str, made: type, given: Mapping[str, Any], later: bool = False) -> dict[str, Any]:
    """The arguments that a resolved configuration gives to a class; ``where`` is its key, "" the configuration itself.

    The class's parameters are compared with the keys, and their annotations with the values, as pydantic reads them.
    A ``_target_`` node becomes an object of the class it names, which must be one that the annotation has. Where the
    annotation is a callable that makes such objects, the class is called ``later`` (``_partial_``), with positional
    arguments that the node does not have. UserError names the key, its value and what it must be.

    Hydra's ``instantiate`` would resolve values a second time, take the name of a file for a reference, and say what is
    wrong in a traceback.
    """
    parameters, more = _parameters(made)
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
            of = f" of {made.__name__}" if where else ""
            taken = [name for name, (one, _) in parameters.items() if one.kind is one.KEYWORD_ONLY or not later]
            remedy = f"The keys{of} are {', '.join(taken)}"
            raise UserError(f"{what} {keys[0]!r}", where=where or "configuration", remedy=remedy)
    values = {}
    for key, value in given.items():
        parameter, hint = parameters.get(key, (None, Any))
        if value is None and parameter is not None and parameter.default is None:  # whatever its annotation says
            hint = Any
        values[key] = checked(f"{where}.{key}" if where else key, value, hint)
    return values


def _class(where: str, target: object, kinds: tuple[type, ...]) -> type:
    place, names = f"{where}._target_", " or ".join(kind.__name__ for kind in kinds)
    remedy = f"Name a class that is a {names}, as package.module.Class"
    module, _, name = target.rpartition(".") if isinstance(target, str) else ("", "", "")
    if not module or module.startswith("."):
        raise UserError(f"it is {target!r}", where=place, remedy=remedy)
    package = module.partition(".")[0]
    try:
        inside = import_module(module)
    except Exception as error:  # importing somebody's module may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            what = f"{target!r} is in the module {package}, which is not installed"
            remedy = "Install it, or put its folder on PYTHONPATH"
            raise UserError(what, where=place, remedy=remedy) from error
        raise UserError(f"{target!r} cannot be imported ({_reason(error)})", where=place, remedy=remedy) from error
    made = getattr(inside, name, None)
    if made is None:
        classes = [key for key, one in vars(inside).items() if isinstance(one, type) and issubclass(one, kinds)]
        near = difflib.get_close_matches(name, classes, n=1)
        raise UserError(
            f"{module} has no class {name}", where=place, remedy=f"Write {module}.{near[0]}" if near else remedy
        )
    if not isinstance(made, type) or not issubclass(made, kinds):
        raise UserError(f"{target} is no {names}", where=place, remedy=remedy)
    return made


def _reason(error: Exception) -> str:
    """What an import raised, and the line of the module that raised it."""
    lines = [frame for frame in traceback.extract_tb(error.__traceback__)[1:] if "importlib" not in frame.filename]
    place = f", {lines[-1].filename}, line {lines[-1].lineno}" if lines else ""
    return f"{type(error).__name__}: {error}{place}"


def _parameters(made: type) -> tuple[dict[str, tuple[inspect.Parameter, Any]], bool]:
    """What a class is made of, with annotations, and whether it takes keys of any other name too."""
    found: dict[str, tuple[inspect.Parameter, Any]] = {}
    for base in made.__mro__:
        constructor = vars(base).get("__init__")
        if not inspect.isfunction(constructor):
            continue
        try:
            hints = typing.get_type_hints(constructor, include_extras=True)
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
            for key, hint in typing.get_type_hints(typing.get_args(hints[rest])[0], include_extras=True).items():
                found.setdefault(key, (inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY), hint))
            return found, False
        # What else it takes goes to the class it is derived from.
    return found, any("__init__" in vars(base) for base in made.__mro__[:-1])


def checked(where: str, value: object, hint: Any) -> Any:
    """A value of the configuration, with nodes in it made; UserError unless it is what a hint says."""
    made = _made(where, value, hint)
    try:
        _validator(hint).validate_python(made)
    except ValidationError as error:
        found = error.errors(include_url=False)
        inside = [str(key) for key in found[0]["loc"] if isinstance(made, Mapping) and key in made]
        said = " or ".join(dict.fromkeys(one["msg"].removeprefix("Input should be ") for one in found))
        for words, plain in _PLAINER.items():
            said = said.replace(words, plain)
        raise UserError(
            f"it is {_short(found[0]['input'])}", where=".".join([where, *inside]), remedy=f"It should be {said}"
        ) from error
    return made  # as it was given: 1 stays a whole number where any number is taken


def _made(where: str, value: Any, hint: Any = Any) -> Any:
    """The value with nodes made, each of which must be of the hint's class where the hint has one."""
    if isinstance(value, Mapping) and "_target_" in value:
        # A callable that makes objects of a class is a node of that class, called later.
        callables = [part for part in _parts(hint) if typing.get_origin(part) is collections.abc.Callable]
        of_callables = _classes(one for part in callables for one in _parts(typing.get_args(part)[-1]))
        made = _class(where, value["_target_"], of_callables or _classes(_parts(hint)) or (object,))
        mark = value.get("_partial_", False)
        later = bool(of_callables) or mark is True
        if mark is not later:
            raise UserError(f"it is {mark}", where=f"{where}._partial_", remedy=f"Give {str(later).lower()}")
        options = arguments(where, made, {key: one for key, one in value.items() if key not in _MARKS}, later)
        return partial(made, **options) if later else call(where, made, options)
    if isinstance(value, Mapping):
        held = [typing.get_args(part)[1] for part in _parts(hint) if _PLAIN.get(typing.get_origin(part)) is dict]
        return {key: _made(f"{where}.{key}", one, *held[:1]) for key, one in value.items()}
    return [_made(where, one) for one in value] if isinstance(value, list) else value


def _classes(parts: Iterable[Any]) -> tuple[type, ...]:
    return tuple(typing.get_origin(part) or part for part in parts if _is_class(part))


def _is_class(part: Any) -> bool:
    """Whether a part of a hint is a class of objects, and no number, word, list, mapping or path."""
    part = typing.get_origin(part) or part
    plain = getattr(part, "__module__", "") in ("builtins", "types", "typing", "collections.abc", "pathlib")
    # Other protocols are for type checkers alone.
    compares = not getattr(part, "_is_protocol", False) or getattr(part, "_is_runtime_protocol", False)
    return isinstance(part, type) and compares and not plain


def _parts(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


@dataclass(frozen=True)
class _InstanceOf:
    """Pydantic check that a value is an instance of ``kind``; ``InstanceOf`` would check fields of dataclasses too."""

    kind: type

    def __get_pydantic_core_schema__(self, *_: Any) -> core_schema.CoreSchema:
        return core_schema.is_instance_schema(self.kind)


@cache
def _validator(hint: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(_strict(hint), config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, SchemaError):  # an annotation for a type checker alone
        return TypeAdapter(Any)


def _strict(hint: Any) -> Any:
    """A hint under which nothing is taken for a value of another type, but a list for any collection."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if _is_class(hint):
        return Annotated[Any, _InstanceOf(origin or hint)]
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(map(_strict, inside))]  # noqa: UP007
    if origin is collections.abc.Callable:
        return typing.Union[hint, Annotated[str, Strict()]]  # noqa: UP007  (a class may have words of its own for one)
    if origin is typing.Annotated:
        return Annotated[_strict(inside[0]), *inside[1:]]
    plain = _PLAIN.get(origin or hint, origin or hint)
    if plain in (list, dict, tuple, set, frozenset):
        return plain[tuple(one if one is ... else _strict(one) for one in inside)] if inside else plain
    return Annotated[plain, Strict()] if plain in (int, float, bool, str) else hint


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
