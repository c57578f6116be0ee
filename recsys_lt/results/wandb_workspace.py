"""The Weights & Biases workspace of ``wandb_workspace.yaml``, and how it is saved."""

from __future__ import annotations

import os
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import yaml

from recsys_lt.errors import UserError

# Both packages of W&B are imported where they are used: one is an extra, and the other takes a second.
if TYPE_CHECKING:
    from wandb.apis.public import Project
    from wandb_workspaces.workspaces import Workspace

#: W&B's own limit is ten runs, fewer than a small sweep has.
_MOST = 100


class Panel(NamedTuple):
    """A panel: ``bars``, ``curve``, ``points`` or ``pictures``, its title, and the keys of a run that it shows."""

    kind: str
    title: str
    keys: tuple[str, ...]


class Section(NamedTuple):
    """Panels under one heading, all on one page of it."""

    name: str
    columns: int
    panels: tuple[Panel, ...]
    is_open: bool

    @property
    def rows(self) -> int:
        return -(-len(self.panels) // self.columns)


_CONTENT: dict[str, Any] = yaml.safe_load(
    files("recsys_lt.results").joinpath("wandb_workspace.yaml").read_text(encoding="utf-8")
)
GROUPED_BY: tuple[str, ...] = tuple(_CONTENT["grouped_by"])
COLUMNS: tuple[str, ...] = tuple(_CONTENT["columns"])
SECTIONS = tuple(
    Section(
        each["name"],
        each["columns"],
        tuple(Panel(kind, title, tuple(keys)) for kind, title, *keys in each["panels"]),
        not each.get("closed", False),
    )
    for each in _CONTENT["sections"]
)


def workspace(entity: str, project: str, dataset: str | None = None) -> Workspace:
    """The workspace, not yet sent anywhere; of the runs of one dataset, or None for all."""
    from wandb_workspaces import workspaces as ws

    sections = [
        ws.Section(
            name=section.name,
            panels=[_drawn(panel) for panel in section.panels],
            is_open=section.is_open,
            layout_settings=ws.SectionLayoutSettings(columns=section.columns, rows=section.rows),
            # A section's own settings stand above the workspace's.
            panel_settings=ws.SectionPanelSettings(x_axis="epoch", smoothing_type="none"),
        )
        for section in SECTIONS
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name="recsys_lt" if dataset is None else f"recsys_lt: {dataset}",
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="epoch", smoothing_type="none", max_runs=_MOST),
        runset_settings=ws.RunsetSettings(
            filters="" if dataset is None else ws.And(ws.Config("dataset") == dataset),
            groupby=[ws.Config(name) for name in GROUPED_BY],
            # Bars stand in this order, and beyond the limit of a panel the last are left out.
            order=[ws.Ordering(ws.Summary("test/ndcg@10"), ascending=False)],
            pinned_columns=[f"summary:{key}" for key in COLUMNS],
        ),
    )


def _drawn(panel: Panel) -> Any:
    """A panel of wandb-workspaces."""
    from wandb_workspaces.reports import v2

    title, keys = panel.title, list(panel.keys)
    over_seeds = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev", "max_runs_to_show": _MOST}
    match panel.kind:
        case "bars":
            return v2.BarPlot(title=title, metrics=keys, max_bars_to_show=_MOST, **over_seeds)
        case "curve":
            names = {"title_x": "completed epochs", "smoothing_type": "none"}
            return v2.LinePlot(title=title, x=keys[0], y=keys[1:], **names, **over_seeds)
        case "points":
            return v2.ScatterPlot(title=title, x=keys[0], y=keys[1])
        case _:
            return v2.MediaBrowser(title=title, media_keys=keys)


def save(entity: str, project: str, has_key: bool, dataset: str | None = None, view: str | None = None) -> str:
    """Save the workspace as a view of a project that is there; the URL of the view.

    ``has_key`` says whether an API key of W&B is configured. ``view`` is the URL of a saved view, or what follows
    ``nw=`` in it, to be made this workspace; None for a new view. UserError if the package is missing, nobody is logged
    in, W&B does not answer, or it does not have the project or the view.
    """
    try:
        from wandb_workspaces import workspaces as ws
    except ImportError as error:
        raise UserError(
            "wandb-workspaces is missing",
            where="recsys_lt dashboard",
            remedy="Install it with pip install 'recsys_lt[dashboard]'; --dry-run does without it",
        ) from error
    if not has_key:
        raise UserError(
            "no W&B API key is configured",
            where="recsys_lt dashboard",
            remedy="Run wandb login, or set WANDB_API_KEY; --dry-run does without it",
        )
    found = _project(entity, project)
    made = workspace(entity, project, dataset)
    try:
        if view is None:
            made.save()
        else:
            name = parse_qs(urlsplit(view).query).get("nw", [view])[0]
            # It reads entity, project and name; the server is the configured one.
            old = ws.Workspace.from_url(f"https://wandb.ai/{entity}/{project}?nw={name}")
            old.name, old.sections, old.settings = made.name, made.sections, made.settings
            old.runset_settings = made.runset_settings
            made = old.save()
    except Exception as error:  # W&B's clients raise many kinds, and all mean that the view is not saved
        raise UserError(
            f"the view is not saved ({_words(error)})",
            where=f"{entity}/{project}",
            remedy="Check --view, and that you may write there",
        ) from error
    # The project's address, as the library's own leaves out what comes before the entity.
    return f"{found.url}?{urlsplit(made.url).query}"


def _project(entity: str, project: str) -> Project:
    """The project, which must exist: a view of a missing one would be lost."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    import wandb

    wandb.setup(wandb.Settings(silent=True))
    server = os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url
    no_answer = UserError(
        "no answer from W&B", where=server, remedy="Check the network and WANDB_BASE_URL; --dry-run does without them"
    )
    try:
        # wandb itself tries for minutes, and its process outlives ours meanwhile.
        urlopen(server, timeout=10).close()
    except HTTPError:
        pass  # an answer
    except (OSError, HTTPException, ValueError) as error:
        raise no_answer from error
    try:
        found = wandb.Api().project(project, entity)
        assert found.id
    except wandb.errors.AuthenticationError as error:
        raise UserError(
            f"the API key is not taken ({_words(error)})",
            where=server,
            remedy="Run wandb login --relogin, or mend WANDB_API_KEY",
        ) from error
    except ValueError as error:
        if error.__cause__ is not None:  # no answer came
            raise no_answer from error
        raise UserError(
            "W&B has no such project, or not for this account",
            where=f"{entity}/{project}",
            remedy="Check the spelling, or sync a first run there (wandb sync)",
        ) from error
    return found


def _words(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__
