"""Cells of a sweep: runs that differ in nothing but the seed."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

from recsys_lt.errors import UserError
from recsys_lt.runs.listing import IDENTITY, ListedRun, find_runs
from recsys_lt.runs.stored import NO_DIFFERENCE

# Keys that cannot change a result, or differ from run to run. A prompt names the noun it repeats, and a table reads
# configurations as they are written.
_NO_DIFFERENCE = (
    "seed",
    "choices",
    "group",
    "metrics.bound_targets",  # of earlier runs
    "trainer.eval_untrained",  # an evaluation more, of a model that has learned nothing
    *(key for key in NO_DIFFERENCE if key != "dataset.noun"),
)


@dataclass(frozen=True)
class Cell:
    """One cell of a sweep: its dataset, model, loss and optimizer, and its finished and failed runs.

    ``settings`` are the other keys that distinguish the cells of this dataset, with this cell's values as text.
    """

    identity: tuple[str, ...]
    settings: dict[str, str]
    finished: tuple[ListedRun, ...]
    failed: tuple[ListedRun, ...]

    @property
    def dataset(self) -> str:
        return self.identity[0]

    @property
    def parts(self) -> tuple[str, ...]:
        """Names a person picks this cell by: model, loss, optimizer, ``key=value`` ...."""
        return (*self.identity[1:], *(f"{key}={value}" for key, value in self.settings.items()))

    @property
    def known_parts(self) -> tuple[str, ...]:
        """The parts without ``-`` and ``key=-``, what only other models have."""
        return tuple(part for part in self.parts if part != "-" and not part.endswith("=-"))

    @property
    def label(self) -> str:
        return "/".join(self.parts)

    @property
    def seeds(self) -> tuple[Any, ...]:
        return tuple(run.seed for run in self.finished)

    def values(self, metric: str) -> list[float]:
        """A test metric of each finished run; empty unless every one of them measured it."""
        return self.numbers("test", metric)

    def numbers(self, *keys: str) -> list[float]:
        """A number in metrics.json of each finished run, by its keys; empty unless every one of them has it."""
        found: list[Any] = [
            reduce(lambda part, key: part.get(key, {}), keys, run.metrics or {}) for run in self.finished
        ]
        known = [float(value) for value in found if isinstance(value, int | float) and math.isfinite(value)]
        return known if len(known) == len(found) else []

    def validated(self, metric: str = "ndcg@10") -> float | None:
        """A validation metric at the best epoch, a mean over runs; None unless every one of them measured it."""
        return mean_and_spread(self.numbers("valid", metric))[0]

    def mean_std(self, metric: str) -> tuple[float | None, float | None]:
        """Mean and sample standard deviation over runs; None for what they do not give."""
        return mean_and_spread(self.values(metric))


def mean_and_spread(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation; None for what so few values do not give."""
    if not values:
        return None, None
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def once_a_seed(cell: Cell) -> Cell:
    """A cell with one run of each seed: the first, where a folder keeps several."""
    first: dict[Any, ListedRun] = {}
    for run in cell.finished:
        first.setdefault(run.seed, run)
    return replace(cell, finished=tuple(first.values()))


def finished_cells(roots: Sequence[Path]) -> list[Cell]:
    """Cells of the finished runs below folders or in packs, with one run of each seed.

    UserError if no run has finished.
    """
    cells = [once_a_seed(cell) for cell in cells_of(find_runs(*roots)) if cell.finished]
    if not cells:
        raise UserError("no run has finished", where=roots[0], remedy="Resume one: recsys_lt resume <run>")
    return cells


def compared(run: ListedRun) -> dict[str, str]:
    """The keys of a run's configuration that may distinguish cells, values as text.

    ``callbacks`` names those, and ``features`` the encoder of item features: many runs have neither. Runs that each
    name a run of their own seed (``.../seed0``) do not differ in that.
    """
    callbacks = {key.split(".")[1]: None for key in run.config if key.startswith("callbacks.")}
    seed = re.compile(rf"/seed{run.seed}(?=/|$)")
    own = "/".join(run.folder.resolve().parts[-2:])  # a key that names the run's own folder distinguishes nothing
    encoder = _class_name(run.config.get("features.encoder._target_", "none"))
    named = {"callbacks": " ".join(callbacks) or "none", "features": encoder} if run.config else {}
    texts = named | {
        key: "null" if value is None else _class_name(value) if key.endswith("_target_") else str(value)
        for key, value in run.config.items()
        if not any(key == ignored or key.startswith(f"{ignored}.") for ignored in _NO_DIFFERENCE)
        and not key.endswith(".seed")
        and not (isinstance(value, str) and own in value)
    }
    return {key: seed.sub("/seed", text) for key, text in texts.items()}


def _class_name(target: Any) -> str:
    """Of a class of ours its name alone: where it lies may change with versions. Of another, all."""
    return str(target).rsplit(".", 1)[-1] if str(target).startswith("recsys_lt.") else str(target)


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Last part of each dotted key where that is unmistakable."""
    last = [key.rsplit(".", 1)[-1] for key in keys]
    taken = {*IDENTITY, "n", "p"}
    return {
        key: name if last.count(name) == 1 and name not in taken else key for key, name in zip(keys, last, strict=True)
    }


def cells_of(runs: Sequence[ListedRun]) -> list[Cell]:
    """Cells of runs, in the order of the sweep.

    Within one dataset, model, loss and optimizer every key of the configuration whose values differ distinguishes
    cells. What differs between models only (each has its own learning rate) follows from the model's name and makes no
    column. A failed run joins the finished ones with the same configuration. A run that cannot be read is in no cell.
    """
    runs = [run for run in runs if not run.broken]
    texts = {run.folder: compared(run) for run in runs}
    same = {run.folder: frozenset(texts[run.folder].items()) for run in runs}
    known = {same[run.folder]: run.identity for run in runs if run.metrics is not None and run.config}
    identities = {
        run.folder: known.get(same[run.folder], run.identity) if run.metrics is None else run.identity for run in runs
    }

    differing: dict[str, dict[str, None]] = {}  # dataset -> keys, in order
    for identity in dict.fromkeys(identities.values()):
        configs = [texts[r.folder] for r in runs if identities[r.folder] == identity and r.config]
        for key in dict.fromkeys(key for config in configs for key in config):
            # What only some have came with a later version, and nothing is known of it in the others.
            if len({config[key] for config in configs if key in config}) > 1:
                differing.setdefault(identity[0], {})[key] = None

    groups: dict[tuple[Any, ...], list[ListedRun]] = {}
    for run in runs:
        identity = identities[run.folder]
        names = _short(list(differing.get(identity[0], {})))
        settings = tuple((name, texts[run.folder].get(key, "-")) for key, name in names.items())
        groups.setdefault((identity, settings), []).append(run)
    cells = [
        Cell(
            identity,
            dict(settings),
            tuple(run for run in members if run.metrics is not None),
            tuple(run for run in members if run.metrics is None),
        )
        for (identity, settings), members in groups.items()
    ]
    for cell in cells:
        for run in cell.finished:
            if _fingerprint(run) != _fingerprint(cell.finished[0]):
                raise UserError(
                    f"{cell.label} was run on other data than in {run.folder}",
                    where=cell.finished[0].folder,
                    remedy="Table them apart, or run them again",
                )
    return cells


def _fingerprint(run: ListedRun) -> Any:
    """Fingerprint of the run's interactions, which a configuration does not show."""
    return (run.metrics or {}).get("protocol", {}).get("fingerprint")
