"""``config.yaml`` of a run folder: the configuration, the names of its choices, and the keys that decide a result."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recsys_lt.errors import UserError
from recsys_lt.runs.reading import flat, read_yaml
from recsys_lt.runs.trust import check_classes, check_references, trusting_as
from recsys_lt.system.atomic import replacing
from recsys_lt.system.machine import check_name

_FILE = "config.yaml"
_NAME_IT = "Name the run folder that was printed, such as outputs/<run>"
#: Keys that cannot change a result: where it runs and where things are.
NO_DIFFERENCE = (
    "logger", "strategy", "debug", "resume", "dataset.raw_dir", "dataset.cache_dir",
    "dataset.noun",  # where it matters, the prompt repeats it
    "model.llm",  # repeats llm
    "llm.weights.cache_dir", "llm.pack_tokens", "llm.gradient_checkpointing",
    "trainer.devices", "trainer.num_workers", "trainer.rank_rows",
    "trainer.test",
    "prior",  # metrics more, and none of them other
)  # fmt: skip
#: What a run that goes on may have otherwise than before.
_MAY_CHANGE = (
    "dataset",  # its fingerprint says more: a file may have moved
    "trainer.max_epochs", "trainer.patience", "trainer.eval_every", "trainer.eval_untrained",
)  # fmt: skip


class Names(NamedTuple):
    """What a cell is called in tables and dashboards."""

    dataset: str
    model: str
    loss: str
    optimizer: str


class Stored(NamedTuple):
    """A run's configuration, its choices' names, and the sweep it belongs to (None for a run on its own)."""

    config: DictConfig
    names: Names
    group: str | None


def store(folder: Path, run: Stored) -> None:
    """Write a run's configuration into its folder.

    UserError if ``stored`` would not read it: nobody could use what was trained. An earlier file is as it was.
    """
    plain = OmegaConf.to_container(run.config, resolve=False)
    whole = {"choices": run.names._asdict(), "group": run.group} | plain  # type: ignore[operator]
    with replacing(folder / _FILE) as partial:
        partial.write_text(OmegaConf.to_yaml(OmegaConf.create(whole)), encoding="utf-8")
        try:
            with trusting_as(run.config):  # who asks for the run knows its classes
                _check(_read(partial), partial)
        except UserError as error:
            raise UserError(
                f"the run could not be read again ({error.what})",
                where=folder / _FILE,
                remedy="Change that in the configuration",
            ) from error


def stored(folder: Path) -> Stored:
    """Read the configuration of the run in a folder.

    The folder may come from anybody. The configuration that is returned names no class but those of this program and of
    modules that the user trusts (``recsys_lt.runs.trust``), and reads nothing outside itself. UserError if there is no
    such folder, no configuration in it, something else of that name, or one that names more.
    """
    found = stored_as_text(folder)
    _check(found, folder / _FILE)
    return found


def stored_as_text(folder: Path) -> Stored:
    """Read the configuration of a run without a check of its classes. Compare it; build nothing from it."""
    if not folder.is_dir():
        raise UserError("there is no such folder", where=folder, remedy=_NAME_IT)
    path = folder / _FILE
    if not path.is_file():
        raise UserError(f"it is no run folder (no {_FILE} in it)", where=folder, remedy=_NAME_IT)
    return _read(path)


def _read(path: Path) -> Stored:
    config = read_yaml(path)
    if not isinstance(config, DictConfig) or not {"choices", "dataset", "model", "metrics"} <= set(config):
        raise UserError("it holds no run's configuration", where=path, remedy=_NAME_IT)
    check_references(OmegaConf.to_container(config, resolve=False), path)
    try:
        names, group = Names(**config.pop("choices")), config.pop("group", None)
        OmegaConf.to_container(config, resolve=True)  # every reference leads somewhere
        if isinstance(config.metrics, DictConfig):
            config.metrics.pop("bound_targets", None)  # a key of earlier runs
    except (OmegaConfBaseException, TypeError, ValueError, RecursionError) as error:
        reason = "it refers to itself" if isinstance(error, RecursionError) else " ".join(str(error).split())[:300]
        raise UserError(f"it is not a run's configuration ({reason})", where=path, remedy="Mend it") from error
    for part, name in names._asdict().items():
        for one in name.split("/") if isinstance(name, str) else [name]:  # it may lie in a folder of its group
            check_name(one, f"{path}: choices.{part}")
    if not isinstance(group, str | None):
        raise UserError(f"its group is {group!r}", where=path, remedy="Give a name, or null")
    return Stored(config, names, group)


def _check(found: Stored, path: Path) -> None:
    check_classes(OmegaConf.to_container(found.config, resolve=True), path)


def deciding(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration without what cannot change a result."""
    return _without(OmegaConf.to_container(config, resolve=True), NO_DIFFERENCE)


def trained_as(config: DictConfig) -> dict[str, Any]:
    """The part of a run's configuration that must stay as it is while the run goes on."""
    return _without(deciding(config), _MAY_CHANGE)


def check_trained_as(then: Mapping[str, Any], now: Mapping[str, Any], path: Path, parts: Sequence[str] = ()) -> None:
    """Compare a run's configuration with the one a checkpoint was trained with, each as ``trained_as`` gives it.

    ``path`` is the checkpoint; of ``parts`` alone, if any are named. UserError if a key differs. A file or folder may
    have moved: what is in it is compared where it is read.
    """
    before, after = flat(then), flat(now)
    for key in sorted(before.keys() | after.keys()):
        compared = not parts or key.partition(".")[0] in parts
        one, other = before.get(key), after.get(key)  # what one version has and another not is null there
        if compared and one != other and not (_is_place(one) and _is_place(other)):
            raise UserError(
                f"it was trained with {key}={one}, and now it is {other}",
                where=path,
                remedy="Give it the earlier value, in config.yaml if it was changed there, or start a new run",
            )


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and Path(value).is_absolute()


def _without(tree: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    for key in keys:
        *above, last = key.split(".")
        inside = tree
        for part in above:
            inside = inside.get(part) if isinstance(inside, dict) else None
        if isinstance(inside, dict):
            inside.pop(last, None)
    result: dict[str, Any] = tree
    return result
