"""``python -m recsys_lt recommend outputs/<run> --user 42``: top-k lists of a trained run."""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_lt.cli.command import Command, check_least, wide_enough
from recsys_lt.errors import UserError, one_line
from recsys_lt.runs.trust import add_trust
from recsys_lt.system.atomic import replacing
from recsys_lt.system.machine import refusals

# Everything else is imported where it is used, so that --help answers at once.
if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from recsys_lt.recommenders.lists import Item, Recommendation
    from recsys_lt.training.trained import Run

#: Columns a title is folded to in a narrow terminal, at the least.
_TITLE = 16
#: Columns of a list, and which of a table's columns are numbers.
_RANKED = ("rank", "item", "title", "score", "group", "training interactions", "because of")
_NUMBERS = ("event", "rank", "score", "training interactions")
#: Users in a table that is written at once.
_USERS = 1024


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the run: a folder with config.yaml and best.ckpt")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument(
        "--user",
        nargs="+",
        action="extend",
        metavar="ID",
        help="user id as the dataset's source writes it; may be given several times",
    )
    who.add_argument("--users", type=Path, metavar="FILE", help="a text file with one user id a line")
    who.add_argument("--all", action="store_true", help="all users of the dataset; needs --csv or --parquet")
    who.add_argument(
        "--history",
        action="append",
        metavar="ID,ID,...",
        help="item ids of a new user's events, oldest first; may be given several times",
    )
    who.add_argument(
        "--histories",
        type=Path,
        metavar="FILE",
        help="new users' events: a .csv, .tsv or .parquet with columns user, item and perhaps timestamp, or the run's "
        "dataset.columns; without times the rows stand in order",
    )
    parser.add_argument("--k", type=int, default=10, help="length of the list (default: 10)")
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="ID,ID,...", help="items to recommend to nobody"
    )
    parser.add_argument(
        "--exclude-file", type=Path, metavar="FILE", help="the same from a text file, one item id a line"
    )
    parser.add_argument(
        "--reasons",
        action="store_true",
        help="show the events of the history that raised each item's score most: how far the score (less the mean "
        "score of all items) falls when the event is left out",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--csv", type=Path, metavar="FILE", help="write the lists here instead of printing them")
    output.add_argument("--parquet", type=Path, metavar="FILE", help="the same as Parquet")
    add_trust(parser)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of plain text: titles may hold what rich would take for markup."""
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    # A dataset without titles needs no column of nothing.
    columns = [(name, [row[c] for row in rows]) for c, name in enumerate(names)]
    columns = [(name, texts) for name, texts in columns if name != "title" or any(texts)]
    for name, texts in columns:
        # Titles fold in a narrow terminal; numbers and ids cut short would be others.
        widest = max(map(cell_len, [*name.split(), *texts]))
        least = min(_TITLE, widest) if name == "title" else widest
        table.add_column(name, justify="right" if name in _NUMBERS else "left", min_width=least, overflow="fold")
    for row in zip(*(texts for _, texts in columns), strict=True):
        table.add_row(*(Text(one_line(text)) for text in row))  # a stranger's titles may hold what a terminal obeys
    return table


def _row(item: Item) -> list[str]:
    score = "" if math.isinf(item.score) else f"{item.score:#.4g}"  # a re-ranker scores its candidates alone
    because = (r.item if math.isnan(r.drop) else f"{r.item} ({r.drop:.3g})" for r in item.reasons)
    return [str(item.rank), item.item, item.title, score, item.group, f"{item.interactions:,}", ", ".join(because)]


def _show(console: Console, one: Recommendation, k: int, reasons: bool) -> None:
    from rich.text import Text

    n = len(one.recent)
    shown = "all of them" if n == one.events else f"the last {n}"
    events = [(str(place), *event) for place, event in enumerate(one.recent, start=one.events - n + 1)]
    ranked = _RANKED if reasons else _RANKED[:-1]
    for title, table in (
        (f"user {one.user}: {one.events} events, {shown}", _table(("event", "item", "title"), events)),
        ("recommended next", _table(ranked, list(map(_row, one.items)))),
    ):
        wide = wide_enough(console, table)
        wide.print(Text(title, style="bold"))
        wide.print(table)
    if len(one.items) < k:
        console.print(Text(f"Only {len(one.items)} items: the others were seen before, or the model lists no more.\n"))


def _run(arguments: argparse.Namespace) -> None:
    """The first k items that a trained run recommends.

    They are for users of its dataset (from their whole histories, validation and test events included) or for anybody
    else (from histories that you give). Items seen before are left out if the run's metrics.mask_seen says so.
    """
    from rich.console import Console

    from recsys_lt.training.trained import Run

    check_least(1, k=arguments.k)  # said before the run is read
    path = arguments.csv or arguments.parquet
    if arguments.all and path is None:
        raise UserError("lists of all users are not printed", where="--all", remedy="Add --csv FILE or --parquet FILE")
    exclude = [item for each in arguments.exclude for item in each.split(",") if item]
    if arguments.exclude_file is not None:
        exclude += _lines(arguments.exclude_file, "item")
    whom = _whom(arguments)
    run = Run(arguments.folder)
    if arguments.all:
        whom = {"users": run.data.user_ids.tolist()}
    elif arguments.histories is not None:
        own = run.config.dataset.get("columns") or {}
        whom = {"histories": _known(_histories(arguments.histories, own), run)}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        lists = run.lists(**whom, k=arguments.k, exclude=exclude, reasons=arguments.reasons)
    for each in said:
        print(f"note: {one_line(str(each.message))}", file=sys.stderr)
    if path is not None:
        n = len(set(next(iter(whom.values()))))
        write = _csv if arguments.csv else _parquet
        with replacing(path) as temporary:
            write(temporary, _frames(lists, n, arguments.reasons))
        print(f"{path}: lists of {n:,} users")
        return
    console = Console()
    for one in lists:
        _show(console, one, arguments.k, arguments.reasons)


def _whom(arguments: argparse.Namespace) -> dict[str, Any]:
    """For whom the lists are: ``users`` or ``histories`` of ``Run.lists``; nothing for what needs the run."""
    if arguments.user is not None:
        return {"users": arguments.user}
    if arguments.users is not None:
        return {"users": _lines(arguments.users, "user")}
    if arguments.history is not None:
        names = ["new", *(f"new {n}" for n in range(2, len(arguments.history) + 1))]
        histories = [[item for item in each.split(",") if item] for each in arguments.history]
        return {"histories": dict(zip(names, histories, strict=True))}
    return {}


def _known(histories: dict[str, list[str]], run: Run) -> dict[str, list[str]]:
    """The histories that hold an item of the run, in a note how many do not; all of them if none does."""
    index = run.catalogue.item_index
    known = {user: history for user, history in histories.items() if any(item in index for item in history)}
    if known and len(known) < len(histories):
        n = len(histories) - len(known)
        print(f"note: {n:,} of {len(histories):,} users are left out: none of their items is known", file=sys.stderr)
    return known or histories


def _lines(path: Path, what: str) -> list[str]:
    """The ids in a text file, one a line, each once."""
    with refusals(path):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise UserError("it is no UTF-8 text", where=path, remedy=f"Write one {what} id a line") from error
    found = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not found:
        raise UserError("it is empty", where=path, remedy=f"Write one {what} id a line")
    return found


def _histories(path: Path, own: Mapping[str, str]) -> dict[str, list[str]]:
    """Item ids of each user's events in a table, oldest first.

    Its headers are those of ``dataset.columns`` of the run (``own``, by role), or user, item and timestamp.
    """
    import numpy as np

    from recsys_lt.data.formats.events import COLUMNS, read_events
    from recsys_lt.data.formats.items import TABLES

    form = TABLES.get(path.suffix.lower())
    if form is None or not path.is_file():
        what = "there is no such file" if form is not None else "files of this kind are not read"
        raise UserError(what, where=path, remedy="Give a .csv, .tsv or .parquet with columns user and item")
    headers = form.headers(path)
    columns = {role: own[role] if own.get(role) in headers else usual for role, usual in COLUMNS.items()}
    if lacking := [columns[role] for role in ("user", "item") if columns[role] not in headers]:
        what = f"no column named {' or '.join(lacking)} (found: {', '.join(headers)})"
        raise UserError(what, where=path, remedy="Rename the columns to user, item and timestamp")
    events = read_events(form, path, columns)
    order = np.lexsort((*(() if events.times is None else (events.times,)), events.users))  # stable
    items = events.item_ids[events.items[order]]
    ends = np.cumsum(np.bincount(events.users, minlength=len(events.user_ids)))
    return dict(zip(map(str, events.user_ids), (list(part) for part in np.split(items, ends[:-1])), strict=True))


def _frames(lists: Iterable[Recommendation], n: int, reasons: bool) -> Iterator[pd.DataFrame]:
    """The lists as tables of some users each, with progress on a terminal."""
    from rich.console import Console
    from rich.progress import track

    from recsys_lt.recommenders.lists import frame

    console = Console(stderr=True)
    shown = track(lists, "recommending", n, console=console, transient=True, disable=not console.is_terminal)
    while some := list(islice(shown, _USERS)):
        yield frame(some, reasons)


def _csv(path: Path, frames: Iterable[pd.DataFrame]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for number, table in enumerate(frames):
            table.to_csv(file, index=False, header=number == 0, float_format="%.8g", lineterminator="\r\n")


def _parquet(path: Path, frames: Iterable[pd.DataFrame]) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    kinds = {"rank": pa.int32(), "score": pa.float64(), "training_interactions": pa.int64()}
    writer: Any = None
    for table in frames:
        schema = pa.schema([(name, kinds.get(name, pa.string())) for name in table.columns])
        writer = writer or ParquetWriter(path, schema)
        writer.write_table(pa.Table.from_pandas(table, schema, preserve_index=False))
    writer.close()


main = Command(_options, _run)
