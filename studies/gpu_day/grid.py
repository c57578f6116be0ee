"""The grid of published cells: which there are, in order of worth, how far each is, and how long the rest takes."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from recsys_lt.runs.reading import read_curve
from studies.shared.kept import is_finished, text

ROOT = Path(__file__).resolve().parents[2]
CELLS = ROOT / "studies" / "published" / "cells.yaml"
RUNS = CELLS.with_name("runs.parquet")
SETTINGS = ROOT / "conf" / "setting"

DATASETS = ("beauty", "yelp", "ml-1m")
MODELS = ("sasrec", "fmlp_rec", "gru4rec", "caser", "bsarec")
LOSSES = ("ce", "sce", "bce", "bpr", "nce")

Cell = dict[str, Any]


def grid(cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """Choose the grid's cells from those of ``cells.yaml``.

    Parameters
    ----------
    cells
        The content of ``cells.yaml``.

    Returns
    -------
    tuple
        The cells of seed 0 that run in full, in order of worth: CE and SCE before the sampled losses, then by dataset
        and model. And the cells of the grid that have no published setting, each as one word.
    """
    found: list[Cell] = []
    without: list[str] = []
    for losses in (LOSSES[:2], LOSSES[2:]):
        for dataset, loss, model in product(DATASETS, losses, MODELS):
            if not (SETTINGS / f"{dataset}_{model}_{loss}.yaml").is_file():
                without.append(f"{dataset}_{model}_{loss}")
                continue
            choose = {"dataset": dataset, "model": model, "loss": loss, "seed": 0}
            found += [cell for cell in cells if cell["choose"] == choose and _in_full(cell)][:1]
    return found, without


def _in_full(cell: Cell) -> bool:
    early_end = {"trainer.patience"}
    return "curve" not in cell and cell.get("for") != "figures" and set(cell.get("set", {})) <= early_end


@dataclass(frozen=True)
class Curve:
    """What a run's ``learning_curve.csv`` says of its time.

    Parameters
    ----------
    epochs
        The last completed epoch; 0 where there is no curve.
    seconds
        An epoch's, its part of the validations included; None where no epoch was completed.
    """

    epochs: int
    seconds: float | None


def curve(folder: Path) -> Curve:
    """How far the run in a folder is, and how long an epoch takes."""
    try:
        rows = [row for row in read_curve(folder / "learning_curve.csv") if row["epoch"] > 0]
        if not rows:
            return Curve(0, None)
        spent = [row["seconds"] for row in rows]
        ranked = [row["eval_seconds"] for row in rows if "eval_seconds" in row]
        # The first epoch chooses kernels and fills caches.
        seconds = statistics.median(spent) + sum(ranked) / len(rows)
        return Curve(int(rows[-1]["epoch"]), seconds)
    except KeyError:
        return Curve(0, None)


def report(
    cells: Sequence[Cell], places: Sequence[Path], device: str | None, side_by_side: int, without: Iterable[str] = ()
) -> str:
    """Say what is done, what is left, and how long the rest takes.

    Parameters
    ----------
    cells
        Those asked for, each with its ``epochs``.
    places
        Folders of run folders, or packs; the first of which counts where several hold a cell.
    device
        The kind of device whose seconds count ("cuda" or "cpu"); None: nothing was measured.
    side_by_side
        How many runs share the device.
    without
        Cells that are left out as they have no published setting.
    """
    measured: dict[str, float] = {}
    done: list[Cell] = []
    left: list[tuple[Cell, int]] = []
    for cell in cells:
        folders = [place / cell["cell"] for place in places]
        for folder in folders:
            reached = curve(folder)
            if reached.seconds is not None and _device(folder) in (None, device):
                measured.setdefault(cell["cell"], reached.seconds)
        if any(is_finished(folder) for folder in folders):
            done.append(cell)
        else:
            left.append((cell, max(curve(folder).epochs for folder in folders)))
    lines = [f"done: {len(done)} of {len(cells)} cells", f"left: {len(left)} cells"]
    known = 0.0
    unknown = 0
    for cell, epochs in left:
        seconds = _expected(cell, cells, measured)
        words = f"  {cell['cell']}: {epochs} of {cell['epochs']} epochs"
        if seconds is None:
            unknown += 1
            lines.append(f"{words}, seconds an epoch not measured")
        else:
            rest = seconds * max(cell["epochs"] - epochs, 0)
            known += rest
            own = "" if cell["cell"] in measured else " (of a similar cell)"
            lines.append(f"{words}, {seconds:.2f} s an epoch{own}, {_clock(rest)} left")
    if len(left) > unknown:
        lines.append(f"these take about {_clock(known / side_by_side)} with {side_by_side} at once")
    if unknown:
        lines.append(f"not known of {unknown} of them: nothing like them was measured on this kind of device")
    if names := list(without):
        lines.append(f"left out, no published setting: {', '.join(names)}")
    return "\n".join(lines) + "\n"


def _device(folder: Path) -> str | None:
    """The kind of device a finished run was trained on; None where the run says nothing of it."""
    try:
        metrics = json.loads(text(folder / "metrics.json"))
        return str(metrics["train"]["device"]).partition(":")[0]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _expected(cell: Cell, cells: Sequence[Cell], measured: Mapping[str, float]) -> float | None:
    """Seconds an epoch: the cell's own, else the mean of those of its model on its data."""
    if cell["cell"] in measured:
        return measured[cell["cell"]]
    kind = [cell["choose"][part] for part in ("dataset", "model")]
    alike = [
        measured[other["cell"]]
        for other in cells
        if other["cell"] in measured and [other["choose"][part] for part in ("dataset", "model")] == kind
    ]
    return statistics.mean(alike) if alike else None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
