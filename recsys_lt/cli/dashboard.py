"""``python -m recsys_lt dashboard ENTITY/PROJECT``: a W&B workspace with the panels of ``dashboard.yaml``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_lt.cli.command import Command
from recsys_lt.errors import UserError
from recsys_lt.system.package import check_installed

# Everything else is imported where it is used, so that --help answers at once.
if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

#: Its sections, and the panels in them.
FILE = Path(__file__).with_suffix(".yaml")
#: W&B's own limit is ten runs, fewer than a small sweep has.
_MOST = 100


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", metavar="ENTITY/PROJECT", help="the W&B user or team, and its project")
    parser.add_argument("--dataset", metavar="NAME", help="show the runs of this dataset alone")
    parser.add_argument("--dry-run", action="store_true", help="print the panels and send nothing")


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
        print(FILE.read_text(encoding="utf-8"), end="")
    else:
        print(save(entity, project, arguments.dataset))


def workspace(entity: str, project: str, dataset: str | None = None) -> Workspace:
    """The workspace, not yet sent anywhere; of the runs of one dataset, or None for all."""
    import yaml
    from wandb_workspaces import workspaces as ws

    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    sections = [
        ws.Section(
            name=section["name"],
            panels=[_panel(*panel) for panel in section["panels"]],
            is_open=not section.get("closed", False),
            layout_settings=ws.SectionLayoutSettings(
                columns=section["columns"], rows=-(-len(section["panels"]) // section["columns"])
            ),
            # A section's own settings stand above the workspace's.
            panel_settings=ws.SectionPanelSettings(x_axis="epoch", smoothing_type="none"),
        )
        for section in content["sections"]
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name="recsys_lt" if dataset is None else f"recsys_lt: {dataset}",
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="epoch", smoothing_type="none", max_runs=_MOST),
        runset_settings=ws.RunsetSettings(
            filters="" if dataset is None else ws.And(ws.Config("dataset") == dataset),
            groupby=[ws.Config(name) for name in content["grouped_by"]],
            # Bars stand in this order, and beyond the limit of a panel the last are left out.
            order=[ws.Ordering(ws.Summary("test/ndcg@10"), ascending=False)],
            pinned_columns=[f"summary:{key}" for key in content["columns"]],
        ),
    )


def _panel(kind: str, title: str, *keys: str) -> Any:
    """A panel of wandb-workspaces."""
    from wandb_workspaces.reports import v2

    over_seeds = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev", "max_runs_to_show": _MOST}
    match kind:
        case "bars":
            return v2.BarPlot(title=title, metrics=list(keys), max_bars_to_show=_MOST, **over_seeds)
        case "curve":
            names = {"title_x": "completed epochs", "smoothing_type": "none"}
            return v2.LinePlot(title=title, x=keys[0], y=list(keys[1:]), **names, **over_seeds)
        case "points":
            return v2.ScatterPlot(title=title, x=keys[0], y=keys[1])
        case _:
            return v2.MediaBrowser(title=title, media_keys=list(keys))


def save(entity: str, project: str, dataset: str | None = None) -> str:
    """Save the workspace as a new view of a project that is there; the URL of the view.

    UserError if the package is missing, nobody is logged in, W&B does not answer, or it does not have the project.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.parse import urlsplit
    from urllib.request import urlopen

    from recsys_lt.training.loggers import has_key

    check_installed("dashboard", "dashboard", "wandb_workspaces")
    import wandb

    if not has_key():
        remedy = "Run wandb login, or set WANDB_API_KEY; --dry-run does without it"
        raise UserError("no W&B API key is configured", where="dashboard", remedy=remedy)
    wandb.setup(wandb.Settings(silent=True))
    server = os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url
    try:
        # wandb itself tries for minutes, and its process outlives ours meanwhile.
        urlopen(server, timeout=10).close()
    except HTTPError:
        pass  # an answer
    except (OSError, HTTPException, ValueError) as error:
        remedy = "Check the network and WANDB_BASE_URL; --dry-run does without them"
        raise UserError("no answer from W&B", where=server, remedy=remedy) from error
    made = workspace(entity, project, dataset)
    try:
        found = wandb.Api().project(project, entity)
        assert found.id  # a view of a missing project would be lost
        made.save()
    except Exception as error:  # W&B's clients raise many kinds, and all mean that the view is not saved
        why = str(error).strip().rstrip(".") or type(error).__name__
        remedy = "Check the spelling, the API key (wandb login --relogin) and that a first run is there (wandb sync)"
        raise UserError(f"the view is not saved ({why})", where=f"{entity}/{project}", remedy=remedy) from error
    # The project's address, as the library's own leaves out what comes before the entity.
    return f"{found.url}?{urlsplit(made.url).query}"


main = Command(_options, _run)
