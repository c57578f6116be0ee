"""Make docs/results.md: what the finished runs in runs.parquet measured, beside what was published.

``python studies/published/page.py`` (or ``make page``). Only what ran is on the page; the cells of
cells.yaml that have not run are listed by name.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from recsys_lt.errors import UserError
from recsys_lt.results.tables import protocol_line
from recsys_lt.runs.packed import has
from recsys_lt.runs.reading import read_curve
from recsys_lt.system.atomic import write_text
from studies.ce_sce.published import FILE, Facts, Published, facts
from studies.published.agreement import COLUMNS, RULES, UNDECIDED, Agreement
from studies.published.run_cells import RUNS
from studies.shared.kept import text
from studies.shared.pages import table_lines

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "python studies/published/page.py"
GROUPS = ("head", "mid", "tail")
METRIC = "ndcg@10"


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, metrics.json, and validation NDCG@10 by completed epochs."""

    folder: Path
    metrics: dict[str, Any]
    curve: dict[int, float]
    precision: str | None


@dataclass(frozen=True)
class Group:
    """Runs that differ in the seed alone, and what was published for them.

    Parameters
    ----------
    dataset, model, loss
        What was run.
    changes
        What differs from the published setting, as overrides; "" for nothing.
    epochs
        Where the runs were to stop; None for runs in full.
    test
        Published test NDCG@10.
    valid
        Published validation NDCG@10 by epoch; empty where none was published.
    runs
        Those that are there, in the order of cells.yaml.
    """

    dataset: str
    model: str
    loss: str
    changes: str
    epochs: int | None
    test: Published
    valid: dict[int, Published]
    runs: tuple[Run, ...]

    def test_values(self, name: str) -> list[float]:
        """A test metric of every run; empty unless each of them measured it."""
        values = [run.metrics["test"].get(name) for run in self.runs]
        return [] if any(value is None for value in values) else values


_Key = tuple[str, str, str, str, int | None]  # dataset, model, loss, changes, epochs


@dataclass(frozen=True)
class Queue:
    """What cells.yaml asks for: groups with a run, the names of cells without one, and what is known of differences."""

    groups: tuple[Group, ...]
    missing: tuple[str, ...]
    known: tuple[str, ...]


def read_queue(cells_file: Path, runs_folder: Path, published: Facts) -> Queue:
    """Find each cell's run and what was published for it.

    Raises
    ------
    UserError
        Where a file is broken, or a folder holds another run than its name says.
    """
    runs: dict[_Key, list[Run]] = {}
    missing, known = [], []
    for cell in yaml.safe_load(cells_file.read_text(encoding="utf-8")):
        choices = cell["choose"]
        changes = " ".join(f"{key}={value}" for key, value in cell.get("set", {}).items())
        key = (choices["dataset"], choices["model"], choices["loss"], changes, cell.get("curve"))
        folder = runs_folder / cell["cell"]
        if has(folder / "metrics.json"):
            run = _read_run(folder, choices)
            if "why" in cell:
                known.append(f"- {cell['cell']}: {cell['why']}")
            if cell.get("for") != "figures":
                runs.setdefault(key, []).append(run)
        else:
            missing.append(cell["cell"])
    in_full = [key for key in runs if key[-1] is None and _as_published(key)]
    full = {(*key[:3], run.metrics["seed"]) for key in in_full for run in runs[key]}
    groups = []
    for key, found in runs.items():
        if key[-1] is not None:  # a seed that has run in full too would count twice
            found = [run for run in found if (*key[:3], run.metrics["seed"]) not in full]
        if not found:
            continue
        test = published.test(*key[:3])
        if test is None:
            raise UserError(f"nothing was published of {' '.join(key[:3])}", where=cells_file, remedy="Take it out")
        groups.append(Group(*key, test, published.valid(*key[:3]) if _as_published(key) else {}, tuple(found)))
    return Queue(tuple(groups), tuple(missing), tuple(known))


def _as_published(key: _Key) -> bool:
    """Whether the curve is that of the published setting: one that may end sooner has the same until then."""
    return all(change.startswith("trainer.patience=") for change in key[3].split())


def _read_run(folder: Path, choices: dict[str, Any]) -> Run:
    remedy = f"Remove it and run studies/published/run_cells.py --only {folder.name}"
    try:
        metrics = json.loads(text(folder / "metrics.json"))
        rows = read_curve(folder / "learning_curve.csv")
        curve = {int(row["epoch"]): row[f"valid/{METRIC}"] for row in rows if f"valid/{METRIC}" in row}
        config = (yaml.safe_load(text(folder / "config.yaml")) if has(folder / "config.yaml") else None) or {}
        other = [f"{key} {metrics[key]}" for key, value in choices.items() if metrics[key] != value]
        if not math.isfinite(metrics["test"][METRIC]):
            raise ValueError(f"test {METRIC} is {metrics['test'][METRIC]}")
        finished, optimizer = metrics["finished"], metrics.get("optimizer", "adam")
        int(metrics["protocol"]["users"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"the run cannot be read ({reason})", where=folder, remedy=remedy) from error
    if optimizer != "adam":
        other.append(f"optimizer {optimizer}")
    if other or not finished:
        what = f"it is a run of {', '.join(other)}" if other else "the run is not finished"
        raise UserError(what, where=folder, remedy=remedy)
    return Run(folder, metrics, curve, config.get("precision"))


def page(queue: Queue, place: Path) -> str:
    """The page, for a file in the folder ``place``."""
    full = [group for group in queue.groups if group.epochs is None]
    short = [group for group in queue.groups if group.epochs is not None]
    lines = ["# Published results, run again", "", *_opening(queue), ""]
    if full:
        lines += ["## Run in full: test NDCG@10", "", *_test_table(full, place), "", *_undecided(full)]
        lines += ["### Their learning curves: validation NDCG@10", "", *_curve_table(full, place), ""]
    if short:
        lines += ["## Learning curves only: validation NDCG@10", ""]
        lines += [
            "These runs stop early on purpose (cells.yaml says after how many epochs). Their test results",
            "are not compared, as the published ones are of longer runs.",
            "",
            *_curve_table(short, place),
            "",
        ]
    if queue.known:
        lines += ["## What is known of differences", "", *queue.known, ""]
    lines += ["## Not run yet", "", *_not_run(queue), ""]
    return "\n".join(lines)


def _opening(queue: Queue) -> list[str]:
    tests = [Agreement(group.test, group.test_values(METRIC)) for group in queue.groups if group.epochs is None]
    points = [
        Agreement(published, measured)
        for group in queue.groups
        for epoch, published in group.valid.items()
        if (measured := _at(group, epoch))
    ]
    lines = [
        f"Made by `{COMMAND}` from the runs in studies/published/runs.parquet and from cells.yaml beside it;",
        "not written by hand. `python studies/published/run_cells.py` makes the runs. The published numbers",
        "are from the logs of MTandHJ/CE-SCE-LLMRec (arXiv 2402.06216; bsarec: MTandHJ/RecBoard): mean ±",
        "standard deviation over 5 seeds. Measured is the mean over the seeds listed, with its own standard",
        "deviation where there is more than one.",
        "",
        *RULES,
        "",
        "The paper's other tables, its figures and a check of its claims: [figures/figures.md](figures/figures.md).",
        "Methods for the long tail: [Long-tail results](long_tail.md).",
    ]
    if not queue.groups:
        return lines
    lines += [
        "",
        f"**At most 3 % from the published: {_count(tests, 'near')} test results, {_count(points, 'near')} points of"
        f" learning curves. Inside the 95 % interval: {_count(tests, 'inside')} and {_count(points, 'inside')}.**",
        "",
        *_protocols(queue),
    ]
    return lines


def _count(compared: Sequence[Agreement], rule: str) -> str:
    return f"{sum(bool(getattr(each, rule)) for each in compared)} of {len(compared)}"


#: What older runs do not say.
_GROUPED = {"groups_by": "training interactions"}


def _protocols(queue: Queue) -> list[str]:
    runs = [run.metrics for group in queue.groups for run in group.runs]
    return list(dict.fromkeys(f"- {run['dataset']}: {protocol_line(_GROUPED | run['protocol'])}" for run in runs))


def _not_run(queue: Queue) -> list[str]:
    if not queue.missing:
        return ["All runs of cells.yaml have finished."]
    return [
        "These runs of `studies/published/cells.yaml` are planned and have not finished. A name is dataset, model,",
        "loss and seed. `_full` marks the run of all epochs of a model whose first epochs are above or are planned",
        "too.",
        "",
        *(f"- {name}" for name in queue.missing),
    ]


def _test_table(groups: Sequence[Group], place: Path) -> list[str]:
    rows = []
    for group in groups:
        measured = group.test_values(METRIC)
        parts = (group.test_values(f"{name}/{METRIC}") for name in GROUPS)
        rows.append(
            [
                *_names(group),
                _spread(measured),
                *Agreement(group.test, measured).cells(),
                *(f"{_mean(values):.4f}" if values else "-" for values in parts),
                _each(f"{run.metrics['best_epoch']} of {run.metrics['epochs']}" for run in group.runs),
                _each(_seconds(run) for run in group.runs),
                _each(_device(run) for run in group.runs),
            ]
        )
    header = [
        "dataset", "model", "loss", "seed", "measured", *COLUMNS, *GROUPS, "best epoch", "s/epoch", "device",
    ]  # fmt: skip
    return table_lines(header, rows)


def _curve_table(groups: Sequence[Group], place: Path) -> list[str]:
    rows = []
    unpublished = []
    for group in groups:
        if not group.valid and not group.changes:
            unpublished.append(f"{group.dataset} {group.model} {group.loss}")
        for epoch, published in group.valid.items():
            measured = _at(group, epoch)
            compared = Agreement(published, measured).cells() if measured else [str(published), "-", "-", "-"]
            rows.append([*_names(group), str(epoch), _spread(measured) if measured else "not measured", *compared])
    header = ["dataset", "model", "loss", "seed", "epoch", "measured", *COLUMNS]
    lines = table_lines(header, rows) if rows else []
    if unpublished:
        lines += ["", f"Run, with no published curve to compare with: {', '.join(unpublished)}."]
    return lines


def _undecided(groups: Sequence[Group]) -> list[str]:
    wide = [
        f"- {group.dataset} {group.model} {_loss(group)}: {said}"
        for group in groups
        if (said := Agreement(group.test, group.test_values(METRIC)).undecided) is not None
    ]
    return [*UNDECIDED, "", *wide, ""] if wide else []


def _at(group: Group, epoch: int) -> list[float]:
    """Each run's validation NDCG@10 at an epoch; empty unless every run was validated there."""
    values = [run.curve.get(epoch) for run in group.runs]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else []


def _names(group: Group) -> list[str]:
    return [group.dataset, group.model, _loss(group), ", ".join(str(run.metrics["seed"]) for run in group.runs)]


def _loss(group: Group) -> str:
    return f"{group.loss}, `{group.changes}`" if group.changes else group.loss


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _spread(values: Sequence[float]) -> str:
    mean = f"{_mean(values):.5f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.5f}"


def _each(texts: Any) -> str:
    """One text a seed, or one for all where they agree."""
    listed = list(texts)
    return listed[0] if len(set(listed)) == 1 else ", ".join(listed)


def _seconds(run: Run) -> str:
    seconds = run.metrics["train"]["seconds_per_epoch"]
    return "-" if seconds is None else f"{seconds:.1f}"


def _device(run: Run) -> str:
    train = run.metrics["train"]
    threads = f"{train['threads']} thread{'' if train['threads'] == 1 else 's'}"
    device = f"{train['device']} ({threads})" if train["device"] == "cpu" else train["device"]
    return device if run.precision in (None, "float32") else f"{device}, {run.precision}"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; 0, or 2 with one line on standard error for what the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).resolve().parent
    parser.add_argument("--cells", type=Path, default=here / "cells.yaml", help="what is to run")
    parser.add_argument("--published", type=Path, default=FILE, help="what was published")
    parser.add_argument("--runs", type=Path, default=RUNS, help="the finished runs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results.md", help="the page")
    arguments = parser.parse_args(argv)
    try:
        queue = read_queue(arguments.cells, arguments.runs, facts(arguments.published))
        write_text(arguments.out, page(queue, arguments.out.resolve().parent))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    n_runs = sum(len(group.runs) for group in queue.groups)
    print(f"{arguments.out}: {n_runs} runs, {len(queue.missing)} not there yet")
    return 0


if __name__ == "__main__":
    sys.exit(main())
