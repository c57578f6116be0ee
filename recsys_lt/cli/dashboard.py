"""``python -m recsys_lt dashboard ENTITY/PROJECT``: the W&B workspace, the same for everybody."""

from __future__ import annotations

import argparse

from recsys_lt.cli.command import Command
from recsys_lt.errors import UserError

# Everything else is imported where it is used, so that --help answers at once.


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", metavar="ENTITY/PROJECT", help="the W&B user or team, and its project")
    parser.add_argument("--dataset", metavar="NAME", help="show the runs of this dataset alone")
    parser.add_argument(
        "--view", metavar="URL", help="bring this saved view up to date (what follows nw= will do); else a new one"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the panels and send nothing")


def _show() -> None:
    from rich.console import Console

    from recsys_lt.results.wandb_workspace import GROUPED_BY, SECTIONS

    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"runs grouped by {', '.join(GROUPED_BY)}")
    for section in SECTIONS:
        console.print(f"\n{section.name} ({section.columns} x {section.rows}{'' if section.is_open else ', closed'})")
        for panel in section.panels:
            console.print(f"  {panel.kind:<8} {panel.title}: {', '.join(panel.keys)}")


def _run(arguments: argparse.Namespace) -> None:
    """Save a Weights & Biases workspace view.

    Runs are grouped by dataset, model, loss and optimizer; it shows accuracy, long tail, learning curves, cost and
    pictures.
    """
    entity, _, project = arguments.project.partition("/")
    if not entity or not project or "/" in project:
        raise UserError(
            f"{arguments.project!r} is not an entity and a project",
            where="ENTITY/PROJECT",
            remedy="Name both, as in my-team/recsys_lt",
        )
    if arguments.dry_run:
        _show()
        return
    from recsys_lt.results.wandb_workspace import save
    from recsys_lt.training.loggers import has_key

    print(save(entity, project, has_key(), arguments.dataset, arguments.view))


main = Command(_options, _run)
