"""What decides a run's result in its configuration, noted in its checkpoints."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recsys_lt.errors import UserError
from recsys_lt.runs.reading import flat
from recsys_lt.runs.stored import NO_DIFFERENCE

#: What a run that goes on may have otherwise than before.
_MAY_CHANGE = (
    "dataset",  # its fingerprint says more: a file may have moved
    "trainer.max_epochs", "trainer.patience", "trainer.eval_every", "trainer.eval_untrained",
)  # fmt: skip


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
