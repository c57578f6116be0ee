"""Hydra's errors as one line each."""

import difflib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from recsys_lt.cli.arguments import choice_folders, is_read, search_path
from recsys_lt.errors import UserError
from recsys_lt.system.package import CONF

#: Hydra's launchers that are not part of it -> the extra of ours that brings them.
_LAUNCHERS = {"joblib": "sweep", "slurm": "slurm", "submitit_local": "slurm", "submitit_slurm": "slurm"}


@contextmanager
def composed(arguments: list[str]) -> Iterator[None]:
    """Turn what Hydra and OmegaConf refuse inside the block into ``UserError``; ``arguments`` as ``hydra_line``."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, MarkedYAMLError) as error:
        raise UserError(hydra_line(error, arguments).removesuffix(".")) from error


def hydra_line(error: Exception, arguments: list[str]) -> str:
    """What Hydra, OmegaConf or YAML raised for these arguments, without lists of packages and advice to add keys."""
    if isinstance(error, MarkedYAMLError):
        # Where a colon is lacking, it is noticed on the next line.
        mark = error.context_mark if "simple key" in str(error.context) else error.problem_mark
        place = f"{mark.name}, line {mark.line + 1}" if mark is not None else "configuration"
        return f"{place}: it is not YAML ({error.problem}). Write key: value on each line."
    text = str(error)
    lacking = re.search(r"[Mm]issing mandatory value: (\S+)", text) or re.search(
        r"Interpolation key '([^']+)' not", text
    )
    left_out = [given[1:].partition("=")[0] for given in arguments if given.startswith("~")]
    ambiguous = re.search(r"Ambiguous value for argument '([^']+)'", text)
    if ambiguous:
        key, _, value = ambiguous[1].partition("=")
        point = value.replace(",", ".") if re.fullmatch(r"\d+,\d+", value) else ""
        other = (
            f"a decimal number has a point, as {key}={point}" if point else f"a list has brackets, as {key}=[{value}]"
        )
        return f"{ambiguous[1]}: several values need -m, as recsys_lt -m {ambiguous[1]}; {other}."
    no_folder = re.search(r"Additional config directory '([^']+)' not found", text)
    if no_folder:
        return f"--config-dir {no_folder[1]}: there is no such folder. Name the folder of your choices."
    missing = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' is not in struct", text)
    for key in left_out:
        found = lacking or missing
        of_a_choice = "possible interpolation keys" in text  # conf/setting is looked up by dataset, model and loss
        if of_a_choice or (found and f"{found[1]}.".startswith(f"{key}.")):
            return f"~{key}: every run needs it."
    if lacking and "andatory" in text:
        key = str(getattr(error, "full_key", None))
        key = key if key.endswith(lacking[1]) else lacking[1]  # not the key that refers to it
        return f"{key}: it has no value. Give one: {key}=..."
    if lacking:
        return f"${{{lacking[1]}}}: no such key. Correct it, or write \\${{ for a literal ${{."
    if missing:
        return f"there is no key {missing[1]!r}. {_similar_key(missing[1], arguments)}"
    choice = re.search(r"(?:Could not find|Could not load|Unable to find or open) '([^']+)'", text)
    if choice:
        group, _, name = choice.group(1).rpartition("/")
        if group == "hydra/launcher":
            return _no_launcher(name)
        options = _choices(group, arguments)
        if group and options:
            near = difflib.get_close_matches(name, options, n=1)
            meant = f"Did you mean {near[0]}? " if near else ""
            own = "" if near or search_path(arguments)[0] else " For one of your own add --config-dir <its folder>."
            return f"{group} has no choice {name!r}. {meant}Choose from {', '.join(options)}.{own}"
    if "Cannot merge DictConfig with ListConfig" in text:
        where = re.search(r"In '([^']+)'", text)
        place = where[1] if where else "configuration"
        return f"{place}: a list where keys belong. In a file, write metrics: {{groups: {{shares: [...]}}}}."
    first = [line.strip() for line in text.splitlines() if line.strip()]
    if "override_grammar" in text:
        given = next((argument for argument in arguments if not is_read(argument)), None)
        if given is None:
            return " ".join(first[:2])
        key, equals, value = given.partition("=")
        after = arguments[arguments.index(given) + 1 :]
        if not equals:
            if after and (CONF / key).is_dir() and "=" not in after[0]:
                return f"{given}: it is no key=value. Did you mean {key}={after[0]}?"
            return f"{given}: it is no key=value. {_similar_key(key, arguments)}"
        if value[:1] in ("{", "[") and after and "=" not in after[0]:
            last = next((n for n, word in enumerate(after) if word[-1:] in ("}", "]")), 0)
            return (
                f"{given}: the shell split it at a blank. Put it in quotes: '{' '.join([given, *after[: last + 1]])}'."
            )
        given = " ".join(given.split())
        return f"{given}: its value cannot be read. Put it in quotes, twice for the shell: '{key}=\"...\"'."
    return " ".join(first[:3])


def _no_launcher(name: str) -> str:
    if name not in _LAUNCHERS:
        return f"hydra/launcher has no choice {name!r}. Choose from basic, {', '.join(_LAUNCHERS)}."
    return f"hydra/launcher={name}: it is not installed. Install it with: pip install 'recsys_lt[{_LAUNCHERS[name]}]'"


def _choices(group: str, arguments: list[str]) -> list[str]:
    """The names of a group's choices, the user's own among them."""
    files = (path for folder in choice_folders(arguments) for path in (folder / group).glob("*.yaml"))
    return sorted({path.stem for path in files if not path.stem.startswith("_")})


def _similar_key(key: str, arguments: list[str]) -> str:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    folders = choice_folders(arguments)

    def is_group(name: str) -> bool:
        return re.fullmatch(r"\w+(/\w+)*", name) is not None and any((folder / name).is_dir() for folder in folders)

    if is_group(key):  # a group without a default choice
        given = next((given for given in arguments if given.startswith(f"{key}=")), f"{key}=...")
        return f"Did you mean +{given}?"
    chosen = [given for given in arguments if is_group(given.partition("=")[0].lstrip("+")) and "," not in given]
    if own := search_path(arguments)[0]:
        chosen.append(f"hydra.searchpath={json.dumps(own)}")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            config = compose("config", chosen)
        except HydraException:  # that is another complaint
            config = compose("config")
    parent, _, last = key.rpartition(".")
    inside = OmegaConf.select(config, parent, default=None) if parent else config
    if not isinstance(inside, DictConfig):
        inside, last = config, key
    names = [str(name) for name in inside if not str(name).startswith("_")]
    near = difflib.get_close_matches(last, names, n=1)
    prefix = f"{parent}." if inside is not config else ""
    if near:
        return f"Did you mean {prefix}{near[0]}?"
    if not names:
        return f"{parent} has none here."
    of = f"of {parent} " if prefix else ""
    return f"The keys {of}are {', '.join(sorted(names))}; they depend on the chosen groups."
