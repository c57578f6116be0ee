"""``python -m recsys_lt.table multirun/<sweep>``: one table of a sweep, with spread and significance."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_lt.errors import UserError

# Everything else is imported where it is used, so that --help answers at once.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from recsys_lt.analysis.cells import Cell
    from recsys_lt.analysis.written_tables import Content

DEFAULT_METRICS = (*(f"{group}ndcg@10" for group in ("", "head/", "mid/", "tail/", "nonhead/")), "hr@10")
#: Users tested: all of them, and those whose target is no head item.
TESTED = ("", "nonhead")
HIGHER_IS_BETTER = {"ndcg": True, "hr": True, "mrr": True, "coverage": True, "aplt": True, "gini": False}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recsys_lt.table",
        description="One table of a sweep: mean and standard deviation over seeds for every cell, and "
        "paired tests on per-user ranks against the best one.",
    )
    parser.add_argument("folder", type=Path, help="the sweep: every metrics.json below it is a run")
    parser.add_argument(
        "--metric",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="test metrics to show, by their names in metrics.json, such as ndcg@10 tail/hr@5 gini@10; the "
        "first decides which cell is best (default: NDCG@10 overall and by group, HR@10)",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table's numbers here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table here, as Markdown")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="also write it here, as LaTeX (booktabs)")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="draw NDCG@10 of head against other targets here, a point a cell (PNG)",
    )
    parser.add_argument(
        "--against",
        metavar="CELL",
        help="test against this cell, not the best one: names that single it out, such as sasrec/ce",
    )
    parser.add_argument(
        "--test",
        choices=("permutation", "t", "wilcoxon"),
        default="permutation",
        help="paired permutation test (default), t-test or Wilcoxon's",
    )
    return parser


def _goal(metric: str) -> bool | None:
    """Whether higher is better; None for a metric with no better side (ARP, exposure, users)."""
    return HIGHER_IS_BETTER.get(metric.rsplit("/", 1)[-1].split("@")[0])


def _chosen_metrics(cells: Sequence[Cell], asked: Sequence[str] | None, root: Path) -> list[str]:
    known = {key: None for cell in cells for run in cell.finished if run.metrics for key in run.metrics["test"]}
    if asked is None:
        usual = [metric for metric in DEFAULT_METRICS if metric in known]
        return usual or [metric for metric in known if re.fullmatch(r"(ndcg|hr|mrr)@\d+", metric)]
    for metric in asked:
        if metric not in known:
            some = ", ".join(key for key in known if "/" not in key) or "none"
            raise UserError(
                f"no run has a test metric {metric!r}",
                where=root,
                remedy=f"There are {some}; most also under head/, mid/, tail/ and nonhead/",
            )
    return list(dict.fromkeys(asked))


def _tested_gain(metrics: Sequence[str]) -> tuple[str, int]:
    """The per-user gain the tests are on: the first overall ranking metric shown, or NDCG@10."""
    for metric in metrics:
        if found := re.fullmatch(r"(ndcg|hr|mrr)@(\d+)", metric):
            return found[1], int(found[2])
    return "ndcg", 10


def _best(cells: Sequence[Cell], metric: str) -> float | None:
    goal = _goal(metric)
    means = [mean for cell in cells if (mean := cell.mean_std(metric)[0]) is not None]
    if goal is None or not means:
        return None
    return max(means) if goal else min(means)


def _reference(cells: Sequence[Cell], metric: str, against: str | None) -> Cell | None:
    """The cell the others of one dataset are tested against; None where the dataset has none."""
    finished = [cell for cell in cells if cell.finished]
    if against is None:
        best = _best(finished, metric)
        return next((cell for cell in finished if best is not None and cell.mean_std(metric)[0] == best), None)
    if exact := [cell for cell in finished if cell.label == against]:
        return exact[0]
    wanted = {part for part in against.split("/") if part}
    found = [cell for cell in finished if wanted and wanted <= {cell.dataset, *cell.parts}]
    if len(found) > 1:
        raise UserError(
            f"{against!r} fits {len(found)} cells",
            where="--against",
            remedy=f"Name one of {', '.join(cell.label for cell in found)}",
        )
    return found[0] if found else None


def _references(by_dataset: dict[str, list[Cell]], metric: str, against: str | None) -> dict[str, Cell | None]:
    references = {name: _reference(cells, metric, against) for name, cells in by_dataset.items()}
    if against is not None and not any(references.values()):
        labels = dict.fromkeys(cell.label for cells in by_dataset.values() for cell in cells if cell.finished)
        raise UserError(
            f"no finished cell is called {against!r}",
            where="--against",
            remedy=f"Name one of {', '.join(labels)}",
        )
    return references


_P = dict[tuple[int, str], float | None]  # by id of the cell and group of the targets


def _p_values(
    by_dataset: dict[str, list[Cell]], references: dict[str, Cell | None], gain: tuple[str, int], test: str
) -> _P:
    """Test results for every finished cell but the references, corrected for the cells of each dataset."""
    from recsys_lt.analysis.significance import holm, paired_p_value

    values: _P = {}
    for name, cells in by_dataset.items():
        reference = references[name]
        if reference is None:
            continue
        others = [cell for cell in cells if cell is not reference and cell.finished]
        for group in TESTED:
            # A k beyond the length of a model's lists has not been measured, nor can it be tested.
            metric = f"{group}/{gain[0]}@{gain[1]}".removeprefix("/")
            raw = [
                paired_p_value(cell, reference, *gain, test, group)
                if all(c.values(metric) for c in (cell, reference))
                else None
                for cell in others
            ]
            values |= {(id(cell), group): p for cell, p in zip(others, holm(raw), strict=True)}
    return values


def _shown_p(p: float | None) -> str:
    if p is None:
        return "-"
    return "<.0001" if p < 1e-4 else f"{p:.4f}".removeprefix("0")


def _shown_mean(cell: Cell, metric: str, sign: str) -> str:
    from recsys_lt.analysis.numbers import shown

    mean, std = cell.mean_std(metric)
    text = shown(metric, mean)
    # A space to break at: in a narrow terminal the spread goes below the mean.
    return text if std is None else f"{text} {sign}{shown(metric, std)}"


def _shown_n(cell: Cell) -> str:
    return f"{len(cell.finished)}" + (f" +{len(cell.failed)} failed" if cell.failed else "")


def _content(
    by_dataset: dict[str, list[Cell]],
    metrics: Sequence[str],
    references: dict[str, Cell | None],
    p_values: _P,
    sign: str,
) -> Content:
    from recsys_lt.analysis.written_tables import Content, Entry

    settings = list(dict.fromkeys(key for cells in by_dataset.values() for c in cells for key in c.settings))
    several = len(by_dataset) > 1
    names = [*(["dataset"] if several else []), "model", "loss", "optimizer", *settings]
    headings = [
        f"{measure}\n{'/'.join(group) or 'overall'}" for *group, measure in (metric.split("/") for metric in metrics)
    ]
    tested = [group for group in TESTED if any(p is not None for (_, g), p in p_values.items() if g == group)] or [""]
    headings += ["n", *(f"p\n{group}" if group else "p" for group in tested)]
    sections = []
    for dataset, cells in by_dataset.items():
        best = {metric: _best(cells, metric) if len(cells) > 1 else None for metric in metrics}
        rows = []
        for cell in cells:
            row = [Entry(part) for part in ([dataset] if several else []) + list(cell.identity[1:])]
            row += [Entry(cell.settings.get(key, "-")) for key in settings]
            for metric in metrics:
                mean = cell.mean_std(metric)[0]
                text = _shown_mean(cell, metric, sign) if cell.finished else "failed"
                row.append(Entry(text, mean is not None and mean == best[metric], not cell.finished))
            row.append(Entry(_shown_n(cell)))
            for group in tested:
                row.append(Entry("ref" if cell is references[dataset] else _shown_p(p_values.get((id(cell), group)))))
            rows.append(row)
        sections.append(rows)
    return Content(names, headings, sections)


def _table(content: Content, title: str | None, plain: bool) -> Table:
    """For a terminal; ``plain`` where bold does not survive."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), title=None if title is None else Text(title))
    for name in content.names:
        table.add_column(Text(name), no_wrap=True)
    for heading in content.headings:
        number = "@" in heading
        table.add_column(
            Text(heading, justify="right"),
            justify="right",
            min_width=7 if number else None,
            no_wrap=not number and heading != "n",
        )
    for rows in content.sections:
        for row in rows:
            table.add_row(
                *(
                    Text("*" + e.text if e.best and plain else e.text, "bold" if e.best else "red" if e.failed else "")
                    for e in row
                )
            )
        table.add_section()
    return table


def _caption(
    by_dataset: dict[str, list[Cell]],
    references: dict[str, Cell | None],
    gain: tuple[str, int],
    test: str,
    p_values: _P,
    root: Path,
    console: Console,
) -> list[str]:
    cells = [cell for group in by_dataset.values() for cell in group]
    mark = "bold" if console.is_terminal else "*"
    lines = [f"Test metrics, mean and sample standard deviation over n runs (seeds); {mark}: best of its dataset."]
    name = {
        "permutation": "paired permutation test",
        "t": "paired t-test",
        "wilcoxon": "Wilcoxon signed-rank test",
    }[test]
    against = "; ".join(
        (f"{dataset}: " if len(references) > 1 else "") + (cell.label if cell else "no such cell")
        for dataset, cell in references.items()
    )
    if any(p is not None for p in p_values.values()):
        lines.append(
            f"p: two-sided {name} over users on {gain[0].upper()}@{gain[1]}, each user averaged over the "
            f"seeds both cells have, against {against} (ref). It speaks of which users were drawn, not of "
            "the spread over seeds. Corrected by Holm for the cells of a dataset; nonhead: users whose target is "
            "mid or tail."
        )
    elif p_values:
        lines.append(f"p: no test against {against} (ref): no common seed, no ranks.parquet or other users.")
    for cell in cells:
        repeated = sorted({str(seed) for seed in cell.seeds if cell.seeds.count(seed) > 1})
        if repeated:
            lines.append(f"Seed {', '.join(repeated)} occurs more than once in {cell.dataset} {cell.label}.")
    for run in (run for cell in cells for run in cell.failed):
        lines.append(f"Failed or unfinished: {run.folder.relative_to(root)} (seed {run.seed})")
    return lines


def _write_csv(path: Path, by_dataset: dict[str, list[Cell]], metrics: Sequence[str], p_values: _P) -> None:
    import csv

    from recsys_lt.atomic import replacing

    cells = [cell for group in by_dataset.values() for cell in group]
    settings = list(dict.fromkeys(key for cell in cells for key in cell.settings))
    header = ["dataset", "model", "loss", "optimizer", *settings, "n", "failed", "seeds"]
    header += [f"{metric} {part}" for metric in metrics for part in ("mean", "std")]
    header += [f"p {group}".strip() for group in TESTED]
    try:
        with replacing(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for cell in cells:
                numbers = [value for metric in metrics for value in cell.mean_std(metric)]
                numbers += [p_values.get((id(cell), group)) for group in TESTED]
                writer.writerow(
                    [
                        *cell.identity,
                        *(cell.settings.get(key, "") for key in settings),
                        len(cell.finished),
                        len(cell.failed),
                        " ".join(str(seed) for seed in cell.seeds),
                        *("" if v is None or math.isnan(v) else repr(v) for v in numbers),
                    ]
                )
    except OSError as error:
        what = f"cannot be written ({error.strerror})"
        raise UserError(what, where=path, remedy="Name another file") from error


def _write_others(arguments: argparse.Namespace, content: Content, cells: Sequence[Cell]) -> None:
    from recsys_lt.analysis.tradeoff import tradeoff
    from recsys_lt.analysis.written_tables import latex, markdown
    from recsys_lt.atomic import write_text

    for path, write in (
        (arguments.markdown, lambda path: write_text(path, markdown(content))),
        (arguments.latex, lambda path: write_text(path, latex(content))),
        (arguments.plot, lambda path: tradeoff(cells, path)),
    ):
        if path is None:
            continue
        try:
            write(path)
        except OSError as error:
            what = f"cannot be written ({error.strerror})"
            raise UserError(what, where=path, remedy="Name another file") from error


def _run(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.measure import Measurement
    from rich.text import Text

    from recsys_lt.analysis.cells import cells_of
    from recsys_lt.analysis.runs import find_runs

    root: Path = arguments.folder
    by_dataset: dict[str, list[Cell]] = {}
    for cell in cells_of(find_runs(root)):
        by_dataset.setdefault(cell.dataset, []).append(cell)
    metrics = _chosen_metrics([c for cells in by_dataset.values() for c in cells], arguments.metric, root)
    gain = _tested_gain(metrics)
    decisive = next((metric for metric in metrics if _goal(metric) is not None), "ndcg@10")
    references = _references(by_dataset, decisive, arguments.against)
    p_values = _p_values(by_dataset, references, gain, arguments.test)

    console = Console()
    sign = "±" if console.encoding.lower().startswith("utf") else "+-"
    content = _content(by_dataset, metrics, references, p_values, sign)
    title = next(iter(by_dataset)) if len(by_dataset) == 1 else None
    table = _table(content, title, plain=not console.is_terminal)
    wanted = Measurement.get(console, console.options.update(max_width=10_000), table)
    # A file has no edge to fold at. In a terminal the spread folds below the mean; where even that is too
    # wide the terminal wraps the lines: rich would drop the last columns instead.
    width = wanted.minimum if console.is_terminal else wanted.maximum
    console = Console(width=max(console.width, width))
    if arguments.csv is not None:
        _write_csv(arguments.csv, by_dataset, metrics, p_values)
    _write_others(arguments, content, [cell for cells in by_dataset.values() for cell in cells])
    console.print(table)
    for line in _caption(by_dataset, references, gain, arguments.test, p_values, root, console):
        console.print(Text(line))


def print_table(folder: Path) -> None:
    """Print the table of a sweep.

    Raises
    ------
    UserError
        If the runs in the folder make no table.
    """
    _run(_parser().parse_args([str(folder)]))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 0, or 2 with one line on standard error for what the user can mend."""
    arguments = _parser().parse_args(argv)
    try:
        _run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
