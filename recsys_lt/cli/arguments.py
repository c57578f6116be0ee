"""Command-line arguments, normalised for Hydra or refused before it sees them."""

import difflib
import importlib.util
import re
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException

from recsys_lt.errors import UserError
from recsys_lt.runs.trust import literal
from recsys_lt.system.package import CONF

#: A key in a group: its value may be a path, in which a comma is no list.
_IN_A_GROUP = re.compile(r"\+{0,2}\w+(\.\w+)+=")


def as_meant(arguments: list[str]) -> list[str]:
    """Arguments as Hydra takes them: ``metrics.groups=[0.2,0.6,0.2]`` names the shares alone, paths get quotes."""
    return [_quoted(re.sub(r"^(\+{0,2})metrics\.groups=(?=\[)", r"\1metrics.groups.shares=", one)) for one in arguments]


def _quoted(argument: str) -> str:
    """An override whose value Hydra's grammar would not take as it is meant: a path, or text beyond ASCII."""
    key, equals, value = argument.partition("=")
    if not equals or not value or value[0] in "'\"" or argument.startswith("-"):
        return argument
    if _IN_A_GROUP.match(argument) and _exists(value):
        if re.fullmatch(r"[\w./-]+", value, re.ASCII):
            return argument
        value = literal(value)
    elif is_read(argument) or not re.search(r"[^\x00-\x7f]|^~", value):
        return argument  # what is neither is a mistake, and said to be one
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    return f"{key}='{escaped}'"


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # a name that is too long, a zero in it, nobody's home
        return False


def is_read(argument: str) -> bool:
    """Whether Hydra's grammar takes an argument of the command line."""
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return argument.startswith("-")
    return True


def search_path(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Folders of choices beside ours, as ``--config-dir`` and ``hydra.searchpath`` name them; the other arguments."""
    named: list[str] = []
    others, place = [], 0
    while place < len(arguments):
        flag, equals, value = arguments[place].partition("=")
        if flag in ("--config-dir", "-cd"):
            place += not equals
            named.append(value if equals else arguments[place] if place < len(arguments) else "")
        elif flag == "hydra.searchpath" and is_read(arguments[place]):
            given = OverridesParser.create().parse_override(arguments[place]).value()
            named += [str(folder) for folder in given] if isinstance(given, list) else []
        else:
            others.append(arguments[place])
        place += 1
    return [str(Path(name).expanduser().absolute()) if "://" not in name else name for name in named if name], others


def choice_folders(arguments: list[str]) -> list[Path]:
    """Folders that hold choices: ours, then those of ``search_path`` that are folders of this machine."""
    found = [CONF]
    for name in search_path(arguments)[0]:
        kind, _, rest = name.rpartition("://")
        if kind == "pkg":
            spec = importlib.util.find_spec(rest.split(".")[0])
            roots = [] if spec is None else list(spec.submodule_search_locations or ())
            found += [Path(root, *rest.split(".")[1:]) for root in roots]
        elif kind in ("", "file"):
            found.append(Path(rest))
    return found


def check_command(first: list[str], commands: Collection[str]) -> None:
    """Raise UserError where the first argument is a word that looks like a command and is none."""
    word = next(iter(first), "")
    if (CONF / word).is_dir():
        return
    near = next(iter(difflib.get_close_matches(word, [*commands, "train"], n=1, cutoff=0.75)), None)
    if near == "train":
        raise UserError("training needs no command word", where=word, remedy="Write recsys_lt model=sasrec")
    if near is not None:
        raise UserError("there is no such command", where=word, remedy=f"Write recsys_lt {near}")


def check_arguments(arguments: list[str]) -> None:
    """Raise UserError for what Hydra would make folders for, or answer with an error of Python's."""
    for argument in arguments:
        key, equals, value = argument.partition("=")
        bare = value.strip("'\"")
        # Said before anything heavy is imported; several files are a sweep.
        if key == "dataset.path" and re.fullmatch(r"[^${}(),\[\]]+", bare) and not _exists(bare):
            raise UserError("there is no such file", where=bare, remedy="Set dataset.path to your file")
        if key in ("hydra.run.dir", "hydra.sweep.dir") and bare in ("", "null"):
            raise UserError("it is empty", where=key, remedy="Name a folder, or leave it out")
        if equals and _is_no_choice(argument):
            raise UserError(
                "a group is a choice", where=argument, remedy="Leave it out for the default, or name one of conf/"
            )


def _is_no_choice(argument: str) -> bool:
    """Whether an override gives a group of conf/ a number, a list, a mapping or nothing."""
    group = argument.partition("=")[0].lstrip("+")
    if not re.fullmatch(r"\w+(/\w+)?", group) or not (CONF / group).is_dir() or not is_read(argument):
        return False
    override = OverridesParser.create().parse_override(argument)
    return not override.is_sweep_override() and not isinstance(override.value(), str | QuotedString)


def in_order(arguments: list[str]) -> list[str]:
    """Flags first, each with its value, wherever they were typed; UserError for a flag that Hydra would not take."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:  # argparse would print its usage, in eight lines
        raise UserError(message, where="command line", remedy="python -m recsys_lt --help says what can be given")

    parser.error = refuse  # type: ignore[method-assign]
    asked = parser.parse_intermixed_args(arguments)
    if asked.hydra_help:
        return ["--hydra-help"]  # it speaks of Hydra, and cannot compose what else was typed
    flags: list[str] = []
    for name, value in vars(asked).items():
        if name != "overrides" and value not in (None, False):
            flags += [f"--{name.replace('_', '-')}", *([] if value is True else [value])]
    return [*flags, *asked.overrides]
