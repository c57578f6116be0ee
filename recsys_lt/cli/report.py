"""``python -m recsys_lt report multirun/<sweep>``: everything about some runs in one HTML file to pass around."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_lt.cli.command import exit_code
from recsys_lt.errors import UserError
from recsys_lt.runs.trust import add_trust, trusting

# Everything else is imported where it is used, so that --help answers at once.
if TYPE_CHECKING:
    from recsys_lt.training.trained import Run

NAME = "report.html"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recsys_lt report",
        description="One self-contained HTML file about a run or a sweep: what was run, the tables with their tests, "
        "learning curves, accuracy and exposure along the tail, cost, and some users with what they were recommended.",
    )
    parser.add_argument("folder", type=Path, help="a run, or a folder with runs: every metrics.json below it is one")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"where to write it (default: <folder>/{NAME})")
    parser.add_argument(
        "--metric",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="test metrics of the table, by their names in metrics.json; the first decides which cell is best "
        "(default: NDCG@10 overall and by group, HR@10)",
    )
    parser.add_argument(
        "--against",
        metavar="CELL",
        help="test against this cell, not the one that is best on validation: names that single it out, as sasrec/ce",
    )
    parser.add_argument(
        "--users",
        type=int,
        default=4,
        metavar="N",
        help="users to show, of runs with a checkpoint (default: 4; 0: none)",
    )
    add_trust(parser)
    return parser


def _run(given: argparse.Namespace) -> None:
    if given.users < 0:
        raise UserError(f"it is {given.users}", where="--users", remedy="Give a whole number, 0 for no users")
    from recsys_lt.results.report.parts import report
    from recsys_lt.runs.packed import pack_of
    from recsys_lt.system.atomic import write_text

    pack = pack_of(given.folder)
    path = given.out or (given.folder if pack is None else pack.parent) / NAME
    write_text(path, report(given.folder, given.metric, given.against, given.users, _open))
    print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)")


def _open(folder: Path) -> Run:
    from recsys_lt.training.trained import Run  # takes seconds

    return Run(folder)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report and say where; 0, or 2 with one line on standard error for what the user can mend."""
    given = _parser().parse_args(argv)
    with trusting(given.trust):
        return exit_code(lambda: _run(given))
