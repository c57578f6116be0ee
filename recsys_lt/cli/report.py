"""``python -m recsys_lt report multirun/<sweep>``: the HTML report of runs, in one file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_lt.cli.command import Command, add_comparison, check_least
from recsys_lt.errors import UserError
from recsys_lt.runs.run_folder import REPORT
from recsys_lt.runs.trust import add_trust

# Everything else is imported where it is used, so that --help answers at once.
if TYPE_CHECKING:
    from recsys_lt.training.trained import Run


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a run, or a folder with runs: every metrics.json below it is one")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"where to write it (default: <folder>/{REPORT})")
    add_comparison(parser)
    parser.add_argument(
        "--users",
        type=int,
        default=4,
        metavar="N",
        help="users to show, of runs with a checkpoint (default: 4; 0: none)",
    )
    parser.add_argument(
        "--data",
        action="store_true",
        help="also what `recsys_lt dataset` says of the data, of runs with a checkpoint (as slow as that command)",
    )
    add_trust(parser)


def _run(given: argparse.Namespace) -> None:
    """One self-contained HTML file about a run or a sweep.

    What was run, the tables with their tests, learning curves, accuracy and exposure along the tail, cost, and some
    users with what they were recommended.
    """
    check_least(0, users=given.users)
    from recsys_lt.results.report.parts import report
    from recsys_lt.runs.packed import pack_of
    from recsys_lt.system.atomic import write_text

    pack = pack_of(given.folder)
    path = given.out or (given.folder if pack is None else pack.parent) / REPORT
    write_text(path, report(given.folder, given.metric, given.against, given.users, _opened, given.data))
    print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)")


def _opened(folder: Path) -> Run:
    """The run in a folder; one that cannot be loaded is said here, and the page shows no lists of it."""
    from recsys_lt.training.trained import Run

    try:
        return Run(folder)
    except UserError as error:
        print(f"note: lists are left out: {error}", file=sys.stderr)
        raise


main = Command(_options, _run)
