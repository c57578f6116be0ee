"""``python -m recsys_lt table multirun/<sweep>``: one table of a sweep, with spread and significance."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_lt.cli.command import Command, add_comparison, wide_enough

# Everything else is imported where it is used, so that --help answers at once.
if TYPE_CHECKING:
    from pandas import DataFrame

    from recsys_lt.results.comparison import Comparison
    from recsys_lt.results.significance import Difference


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="folder", help="sweeps or runs: every metrics.json below is a run"
    )
    add_comparison(parser)
    parser.add_argument(
        "--columns",
        nargs="+",
        metavar="NAME",
        help="columns to show, in this order, by their headings: loss n p, NDCG@10 (in all groups), tail/NDCG@10; "
        "the CSV has all",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table's numbers here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table here, as Markdown")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="also write it here, as LaTeX (booktabs)")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="draw the metric here as PNG, and as PDF beside it: all, head and other targets, a row a cell",
    )
    parser.add_argument(
        "--trade-off",
        type=Path,
        metavar="FILE",
        help="draw the metric of mid and tail targets against that of all and of head targets here, a point a cell",
    )
    parser.add_argument(
        "--test-groups",
        nargs="*",
        choices=("head", "mid", "tail", "nonhead", "uniform"),
        default=("nonhead",),
        metavar="GROUP",
        help="also test the users whose target is head, mid, tail or nonhead, or all with every item counted alike "
        "(uniform); default: nonhead",
    )


def frame(folders: Sequence[Path], metrics: Sequence[str] | None, against: str | None) -> DataFrame:
    """The table of runs in these folders as a data frame, as ``recsys_lt.table`` has it; see there."""
    from recsys_lt.results.comparison import compare

    return _numbers(compare(folders, metrics, against))


def _numbers(compared: Comparison) -> DataFrame:
    """A row for each cell: what it is, its means and spreads, and its differences from the reference."""
    import pandas as pd

    settings = list(dict.fromkeys(key for cell in compared.cells for key in cell.settings))
    rows = []
    for cell in compared.cells:
        row: dict[str, Any] = dict(zip(("dataset", "model", "loss", "optimizer"), cell.identity, strict=True))
        row |= {key: cell.settings.get(key, "") for key in settings}
        row |= {"n": len(cell.finished), "failed": len(cell.failed), "seeds": " ".join(map(str, cell.seeds))}
        for metric in compared.metrics:
            row[f"{metric} mean"], row[f"{metric} std"] = cell.mean_std(metric)
        for group in compared.tested:
            row |= {f"{name} {group}".strip(): value for name, value in _test(compared.difference(cell, group)).items()}
        rows.append(row)
    # As objects: an empty place would make whole numbers fractions.
    return pd.DataFrame(rows, dtype=object)


def _test(found: Difference | None) -> dict[str, Any]:
    names = ("difference", "low", "high", "p", "over", "detectable", "seeds needed")
    if found is None:
        return dict.fromkeys(names)
    over = "users and seeds" if found.over_seeds else "users"
    values = (found.value, found.low, found.high, found.p, over, found.detectable, found.seeds_needed)
    return dict(zip(names, values, strict=True))


def _run(arguments: argparse.Namespace) -> None:
    """One table of a sweep: mean and standard deviation over seeds for every cell.

    Beside them, its difference from the one that is best on validation, tested over users and seeds.
    """
    from rich.console import Console
    from rich.text import Text

    from recsys_lt.results import tables
    from recsys_lt.results.comparison import compare
    from recsys_lt.results.field_terms import term
    from recsys_lt.results.plots.run_figures import by_group, trade_off
    from recsys_lt.results.written_tables import latex, markdown, terminal
    from recsys_lt.system.atomic import write_text

    compared = compare(arguments.folders, arguments.metric, arguments.against, arguments.test_groups)
    console = Console()
    sign = "±" if console.encoding.lower().startswith("utf") else "+-"
    content = tables.content(compared, sign)
    if arguments.columns:
        content = content.only(arguments.columns)
    title = next(iter(compared.by_dataset)) if len(compared.by_dataset) == 1 else None
    table = terminal(content, title, plain=not console.is_terminal)
    mark = "bold" if console.is_terminal else "*"
    console = wide_enough(console, table)
    caption = tables.caption(compared, "bold", lambda cell: ", ".join(map(term, cell.known_parts)))
    writers: tuple[tuple[Path | None, Callable[[Path], None]], ...] = (
        (arguments.csv, lambda path: write_text(path, _numbers(compared).to_csv(index=False, lineterminator="\r\n"))),
        (arguments.markdown, lambda path: write_text(path, markdown(content, caption))),
        (arguments.latex, lambda path: write_text(path, latex(content, caption))),
        (arguments.plot, lambda path: by_group(compared, path)),
        (arguments.trade_off, lambda path: trade_off(compared, path)),
    )
    for path, write in writers:
        if path is not None:
            write(path)
    console.print(table)
    for line in tables.caption(compared, mark):
        console.print(Text(line))


main = Command(_options, _run)
