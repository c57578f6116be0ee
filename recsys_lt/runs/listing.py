"""Run folders below a sweep: what finished, what failed, and with which configuration."""

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from recsys_lt.errors import UserError, one_line
from recsys_lt.runs.metrics_file import read_metrics
from recsys_lt.runs.packed import FILE as PACK
from recsys_lt.runs.packed import has, runs_in
from recsys_lt.runs.reading import flat, read_yaml
from recsys_lt.runs.run_folder import NEEDS

IDENTITY = ("dataset", "model", "loss", "optimizer")


@dataclass(frozen=True)
class ListedRun:
    """One run folder.

    ``metrics`` is the content of metrics.json; None for a run that failed, or has not finished. ``config`` is its
    configuration with dotted keys, ``model.dropout``; empty where the folder holds none. ``choices`` is what was chosen
    of each config group, and ``broken`` why its files cannot be read; "" where they can.
    """

    folder: Path
    metrics: dict[str, Any] | None
    config: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    broken: str = ""

    @property
    def seed(self) -> Any:
        return self.config.get("seed") if self.metrics is None else self.metrics["seed"]

    @property
    def identity(self) -> tuple[str, ...]:
        """Dataset, model, loss, optimizer; of a failed run the choices, "?" where its configuration lacks them.

        Loss and optimizer of a model without trained parameters are "-": they played no part.
        """
        if self.metrics is not None:
            found = tuple(str(self.metrics[part]) for part in IDENTITY)
            untrained = self.metrics.get("train", {}).get("trained_parameters") == 0
            return (*found[:2], "-", "-") if untrained else found
        return tuple(self.choices.get(part, "?") for part in IDENTITY)


def _read(folder: Path, finished: bool) -> ListedRun:
    """Read a run; UserError if metrics.json or config.yaml is not what a run writes."""
    metrics = read_metrics(folder / "metrics.json") if finished else None
    if metrics is not None and metrics.get("finished") is False:
        metrics = None  # interrupted: what it measured is of a shorter training
    path = folder / "config.yaml"
    tree = OmegaConf.to_container(read_yaml(path), resolve=False) if has(path) else {}
    # In one line: they are compared and printed.
    config = {
        one_line(key): one_line(value) if isinstance(value, str) else value
        for key, value in (flat(tree) if isinstance(tree, dict) else {}).items()
    }
    choices = {key.removeprefix("choices."): str(value) for key, value in config.items() if key.startswith("choices.")}
    return ListedRun(folder, metrics, config, choices)


def _in_order(folder: Path) -> list[tuple[int, int, str]]:
    """Sort key under which job 10 comes after job 9."""
    pieces = re.split(r"(\d+)", str(folder))
    return [(0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in pieces if piece]


def find_runs(*roots: Path) -> list[ListedRun]:
    """Every run below a folder or in a pack, or the folder itself, in the order of the sweep.

    A run that lies in several of the roots counts once.

    A folder is a run if it holds metrics.json, or a configuration and no metrics.json in it or below it: that one
    failed. One that cannot be read does not keep the others from being read: it says why it cannot. Runs that were not
    tested (``trainer.test=false``) are left out, with a line on standard error. UserError where there is no such
    folder, no metrics.json in it, or none that can be read or was tested.
    """
    return list({run.folder.resolve(): run for root in roots for run in _found(root)}.values())


def _found(root: Path) -> list[ListedRun]:
    packed = runs_in(root)
    if packed is None and not root.is_dir():
        what = "it is a file" if root.is_file() else "there is no such folder"
        raise UserError(what, where=root, remedy="Name the folder of a run (outputs/...) or of a sweep (multirun/...)")
    finished, configured = packed or [], []
    for name, folders, files in os.walk(root):
        folder = Path(name)
        if "metrics.json" in files:
            finished.append(folder)
            folders.clear()
            continue
        if PACK in files:
            finished += runs_in(folder / PACK) or []
        # Weights & Biases keeps a config.yaml of its own in each of its folders; what a run needed is part of it.
        folders[:] = [f for f in folders if not f.startswith(".") and f not in ("wandb", NEEDS)]
        if "config.yaml" in files:
            configured.append(folder)
    # A configuration above finished runs is the sweep's; one below a failed run is that run's own.
    failed = [f for f in configured if not any(f in done.parents for done in finished)]
    failed = [f for f in failed if not any(above in f.parents for above in failed)]
    if not finished:
        what = f"none of the {len(failed)} runs in it has a metrics.json" if failed else "holds no metrics.json"
        raise UserError(what, where=root, remedy="Name a sweep that has finished at least one run")
    runs: list[ListedRun] = []
    errors: list[UserError] = []
    untested = 0
    for folder in sorted((*finished, *failed), key=_in_order):
        try:
            run = _read(folder, folder in finished)
            if run.metrics is None or "test" in run.metrics:
                runs.append(run)
            else:
                untested += 1
        except UserError as error:
            errors.append(error)
            runs.append(ListedRun(folder, None, broken=f"{Path(str(error.where)).name}: {error.what}"))
    if errors and all(run.broken or run.folder in failed for run in runs):
        raise errors[0]
    if untested and untested == len(finished):
        remedy = "Test one of them: recsys_lt resume <run folder> trainer.test=true"
        raise UserError(f"the {untested} runs in it were not tested (trainer.test=false)", where=root, remedy=remedy)
    if untested:
        print(f"{root}: {untested} runs without a test (trainer.test=false) are left out", file=sys.stderr)
    return runs
