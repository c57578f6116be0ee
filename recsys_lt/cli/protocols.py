"""``python -m recsys_lt protocols outputs/<run>``: one checkpoint ranked under every protocol, side by side."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_lt.cli.command import Command, check_least, wide_enough
from recsys_lt.errors import UserError
from recsys_lt.runs.trust import add_trust

# Everything else is imported where it is used, so that --help answers at once.
if TYPE_CHECKING:
    from recsys_lt.recommenders.protocols import Standings
    from recsys_lt.results.protocol_card import ProtocolCard
    from recsys_lt.training.trained import Run


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="folder", help="runs, or folders with runs; each with its best.ckpt"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random items of the sampled rankings (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the tables here, as Markdown")
    add_trust(parser)


def _cards(folders: Sequence[Path], seed: int) -> Iterator[ProtocolCard]:
    """The card of each cell of the runs in these folders; a run that lies in several of them counts once."""
    from recsys_lt.results.cells import finished_cells
    from recsys_lt.results.protocol_card import protocol_card
    from recsys_lt.training.trained import Run

    for cell in finished_cells(folders):
        runs = [Run(run.folder) for run in cell.finished]
        mask = runs[0].parts.metrics.mask_seen
        yield protocol_card(cell.identity, mask, cell.seeds, [_standings(run, seed) for run in runs])


def _standings(run: Run, seed: int) -> Standings:
    from rich.console import Console

    from recsys_lt.data.loader import users_with_target
    from recsys_lt.recommenders.protocols import standings

    run.check_events()
    users = users_with_target(run.data, "test", run.parts.metrics.max_users)
    with Console(stderr=True).status(f"ranking for {len(users):,} users"):
        found = standings(run.model, run.data, users, seed, run.parts.trainer.rank_rows)
    if found is None:
        what = f"{type(run.model).__name__} gives a list of items, and no score of every item"
        remedy = "Name a run of a model that scores all items, such as model=sasrec"
        raise UserError(what, where=run.folder, remedy=remedy)
    return found


def _run(given: argparse.Namespace) -> None:
    """One checkpoint ranked under every protocol of the field, side by side: why a number is not the paper's.

    Seen items masked or not, ties against the target or for it, all items or 100 random ones. Runs that differ in
    nothing but the seed are one table, with mean and spread.
    """
    check_least(0, seed=given.seed)
    from rich.console import Console
    from rich.text import Text

    from recsys_lt.results.written_tables import markdown, terminal
    from recsys_lt.system.atomic import write_json, write_text

    console = Console()
    sign = "±" if console.encoding.lower().startswith("utf") else "+-"
    cards = []
    for card in _cards(given.folders, given.seed):
        cards.append(card)
        table = terminal(card.content(sign), card.title, plain=not console.is_terminal)
        wide_enough(console, table).print(table)
    if given.json is not None:
        write_json(given.json, [card.numbers() for card in cards])
    if given.markdown is not None:
        parts = (f"## {card.title}\n\n{markdown(card.content(), card.caption('bold'))}" for card in cards)
        write_text(given.markdown, "\n".join(parts))
    mark = "bold" if console.is_terminal else "*"
    for line in cards[-1].caption(mark):
        console.print(Text(line))


main = Command(_options, _run)
