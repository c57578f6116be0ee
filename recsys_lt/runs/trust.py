"""Classes that a stored configuration may instantiate: those of this package, and of modules that the user trusts."""

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recsys_lt.errors import UserError, one_line
from recsys_lt.runs.reading import nodes
from recsys_lt.runs.run_folder import OLDER
from recsys_lt.system.package import CONF, __version__

#: Where what is trusted is kept: in the environment, which the processes of a run and the workers of a sweep inherit.
_TRUSTED = "RECSYS_LT_TRUST"
_TARGET = "_target_"
#: What a stored configuration may refer to: its own keys, and environment variables of ours. Few references cannot
#: stand for much.
_REFERENCE = re.compile(r"\$\{(?:oc\.env:RECSYS_LT_\w+(?:,(?:\"[^\"$]*\"|[^\"${},]*))?|[A-Za-z_][\w.]*)\}")
_MOST_REFERENCES = 16
#: Two signs that stand for themselves, as in the name of a file.
_NO_REFERENCE = re.compile(r"(?<!\\)(?:\\\\)*\\\$\{")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--trust`` of the commands that load what a run folder names."""
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module whose classes the run's config.yaml may name, or a language model whose own Python code may run "
        "(its name, with @revision where it has one); may be given several times",
    )


def without_trust(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What ``--trust`` names in a command line of Hydra's, and the rest of the command line."""
    parser = argparse.ArgumentParser(prog="python -m recsys_lt", add_help=False, allow_abbrev=False)
    add_trust(parser)
    given, rest = parser.parse_known_args(arguments)
    return given.trust, rest


@contextmanager
def trusting(words: Sequence[str]) -> Iterator[None]:
    """Trust modules, classes or language models of these names while the block runs."""
    before = os.environ.get(_TRUSTED)
    os.environ[_TRUSTED] = os.pathsep.join((*_trusted(), *words))
    try:
        yield
    finally:
        if before is None:
            del os.environ[_TRUSTED]
        else:
            os.environ[_TRUSTED] = before


@contextmanager
def trusting_as(config: DictConfig) -> Iterator[None]:
    """Trust what a configuration in use names, while the block reads other runs that it builds on or compares with."""
    found = [node for _, node in nodes(OmegaConf.to_container(config, resolve=False)) if isinstance(node, dict)]
    classes = [node[_TARGET] for node in found if isinstance(node.get(_TARGET), str)]
    with trusting([*dict.fromkeys(classes), *(_code(node) for node in found if node.get("trust_remote_code"))]):
        yield


def is_trusted(name: str) -> bool:
    """Whether the user trusts something of exactly this name."""
    return name in _trusted()


def check_references(tree: Any, where: Path) -> None:
    """Raise UserError for a reference that reads more than the file itself, or for more of them than ours have."""
    count = 0
    for place, value in nodes(tree):
        found, foreign = _references(value)
        count += found
        if foreign or count > _MOST_REFERENCES:
            what = "refers to another place" if foreign else "has more references than any of ours"
            raise UserError(
                f"{place} is {_shown(value)}, which {what}", where=where, remedy="Write the value in its place"
            )


def write_out_references(config: DictConfig) -> None:
    """Put in the place of each reference that a stored configuration may not have what it stands for here and now.

    Where there are more references than it may have, all of them are replaced. The configuration is changed in place.
    """
    plain, resolved = (OmegaConf.to_container(config, resolve=each) for each in (False, True))
    few = sum(_references(value)[0] for _, value in nodes(plain)) <= _MOST_REFERENCES

    def written(value: Any, meant: Any) -> Any:
        if isinstance(value, dict):
            return {key: written(one, meant[key]) for key, one in value.items()}
        if isinstance(value, list):
            return [written(*both) for both in zip(value, meant, strict=True)]
        found, foreign = _references(value)
        return _as_literals(meant) if foreign or (found and not few) else value

    config.update(written(plain, resolved))


def _as_literals(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _as_literals(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_as_literals(value) for value in tree]
    return literal(tree) if isinstance(tree, str) else tree


def _references(value: Any) -> tuple[int, bool]:
    """How many references a value has, and whether one of them reads more than the configuration itself."""
    text = _NO_REFERENCE.sub("", value) if isinstance(value, str) else ""
    return text.count("${"), "${" in _REFERENCE.sub("", text)


def literal(text: str) -> str:
    """A text as OmegaConf must be given it, so that it refers to nothing."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def check_classes(tree: Any, where: Path) -> None:
    """Raise UserError for a class that is neither of this program nor of a module its user trusts.

    Nothing else is imported or looked up.
    """
    for place, node in nodes(tree):
        if not isinstance(node, dict):
            continue
        if _TARGET in node:
            _check_class(node[_TARGET], place, where)
        if node.get("trust_remote_code", False) is not False and not is_trusted(_code(node)):
            raise UserError(
                f"{place}.trust_remote_code would run Python code that comes with {_shown(_code(node))}",
                where=where,
                remedy=f"If you trust it, add --trust {_shown(_code(node))}",
            )


def _check_class(target: Any, place: str, where: Path) -> None:
    name = target if isinstance(target, str) else ""
    if name in _shipped() or _is_optimizer(name):
        return
    if not any(name == word or name.startswith(f"{word}.") for word in _trusted()):
        ours = name.startswith("recsys_lt.")
        known = f"recsys_lt {__version__}" if ours else "this program"
        module = name.partition(".")[0]
        remedy = "Train anew"
        if ours:
            remedy = OLDER
        elif module.isidentifier():
            remedy = f"If you know the module {module} and trust it, add --trust {module}"
        raise UserError(
            f"{place} names {_shown(target)}, which is no class of {known}; nothing of it was run",
            where=where,
            remedy=remedy,
        )
    module, _, last = name.rpartition(".")
    try:
        found = getattr(import_module(module), last, None) if module else None
    except (Exception, SystemExit) as error:  # importing somebody's module may do anything
        raise UserError(
            f"{place} names {_shown(target)}, which cannot be imported ({type(error).__name__}: {_shown(error)})",
            where=where,
            remedy="Put the folder of its module on PYTHONPATH, or mend the module",
        ) from error
    # What a module has imported from elsewhere is not the module's.
    if not isinstance(found, type) or found.__module__.partition(".")[0] != name.partition(".")[0]:
        raise UserError(
            f"{place} names {_shown(target)}, which is no class of that module", where=where, remedy="Train anew"
        )


def _trusted() -> list[str]:
    return [word for word in os.environ.get(_TRUSTED, "").split(os.pathsep) if word]


@lru_cache(maxsize=1)
def _shipped() -> frozenset[str]:
    """The classes that can be chosen: those that the files of conf/ name."""
    files = CONF.rglob("*.yaml")
    return frozenset(
        name for file in files for name in re.findall(rf"\b{_TARGET}:\s*([\w.]+)", file.read_text(encoding="utf-8"))
    )


def _is_optimizer(name: str) -> bool:
    """Whether a name is that of one of torch's optimizers."""
    import torch

    module, _, last = name.rpartition(".")
    found = getattr(torch.optim, last, None) if module == "torch.optim" else None
    return isinstance(found, type) and issubclass(found, torch.optim.Optimizer)


def _code(node: dict[str, Any]) -> str:
    """What is trusted where a language model's own code runs: its name, and the revision the code is of."""
    name, revision = node.get("name"), node.get("revision")
    return f"{name}" if revision is None else f"{name}@{revision}"


def _shown(value: Any) -> str:
    """A stranger's text, short."""
    text = one_line(str(value))
    return text if len(text) <= 120 else f"{text[:120]}..."
