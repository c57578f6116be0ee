"""The reference pages that are generated: every configuration key, and the help of every command.

``python docs/reference/generate.py`` writes configuration.md from the YAML files of ``conf/``, their comments and the
classes they name, and commands.md from ``--help``. ``make docs`` runs it.
"""

import importlib
import inspect
import os
import re
import subprocess
import sys
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from recsys_lt.cli.help import read_comments

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
HERE = Path(__file__).parent

#: The groups of the page, in order, and what each of them chooses.
GROUPS = {
    "dataset": "The data. What each one holds is in [Datasets](../datasets.md).",
    "model": "The recommender.",
    "llm": "The language model of `model=e4srec`, `llamarec`, `bigrec` and `title_likelihood`.",
    "prior": "Test metrics by [what a language model knows of the items](../how_to/item_prior.md) before training.",
    "loss": "The training loss.",
    "optimizer": "The update rule. A rule with the key `optimizer.base` goes around any torch optimizer.",
    "optimizer/base": "The torch optimizer inside a rule.",
    "schedule": "The learning rate over the steps of a run.",
    "trainer": "How long to train, on how much at a time, and how often to validate.",
    "strategy": "Devices and processes.",
    "logger": "Where metrics are sent besides the run folder.",
    "hydra/launcher": "How the cells of a sweep are started, besides Hydra's own launchers.",
}

_EXPERIMENTS = "Choices and keys that belong together: `+experiment=<name>`. A grid is a sweep."
_SEARCHES = "Spaces of [a search for hyper-parameters](../how_to/search.md): `+search=<name>`."

_PLAIN = {str: "str", int: "int", float: "float", bool: "bool", type(None): "null"}


@dataclass(frozen=True)
class Key:
    """One key of a YAML file: its dotted name, default, type and meaning, by its comment and by its class."""

    name: str
    default: str
    type: str
    meaning: str
    documented: str = ""


def first_lines(path: Path) -> str:
    """The comment that opens a YAML file, as one paragraph."""
    lines = path.read_text().splitlines()
    opening = []
    for line in lines:
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            opening.append(line.lstrip("# ").rstrip())
    return " ".join(opening)


def _documented(kind: Any, name: str) -> str:
    """What the docstrings of a class and its bases say of a parameter, in one line."""
    for base in getattr(kind, "__mro__", ()):
        lines = inspect.cleandoc(base.__doc__ or "").splitlines()
        for number, line in enumerate(lines):
            if re.match(rf"^(\w+, )*{re.escape(name)}(, \w+)*( : .*)?$", line):
                body = []
                for below in lines[number + 1 :]:
                    if not below.startswith("    "):
                        break
                    body.append(below.strip())
                if body:
                    return " ".join(body)
    return ""


def _annotation(kind: Any, name: str) -> Any:
    """The annotation of a parameter in the nearest class that names it; None where there is none."""
    for base in getattr(kind, "__mro__", ()):
        init = vars(base).get("__init__")
        if init is None:
            continue
        try:
            hints = typing.get_type_hints(init)
        except (NameError, TypeError):
            hints = {}
        if name in hints:
            return hints[name]
    return None


def _type_words(annotation: Any, value: Any) -> str:
    """A type as the page writes it: ``int``, ``float or null``, ``list of float``."""
    if annotation is None or annotation is Any:
        if isinstance(value, list):
            inner = {_PLAIN.get(type(one), "") for one in value}
            return f"list of {inner.pop()}" if len(inner) == 1 else "list"
        return _PLAIN.get(type(value), "mapping") if value is not None else ""
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return "str"
    if type(None) in inner or (inner and "Union" in str(origin)):
        words = [_type_words(one, value) for one in inner if one is not type(None)]
        words += ["null"] if type(None) in inner else []
        return " or ".join(dict.fromkeys(word for word in words if word))
    if isinstance(origin, type) and issubclass(origin, typing.Mapping):  # type: ignore[arg-type]
        return "mapping"
    if inner and isinstance(origin, type):
        words = list(dict.fromkeys(_type_words(one, None) for one in inner if one is not Ellipsis))
        return f"list of {' or '.join(word for word in words if word)}"
    return getattr(annotation, "__name__", "")


def _class(target: str | None) -> Any:
    if target is None or target.startswith("hydra_plugins"):
        return None
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _target(node: yaml.MappingNode, inherited: str | None = None) -> str | None:
    return next((value.value for key, value in node.value if key.value == "_target_"), inherited)


def keys_of(path: Path, prefix: str, inherited: str | None = None) -> Iterator[Key]:
    """The keys of a YAML file below the prefix of its group (dotted, empty for the root)."""
    text = path.read_text()
    root = yaml.compose(text)
    if isinstance(root, yaml.MappingNode):
        yield from _keys(root, prefix, "", read_comments(path), _target(root, inherited))


def _keys(
    node: yaml.MappingNode, prefix: str, place: str, comments: Mapping[str, str], target: str | None
) -> Iterator[Key]:
    """The keys of a node that has the dotted name ``place`` in its file, on whose keys there are ``comments``."""
    kind = _class(target)
    for key, value in node.value:
        name = str(key.value)
        if name.startswith("_") or name in ("defaults", "hydra"):
            continue
        dotted = f"{prefix}.{name}" if prefix else name
        if isinstance(value, yaml.MappingNode) and value.value and (_target(value) or not value.flow_style):
            yield from _keys(value, dotted, f"{place}{name}.", comments, _target(value))
            continue
        meaning = comments.get(place + name, "")
        default = yaml.safe_load(yaml.serialize(value))
        words = _type_words(_annotation(kind, name), default)
        yield Key(dotted, _written(value, default), words, meaning, _documented(kind, name))


def _written(node: yaml.Node, value: Any) -> str:
    if value == "???":
        return "(required)"
    if value is None:
        return "null"
    if isinstance(node, yaml.ScalarNode):
        return str(node.value).replace("\n", "\\n")
    return yaml.safe_dump(value, default_flow_style=True, width=1000).strip()


def _parents(path: Path) -> list[Path]:
    """The files of the same group that a file's defaults list begins with."""
    root = yaml.safe_load(path.read_text()) or {}
    names = [entry for entry in root.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    return [found for name in names if (found := path.parent / f"{name}.yaml").is_file()]


def _inherited_target(path: Path) -> str | None:
    root = yaml.safe_load(path.read_text()) or {}
    own = root.get("_target_")
    return own or next((found for parent in _parents(path) if (found := _inherited_target(parent))), None)


def choices(group: str) -> list[Path]:
    """The YAML files of a group, those not meant to be chosen (``_base``) first."""
    return sorted((CONF / group).glob("*.yaml"), key=lambda path: (not path.stem.startswith("_"), path.stem))


def _prefix(group: str, path: Path) -> str:
    return "" if "@package _global_" in path.read_text() else group.replace("/", ".")


def group_keys(group: str) -> dict[Path, list[Key]]:
    """The keys of every choice of a group. A key that says nothing of itself means what it means elsewhere."""
    found = {path: list(keys_of(path, _prefix(group, path), _inherited_target(path))) for path in choices(group)}
    explained = {path: [_explained(key) for key in keys] for path, keys in found.items()}
    if group == "model":
        return {path: [_with_remark(key) for key in keys] for path, keys in explained.items()}
    return explained


_known: dict[str, str] = {}


def _explained(key: Key) -> Key:
    if not _known:
        for known in _all_keys():
            if known.meaning:
                _known.setdefault(known.name, known.meaning)
    return replace(key, meaning=key.meaning or _known.get(key.name) or re.sub("`+", "`", key.documented))


def _with_remark(key: Key) -> Key:
    """A key of another group in a model's file: what it means there, and the model's remark."""
    said = _known.get(key.name, key.meaning)
    return key if key.name.startswith("model.") else replace(key, meaning="; ".join(dict.fromkeys((said, key.meaning))))


def _all_keys() -> Iterator[Key]:
    yield from keys_of(CONF / "config.yaml", "")
    for group in sorted(GROUPS, key="model".__eq__):
        for path in choices(group):
            yield from keys_of(path, _prefix(group, path), _inherited_target(path))


def _cell(text: str) -> str:
    text = re.sub(r"https?://\S+", r"<\g<0>>", text)
    return re.sub(r"<(?!http)", "&lt;", text).replace("|", "\\|")


def _code(text: str) -> str:
    return "`` " + text + " ``" if "`" in text else f"`{text}`"


def _table(keys: list[Key]) -> list[str]:
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for key in keys:
        default = key.default if key.default == "(required)" else _code(key.default.replace("|", "\\|") or " ")
        rows.append(f"| `{key.name}` | {key.type} | {default} | {_cell(key.meaning)} |")
    return [*rows, ""]


def _group(group: str) -> list[str]:
    found = group_keys(group)
    shown = [path for path in found if not path.stem.startswith("_")]
    page = [f"## {group}", "", GROUPS[group], "", "| choice | what it is |", "| --- | --- |"]
    page += [f"| `{group}={path.stem}` | {_cell(first_lines(path))} |" for path in shown]
    page += [""]
    for path, keys in found.items():
        if not keys:
            continue
        base = path.stem.startswith("_")
        headings = {"_told_titles": "Models that read titles", "_preference": "Preference losses"}
        heading = headings.get(path.stem, f"Every {group}" if path.stem == "_base" else None)
        page += [f"### {heading or f'{group}={path.stem}'}", ""]
        parents = [f"`{parent.stem}`" for parent in _parents(path) if not base and not parent.stem.startswith("_")]
        page += [f"All keys of {', '.join(parents)}, and:", ""] if parents else []
        page += _table(keys)
    return page


def _added(group: str, words: str) -> list[str]:
    """A group without a default choice."""
    page = [f"## {group}", "", words, "", f"| {group} | what it is |", "| --- | --- |"]
    folder = CONF / group
    for path in sorted(folder.rglob("[!_]*.yaml")):
        name = path.relative_to(folder).with_suffix("")
        said = re.sub(r"\s*python -m recsys_lt.*", "", first_lines(path))
        page.append(f"| `+{group}={name}` | {_cell(said)} |")
    page.append("")
    return page + (_table(list(keys_of(folder / "_base.yaml", ""))) if (folder / "_base.yaml").is_file() else [])


def _settings() -> list[str]:
    page = [
        "## setting",
        "",
        "Published or own hyper-parameters of one cell, `conf/setting/<dataset>_<model>_<loss>.yaml`.",
    ]
    page += ["They are read without being named, and the command line wins over them.", ""]
    page += ["| dataset, model and loss | where from | keys |", "| --- | --- | --- |"]
    for path in sorted((CONF / "setting").glob("*.yaml")):
        keys = [f"`{key.name}={key.default}`" for key in keys_of(path, "")]
        same = [f"as `{parent.stem}`" for parent in _parents(path)]
        page.append(f"| `{path.stem}` | {_cell(first_lines(path))} | {' '.join([*same, *keys])} |".replace("||", "|"))
    return [*page, ""]


def configuration() -> str:
    """The page of all keys, as Markdown."""
    page = [
        "# Configuration",
        "",
        "Generated from the files of `conf/`. `group=choice` picks a file, `key=value` sets a key, on the command",
        "line, in an experiment file or in `recsys_lt.train`. `recsys_lt --cfg job` prints the configuration of a run",
        "without starting it. The type `null` in a column means that `key=null` is allowed.",
        "",
        "## The run",
        "",
        *_table([_explained(key) for key in keys_of(CONF / "config.yaml", "")]),
    ]
    for group in GROUPS:
        page += _group(group)
    return "\n".join([*page, *_added("experiment", _EXPERIMENTS), *_added("search", _SEARCHES), *_settings()])


def commands() -> str:
    """The page of all commands, as Markdown."""
    from recsys_lt.cli.command import COMMANDS

    page = ["# Commands", "", "`recsys_lt` without a command trains, or sweeps with `-m`. `recsys_lt <command> --help`"]
    page += ["prints what is below. `python -m recsys_lt` is the same program.", ""]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "90"}
    for name, what in {"": "train one recommender, or a sweep with -m", **COMMANDS}.items():
        arguments = [name, "--help"] if name else ["--help"]
        done = subprocess.run(
            [sys.executable, "-m", "recsys_lt", *arguments], capture_output=True, text=True, env=environment, cwd=ROOT
        )
        said = done.stdout.split("Keys of the run")[0].rstrip()
        page += [f"## recsys_lt {name}".rstrip(), "", f"{what[0].upper()}{what[1:]}.", ""]
        page += ["```text", said, "```", ""] if done.returncode == 0 else []
    return "\n".join(page)


if __name__ == "__main__":
    (HERE / "configuration.md").write_text(configuration())
    (HERE / "commands.md").write_text(commands())
