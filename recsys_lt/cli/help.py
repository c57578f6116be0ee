"""The text of ``recsys_lt --help``: commands, choices, and the keys of the run with their comments."""

import json
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from recsys_lt.cli.arguments import choice_folders, search_path
from recsys_lt.system.package import CONF

_OPENING = """\
Train one recommender, rank the whole catalogue for every user, and write the results to a run folder.

Usage:
  recsys_lt [group=choice ...] [key=value ...]    train, rank and report
  recsys_lt -m [group=a,b ...] [key=1,2 ...]      a sweep: every combination
  recsys_lt <command> --help                      the other commands

Examples:
  recsys_lt                                       MovieLens-100K, SASRec, cross-entropy
  recsys_lt dataset=yelp model=gru4rec loss=sce   other choices
  recsys_lt +experiment=beauty_sce                a published setting
  recsys_lt -m loss=ce,sce seed=0,1,2             a sweep, which ends in a table
  recsys_lt +search=sasrec dataset=beauty         a search for hyper-parameters
  recsys_lt dataset=file dataset.path=mine.csv    your own interactions: user,item[,timestamp]
  recsys_lt optimizer=eisam --help                the keys of these choices
"""
#: Hydra takes their values from other choices; nobody names them.
_NOT_CHOSEN = ("setting", "protocol", "hydra")
#: Keys that say which class is built.
_INNER = ("_target_", "_partial_", "_convert_")


def help_text(arguments: list[str], commands: Mapping[str, str]) -> str:
    """The help for these choices; Hydra's and OmegaConf's errors for choices that do not exist."""
    folders, overrides = search_path(arguments)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        beside = [f"hydra.searchpath={folders}"] if folders else []
        given = [one for one in overrides if not one.startswith("-")]
        config = compose("config", [*given, *beside], return_hydra_config=True)
    comments = comments_of(config, choice_folders(arguments))
    width = max(shutil.get_terminal_size((100, 24)).columns, 60)
    keys = [line for key in config if key != "hydra" for line in _lines(config, str(key), comments, width)]
    return "\n".join(
        [
            _OPENING,
            "Commands:",
            *(f"  {name:<12}{what}" for name, what in commands.items()),
            "",
            "Choices (group=choice; baselines, experiment, method, rival and search with a plus: +experiment=choice):",
            *_choices(choice_folders(arguments), width),
            "",
            "Keys of the run (key=value):",
            *keys,
        ]
    )


def _choices(folders: list[Path], width: int) -> Iterator[str]:
    found: dict[str, set[str]] = {}
    for folder in folders:
        for path in folder.rglob("*.yaml"):
            group = path.parent.relative_to(folder).as_posix()
            if group != "." and group.split("/")[0] not in _NOT_CHOSEN and not path.name.startswith("_"):
                found.setdefault(group, set()).add(path.stem)
    for group in sorted(found):
        yield from textwrap.wrap(
            f"{group}: {', '.join(sorted(found[group]))}",
            width,
            initial_indent="  ",
            subsequent_indent="    ",
            break_on_hyphens=False,
        )


def comments_of(config: DictConfig, folders: list[Path]) -> dict[str, str]:
    """The comment of every key, by its dotted name, from the YAML files of the choices that a run is composed of.

    ``config`` is composed with ``return_hydra_config``; ``folders`` hold the choices.
    """
    found: dict[str, str] = {}
    for folder in reversed(folders):
        for group, choice in config.hydra.runtime.choices.items():
            path = folder / group / f"{choice}.yaml"
            if not group.startswith("hydra/") and path.is_file():
                found |= _with_base(path, group.replace("/", "."))
    return found | {key: text for key, text in read_comments(CONF / "config.yaml").items() if key not in found}


def _with_base(path: Path, prefix: str) -> dict[str, str]:
    """The comments of a choice and of what it may begin with, such as ``_base``."""
    text = path.read_text(encoding="utf-8")
    if re.search(r"@package\s+_global_", text):
        prefix = ""
    begins = re.search(r"^defaults:\s*(?:\[|-\s*)(_\w+)", text, re.MULTILINE)
    base = path.with_name(f"{begins[1]}.yaml") if begins else path
    inherited = _with_base(base, prefix) if base != path and base.is_file() else {}
    return inherited | {f"{prefix}.{key}".lstrip("."): line for key, line in read_comments(path).items()}


def read_comments(path: Path) -> dict[str, str]:
    """The comments of a YAML file, by the dotted key they stand behind or above."""
    text = path.read_text(encoding="utf-8")
    lines, found = text.splitlines(), {}

    def walk(node: Any, place: str) -> None:
        if not isinstance(node, yaml.MappingNode) or node.flow_style:
            return
        for key, value in node.value:
            name = f"{place}.{key.value}".lstrip(".")
            one_line = value.start_mark.line == value.end_mark.line == key.start_mark.line
            end = value.end_mark if one_line else key.end_mark
            behind = re.search(r"\s#\s*(.*)$", lines[end.line][end.column :])
            comment = behind[1] if behind else _above(lines[: key.start_mark.line])
            inside = [str(one.value) for one, _ in value.value] if isinstance(value, yaml.MappingNode) else []
            if comment and value.start_mark.line == key.start_mark.line and "_target_" in inside:
                found.update({f"{name}.{one}": comment for one in inside})
            elif comment:
                found[name] = comment
            walk(value, name)

    walk(yaml.compose(text, yaml.SafeLoader), "")
    return found


def _above(lines: list[str]) -> str:
    """The comment that ``lines`` end with; "" for one that opens the file, which is about the choice."""
    first = len(lines)
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return " ".join(line.strip(" #") for line in lines[first:]) if first else ""


def _lines(parent: DictConfig, key: str, comments: Mapping[str, str], width: int, place: str = "") -> Iterator[str]:
    """One key and what is below it, as YAML with comments."""
    place, indent = f"{place}.{key}".lstrip("."), "  " * (place.count(".") + bool(place) + 1)
    node: Any = parent._get_node(key)
    inner = isinstance(node, DictConfig) and not node._is_none() and not node._is_missing()
    if inner and set(node) - set(_INNER):
        yield from _with_comment(f"{indent}{key}:", comments.get(place, ""), width)
        for name in node:
            if name not in _INNER:
                yield from _lines(node, str(name), comments, width, place)
    elif not inner:
        plain = OmegaConf.to_container(parent, resolve=False)
        assert isinstance(plain, dict)
        yield from _with_comment(f"{indent}{key}: {_written(plain[key])}", comments.get(place, ""), width)


def _written(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()


def _with_comment(line: str, comment: str, width: int) -> list[str]:
    column = 32
    if not comment:
        return [line]
    first = f"{line:<{column}}"
    wrapped = textwrap.wrap(comment, max(width - column - 4, 30), break_on_hyphens=False)
    if len(line) > column:
        return [line, *(f"{'':<{column}}  # {part}" for part in wrapped)]
    return [f"{first}  # {wrapped[0]}", *(f"{'':<{column}}  # {part}" for part in wrapped[1:])]
