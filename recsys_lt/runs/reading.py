"""Readers of JSON, YAML and the learning curve in a run folder, which may come from a stranger."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from recsys_lt.errors import UserError
from recsys_lt.runs.packed import content

CURVE = "learning_curve.csv"
#: Bytes of a file, and how deep lists and mappings may lie in each other. Ours take a tenth of either.
_MOST = {"YAML": 1 << 16, "JSON": 1 << 22}
_DEEPEST = 32
_REMEDY = "Mend or remove that run folder"


def read_json(path: Path) -> Any:
    """The content of a JSON file, numbers finite; UserError if it is absent, larger than any of ours, or no JSON."""
    text = _text(path, "JSON")
    try:
        value = json.loads(text, parse_constant=_refuse)
        _check_values(value)
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, "JSON", error) from error
    return value


def read_yaml(path: Path) -> Any:
    """The content of a YAML file as OmegaConf reads it, references in it as they are written.

    Aliases and tags are refused, which no file of ours has: a few lines of aliases stand for more than fits in memory.
    UserError if it is absent, larger than any of ours, or no such YAML.
    """
    # A study reads curves on machines that have no OmegaConf yet.
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    text = _text(path, "YAML")
    try:
        _check_events(text)
        config = OmegaConf.create(text)
        _check_values(OmegaConf.to_container(config, resolve=False))
    except (ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise _unreadable(path, "YAML", error) from error
    return config


def read_curve(path: Path) -> list[dict[str, float]]:
    """The epochs of a curve, each with the finite numbers it has; empty where the file is absent or no curve."""
    try:
        found = content(path)
        lines = io.StringIO("" if found is None else found.decode("utf-8"), newline="")
        rows = [
            {str(key): float(value) for key, value in row.items() if isinstance(value, str) and value}
            for row in csv.DictReader(lines)
        ]
    except (OSError, ValueError, csv.Error):
        return []
    finite = ({key: value for key, value in row.items() if math.isfinite(value)} for row in rows)
    return [row for row in finite if "epoch" in row]


def _text(path: Path, kind: str) -> str:
    try:
        found = content(path, _MOST[kind] + 1)
        if found is None:
            raise UserError("there is no such file", where=path, remedy=_REMEDY)
        if len(found) > _MOST[kind]:
            raise ValueError(f"it is larger than {_MOST[kind] >> 10} kB")
        return found.decode("utf-8")
    except (OSError, ValueError) as error:
        raise _unreadable(path, kind, error) from error


def _unreadable(path: Path, kind: str, error: Exception) -> UserError:
    # What lies too deep says so in a hundred lines.
    reason = "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:300]
    return UserError(f"cannot be read as {kind} ({reason})", where=path, remedy=_REMEDY)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _check_events(text: str) -> None:
    """Raise ValueError for what YAML can say and no file of ours does, before anything is made of it."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ValueError("it has an anchor or an alias")
        if getattr(event, "tag", None) is not None:
            raise ValueError("it has a tag")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")


def _check_values(tree: Any) -> None:
    """Raise ValueError for values that cannot be printed."""
    for _, value in nodes(tree):
        if isinstance(value, int) and abs(value) >= 1 << 64:
            raise ValueError("a whole number in it has more than 64 bits")
        if isinstance(value, str):
            value.encode()  # half a character is none
        if isinstance(value, dict):
            for key in value:
                str(key).encode()


def nodes(
    tree: Any, place: str = "", *, lists: bool = True, joint: str = ".", depth: int = 0
) -> Iterator[tuple[str, Any]]:
    """Every value of a tree of mappings and lists, the tree itself among them, with its dotted key.

    ``place`` is the tree's own key, and ``depth`` how deep it lies in another; without ``lists`` the values in lists
    are left out, and ``joint`` stands between the parts of a key. ValueError if it is nested too deeply.
    """
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    yield place, tree
    inside: list[tuple[str, Any]] = []
    if isinstance(tree, Mapping):
        inside = [(f"{place}{joint}{key}" if place else str(key), value) for key, value in tree.items()]
    elif lists and isinstance(tree, list):
        inside = [(f"{place}[{number}]", value) for number, value in enumerate(tree)]
    for key, value in inside:
        yield from nodes(value, key, lists=lists, joint=joint, depth=depth + 1)


def flat(tree: Mapping[Any, Any], joint: str = ".") -> dict[str, Any]:
    """The values of a tree of mappings by dotted keys, ``model.dropout``; a list or an empty mapping is one value."""
    found = nodes(tree, lists=False, joint=joint)
    return {place: value for place, value in found if place and not (isinstance(value, Mapping) and value)}
