"""``python -m recsys_lt candidates outputs/<run> ...``: targets ranked among a few unseen items."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_lt.cli.command import Command, check_least, wide_enough
from recsys_lt.errors import UserError
from recsys_lt.runs.trust import add_trust

# Everything else is imported where it is used, so that --help answers at once.
if TYPE_CHECKING:
    from recsys_lt.data.sequences import Sequences
    from recsys_lt.recommenders.shortlists import Shortlists
    from recsys_lt.results.cells import Cell
    from recsys_lt.results.shortlist_table import Measured
    from recsys_lt.runs.listing import ListedRun
    from recsys_lt.training.trained import Run


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="folder", help="runs, or folders with runs; each needs its best.ckpt"
    )
    parser.add_argument("--others", type=int, default=19, help="number of unseen items per target (default: 19)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the items and of the target's position (default: 0)"
    )
    parser.add_argument(
        "--stage", choices=("test", "valid"), default="test", help="whose targets to rank (default: test)"
    )
    parser.add_argument("--users", type=int, help="number of users to rank, the same for every run (default: all)")
    parser.add_argument("--against", metavar="CELL", help="test HR@1 of every cell against this one, such as sasrec/ce")
    parser.add_argument("--lists", type=Path, metavar="FILE", help="also write the candidates here (TSV)")
    parser.add_argument("--ranks", type=Path, metavar="FILE", help="also write each run's ranks here (TSV)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table here, as Markdown")
    add_trust(parser)


def _run(given: argparse.Namespace) -> None:
    """HR@1, MRR and NDCG@5 of each target among 19 items that its user has not seen, and popularity of the first items.

    Every run gets the same candidates. Models that are too slow for a full ranking can be compared in this way. Do not
    compare the numbers with those of full rankings.
    """
    check_least(1, others=given.others, users=given.users)
    check_least(0, seed=given.seed)
    from rich.console import Console
    from rich.text import Text

    from recsys_lt.results.cells import finished_cells
    from recsys_lt.results.comparison import references_of
    from recsys_lt.results.shortlist_table import ShortlistTable
    from recsys_lt.results.written_tables import markdown, terminal
    from recsys_lt.system.atomic import write_json, write_text

    cells = finished_cells(given.folders)
    if len({cell.dataset for cell in cells}) != 1:
        names = ", ".join(dict.fromkeys(cell.dataset for cell in cells))
        what, remedy = f"the datasets of the finished runs are: {names}", "Name finished runs of one dataset"
        raise UserError(what, where="candidates", remedy=remedy)
    # A name that fits no cell is refused before anything is ranked.
    reference: Cell | None = None
    if given.against is not None:
        (reference,) = references_of({cells[0].dataset: cells}, "hr@1", given.against).values()
    measured: dict[str, list[Measured]] = {}
    every = [(cell, run) for cell in cells for run in cell.finished]
    data: Sequences | None = None
    if len(every) > 1:  # a run that cannot be ranked is refused before the others are ranked, which may take minutes
        for _, run in every:
            data = _ranked(run, given, 1, data)[0].data
    for cell, run in every:
        one, data = _measured(run, given, data)
        measured.setdefault("/".join(cell.known_parts), []).append(one)
    assert data is not None
    table = ShortlistTable.of(data.name, measured, None if reference is None else "/".join(reference.known_parts))
    console = Console()
    plain = not console.is_terminal
    content = table.content("±" if console.encoding.lower().startswith("utf") else "+-")
    wide_enough(console, terminal(content, table.title, plain=plain)).print(terminal(content, table.title, plain=plain))
    for line in table.caption():
        console.print(Text(line))
    if given.lists is not None:
        write_text(given.lists, _lists(data, next(iter(measured.values()))[0].found))
    if given.ranks is not None:
        write_text(given.ranks, _ranks(data, measured))
    if given.json is not None:
        write_json(given.json, table.numbers())
    if given.markdown is not None:
        write_text(given.markdown, f"## {table.title}\n\n{markdown(table.content(), table.caption())}")


def _measured(listed: ListedRun, given: argparse.Namespace, data: Sequences | None) -> tuple[Measured, Sequences]:
    """A run's lists and their metrics; the data it was trained on, which must be ``data`` where those are known."""
    from recsys_lt.data.item_data import ATTRIBUTES
    from recsys_lt.metrics.shortlists import shortlist_metrics
    from recsys_lt.results.shortlist_table import Measured

    run, found = _ranked(listed, given, given.users, data)
    genres = run.data.item_data.get(ATTRIBUTES)
    values = shortlist_metrics(
        found.ranks, found.targets, found.first, given.others + 1, run.data.popularity, run.groups.of,
        None if genres is None else [str(each) for each in genres],
    )  # fmt: skip
    return Measured(listed.seed, found, values), run.data


def _ranked(
    listed: ListedRun, given: argparse.Namespace, n_users: int | None, data: Sequences | None
) -> tuple[Run, Shortlists]:
    """A run and its lists for some users (None: all); UserError if it has no scores, or other data than ``data``."""
    from rich.console import Console

    from recsys_lt.data.loader import users_with_target
    from recsys_lt.recommenders.shortlists import shortlists
    from recsys_lt.training.trained import Run

    run = Run(listed.folder)
    run.check_events()
    if data is not None and run.data.fingerprint != data.fingerprint:
        what = "it was trained on other events than the runs before it"
        raise UserError(what, where=listed.folder, remedy="Name runs of the same data and split")
    users = users_with_target(run.data, given.stage, n_users)
    with Console(stderr=True).status(f"ranking for {len(users):,} users"):
        rows = run.parts.trainer.rank_rows
        found = shortlists(run.model, run.data, users, given.others, given.seed, given.stage, rows)
    if found is None:
        what = f"{type(run.model).__name__} gives a list of items, and no score of an item"
        raise UserError(what, where=listed.folder, remedy="Name a run of another model, such as model=sasrec")
    return run, found


def _lists(data: Sequences, found: Shortlists) -> str:
    """A line a user: the user, the target's place from 1, and the candidates, by the source's ids."""
    names = ["user", "position", *(f"item_{n}" for n in range(1, found.items.shape[1] + 1))]
    lines = [
        [data.user_ids[user], str(place + 1), *data.item_ids[items]]
        for user, place, items in zip(found.users, found.places.tolist(), found.items, strict=True)
    ]
    return _tsv([names, *lines])


def _ranks(data: Sequences, measured: dict[str, list[Measured]]) -> str:
    """A line a user of each run: the rank of the target, the item that is ranked first, its training interactions."""
    lines = [
        [cell, str(one.seed), data.user_ids[user], str(rank), data.item_ids[first], str(data.popularity[first])]
        for cell, runs in measured.items()
        for one in runs
        for user, rank, first in zip(one.found.users, one.found.ranks.tolist(), one.found.first, strict=True)
    ]
    return _tsv([["cell", "seed", "user", "rank", "first", "interactions"], *lines])


def _tsv(lines: Sequence[Sequence[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, delimiter="\t", lineterminator="\n").writerows(lines)
    return file.getvalue()


main = Command(_options, _run)
