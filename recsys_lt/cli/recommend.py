"""``python -m recsys_lt recommend outputs/<run> --user 42``: what a trained run recommends to a user."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_lt.cli.command import exit_code
from recsys_lt.errors import UserError
from recsys_lt.runs.trust import add_trust, trusting

# Everything else is imported where it is used, so that --help answers at once.
if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from recsys_lt.recommenders.lists import Recommendation

#: Columns a title is folded to in a narrow terminal, at the least.
_TITLE = 16


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recsys_lt recommend",
        description="The first k items a trained run recommends to a user, from the user's whole history "
        "(validation and test events included). Items seen before are left out if the run's "
        "metrics.mask_seen says so.",
    )
    parser.add_argument("folder", type=Path, help="the run: a folder with config.yaml and best.ckpt")
    parser.add_argument(
        "--user",
        nargs="+",
        action="extend",
        required=True,
        metavar="ID",
        help="user id as the dataset's source writes it; may be given several times",
    )
    parser.add_argument("--k", type=int, default=10, help="length of the list (default: 10)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the lists here")
    add_trust(parser)
    return parser


def _table(columns: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> RenderableType:
    """A table of plain text: titles may hold what rich would take for markup."""
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    # A dataset without titles needs no column of nothing.
    kept = [c for c, (name, _) in enumerate(columns) if name != "title" or any(row[c] for row in rows)]
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for c in kept:
        name, is_number = columns[c]
        texts = [*name.split(), *(row[c] for row in rows)]
        # Titles fold in a narrow terminal; numbers and ids cut short would be others.
        least = min(_TITLE, max(map(cell_len, texts))) if name == "title" else max(map(cell_len, texts))
        table.add_column(name, justify="right" if is_number else "left", min_width=least, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[c]) for c in kept))
    return table


def _said(score: float, digits: str) -> str:
    return "" if math.isinf(score) else f"{score:{digits}}"  # a re-ranker scores its candidates alone


def _show(console: Console, one: Recommendation, k: int) -> None:
    from rich.console import Console
    from rich.measure import Measurement
    from rich.text import Text

    n = len(one.recent)
    shown = "all of them" if n == one.events else f"the last {n}"
    first = one.events - n + 1
    history = _table(
        (("event", True), ("item", False), ("title", False)),
        [(str(place), *event) for place, event in enumerate(one.recent, start=first)],
    )
    ranked = _table(
        (
            ("rank", True), ("item", False), ("title", False), ("score", True),
            ("group", False), ("training interactions", True),
        ),
        [
            (str(i.rank), i.item, i.title, _said(i.score, "#.4g"), i.group, f"{i.interactions:,}")
            for i in one.items
        ],
    )  # fmt: skip
    # A file has no edge to fold at, and a narrow terminal wraps: rich would drop the last columns instead.
    for title, table in (
        (f"user {one.user}: {one.events} events, {shown}", history),
        ("recommended next", ranked),
    ):
        wanted = Measurement.get(console, console.options.update(max_width=10_000), table)
        needed = wanted.minimum if console.is_terminal else wanted.maximum
        wide = Console(width=max(console.width, needed), file=console.file)
        wide.print(Text(title, style="bold"))
        wide.print(table)
    if len(one.items) < k:
        console.print(Text(f"Only {len(one.items)} items: the others were seen before, or the model lists no more.\n"))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the lists; 0, or 2 with one line on standard error for what the user can mend."""
    arguments = _parser().parse_args(argv)
    with trusting(arguments.trust):
        return exit_code(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from recsys_lt.recommenders.lists import frame
    from recsys_lt.system.atomic import write_text
    from recsys_lt.training.trained import Run

    if arguments.k < 1:  # said before the run is read
        raise UserError(f"it is {arguments.k}", where="--k", remedy="Give a whole number of at least 1")
    lists = Run(arguments.folder).lists(arguments.user, k=arguments.k)
    if arguments.csv is not None:
        table = frame(lists)
        write_text(arguments.csv, table.to_csv(index=False, float_format="%.8g", lineterminator="\r\n"))

    console = Console()
    for one in lists:
        _show(console, one, arguments.k)
