"""The W&B workspace as wandb-workspaces has it, and how it gets there."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from recsys_lt.errors import UserError
from recsys_lt.results.wandb_panels import COLUMNS, GROUPED_BY, MOST, SECTIONS, Section
from recsys_lt.training.loggers import has_key

# Both packages are imported where they are used: one is an extra, and the other takes a second.
if TYPE_CHECKING:
    from collections.abc import Iterator

    from wandb.apis.public import Project
    from wandb_workspaces.workspaces import Section as DrawnSection
    from wandb_workspaces.workspaces import Workspace


def workspace(entity: str, project: str, dataset: str | None = None) -> Workspace:
    """The workspace, not yet sent anywhere.

    Parameters
    ----------
    entity
        W&B user or team.
    project
        W&B project.
    dataset
        Show this dataset's runs alone; None for all.
    """
    from wandb_workspaces import workspaces as ws

    return ws.Workspace(
        entity=entity,
        project=project,
        name="recsys_lt" if dataset is None else f"recsys_lt: {dataset}",
        sections=[_drawn(section) for section in SECTIONS],
        settings=ws.WorkspaceSettings(x_axis="epoch", smoothing_type="none", max_runs=MOST),
        runset_settings=ws.RunsetSettings(
            filters="" if dataset is None else ws.And(ws.Config("dataset") == dataset),
            groupby=[ws.Config(name) for name in GROUPED_BY],
            # Bars stand in this order, and beyond the limit of a panel the last are left out.
            order=[ws.Ordering(ws.Summary("test/ndcg@10"), ascending=False)],
            pinned_columns=[f"summary:{key}" for key in COLUMNS],
        ),
    )


def _drawn(section: Section) -> DrawnSection:
    from wandb_workspaces import workspaces as ws

    return ws.Section(
        name=section.name,
        panels=[panel.drawn() for panel in section.panels],
        is_open=section.is_open,
        layout_settings=ws.SectionLayoutSettings(columns=section.columns, rows=section.rows),
        # A section's own settings stand above the workspace's.
        panel_settings=ws.SectionPanelSettings(x_axis="epoch", smoothing_type="none"),
    )


def save(entity: str, project: str, dataset: str | None = None, view: str | None = None) -> str:
    """Save the workspace as a view of a project that is there.

    Parameters
    ----------
    entity, project, dataset
        As for ``workspace``.
    view
        URL of a saved view, or what follows ``nw=`` in it, to be made this workspace; None for a new view.

    Returns
    -------
    str
        URL of the view.

    Raises
    ------
    UserError
        If the package is missing, nobody is logged in, W&B does not answer, or it does not have the project or the
        view.
    """
    try:
        from wandb_workspaces import workspaces as ws
    except ImportError as error:
        raise UserError(
            "wandb-workspaces is missing",
            where="recsys_lt.cli.dashboard",
            remedy="Install it with pip install 'recsys_lt[dashboard]'; --dry-run does without it",
        ) from error
    if not has_key():
        raise UserError(
            "no W&B API key is configured",
            where="recsys_lt.cli.dashboard",
            remedy="Run wandb login, or set WANDB_API_KEY; --dry-run does without it",
        )
    found = _project(entity, project)
    made = workspace(entity, project, dataset)
    with _said_in_a_line(f"{entity}/{project}"):
        if view is None:
            made.save()
        else:
            name = parse_qs(urlsplit(view).query).get("nw", [view])[0]
            # It reads entity, project and name; the server is the configured one.
            old = ws.Workspace.from_url(f"https://wandb.ai/{entity}/{project}?nw={name}")
            old.name, old.sections, old.settings = made.name, made.sections, made.settings
            old.runset_settings = made.runset_settings
            made = old.save()
    # The project's address, as the library's own leaves out what comes before the entity.
    return f"{found.url}?{urlsplit(made.url).query}"


def _project(entity: str, project: str) -> Project:
    """The project, which is asked for: a view of one that is not there would be lost."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))  # what is to be said, we say
    server = os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url
    _ask(server)
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
        if error.__cause__ is not None:  # it was asked for, and no answer came
            raise _no_answer(server) from error
        raise UserError(
            "W&B has no such project, or not for this account",
            where=f"{entity}/{project}",
            remedy="Check the spelling, or sync a first run there (wandb sync)",
        ) from error
    return found


def _ask(server: str) -> None:
    """Ask for anything at all: wandb tries for minutes, and its process keeps ours from ending while it does."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        urlopen(server, timeout=10).close()
    except HTTPError:
        pass  # an answer
    except (OSError, HTTPException, ValueError) as error:
        raise _no_answer(server) from error


def _words(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__


def _no_answer(server: str) -> UserError:
    return UserError(
        "no answer from W&B", where=server, remedy="Check the network and WANDB_BASE_URL; --dry-run does without them"
    )


@contextmanager
def _said_in_a_line(where: str) -> Iterator[None]:
    """W&B's clients raise errors of many kinds, and all of them mean that the view is not saved."""
    try:
        yield
    except Exception as error:
        raise UserError(
            f"the view is not saved ({_words(error)})", where=where, remedy="Check --view, and that you may write there"
        ) from error
