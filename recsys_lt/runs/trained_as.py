"""What decides a run's result in its configuration, noted in its checkpoints."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recsys_lt.errors import UserError
from recsys_lt.runs.stored import NO_DIFFERENCE, as_written_now

#: The entry of a checkpoint's own notes that says it.
TRAINED_AS = "trained_as"
#: What a run that goes on may have otherwise than before.
_MAY_CHANGE = (
    "dataset",  # its fingerprint says more: a file may have moved
    "trainer.max_epochs", "trainer.patience", "trainer.eval_every", "trainer.eval_untrained",
)  # fmt: skip
#: Where a run finds another run, or weights, that it builds on: what is in them is compared where they are read.
_PLACES = ("model.item_vectors", "model.retriever", "llm.weights.name")


def deciding(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration without what cannot change a result."""
    return _without(OmegaConf.to_container(config, resolve=True), NO_DIFFERENCE)


def trained_as(config: DictConfig) -> dict[str, Any]:
    """The part of a run's configuration that must stay as it is while the run goes on."""
    return _without(deciding(config), _MAY_CHANGE)


def check_trained_as(notes: Mapping[str, Any], config: DictConfig, path: Path, parts: Sequence[str] = ()) -> None:
    """Compare a configuration with the one a checkpoint was trained with.

    Checkpoints of earlier versions do not say it, and pass.

    Parameters
    ----------
    notes
        The checkpoint's own notes.
    config
        The configuration of its run folder.
    path
        The checkpoint.
    parts
        Parts of the configuration to compare; all of them, if none is named.

    Raises
    ------
    UserError
        If a key differs.
    """
    if TRAINED_AS not in notes:
        return
    try:
        config_then = OmegaConf.create(dict(notes[TRAINED_AS]))
        as_written_now(config_then)
        before = dict(_leaves(OmegaConf.to_container(config_then)))
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise UserError("its configuration cannot be read", where=path, remedy="Restore it or train again") from error
    now = dict(_leaves(trained_as(config)))
    for key in sorted(before.keys() | now.keys()):
        asked = not parts or key.partition(".")[0] in parts
        then, this = before.get(key), now.get(key)  # what one version has and another not is null there
        moved = key in _PLACES and _is_place(key, then) and _is_place(key, this)
        if asked and then != this and not moved:
            raise UserError(
                f"it was trained with {key}={then}, and now it is {this}",
                where=path,
                remedy="Give it the earlier value, in config.yaml if it was changed there, or start a new run",
            )


def _is_place(key: str, value: Any) -> bool:
    """Whether a value names a folder here. A language model may have a name on a hub instead."""
    return isinstance(value, str) and (key != "llm.weights.name" or Path(value).is_absolute() or Path(value).is_dir())


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a nested mapping, by dotted keys."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, tree


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
