"""Honest, fast experiments in sequential recommendation.

    import recsys_lt

    run = recsys_lt.train("dataset=ml-100k", "model=sasrec", "loss=sce")
    run.metrics["test"]["ndcg@10"]
    run.recommend(users=["196"], k=5)
    recsys_lt.table(["outputs/first", "outputs/second"])

The functions do what the commands do, by the same code. What a user can mend is raised as ``UserError``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_lt.errors import UserError
from recsys_lt.system.package import CONF, __version__

if TYPE_CHECKING:
    import pandas as pd

    from recsys_lt.training.trained import Run

__all__ = ["CONF", "UserError", "__version__", "load", "table", "train"]


def train(
    *overrides: str,
    config: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    config_dir: str | Path | None = None,
) -> Run:
    """Train one recommender, test it, and return the finished run.

    Parameters
    ----------
    *overrides
        Choices and keys as on the command line, such as ``"loss=sce"``, ``"+experiment=beauty_sce"``.
    config
        The same as a mapping, nested as in an experiment file, such as
        ``{"dataset": "beauty", "trainer": {"max_epochs": 5}}``. An override wins over it.
    folder
        The run folder; None for a new one under ``outputs/``. An unfinished run in it is continued by
        ``recsys_lt resume``.
    config_dir
        A folder with choices of your own.

    Returns
    -------
    Run
        See ``load``.

    Raises
    ------
    UserError
        For what the user can mend; nothing is lost.
    """
    from recsys_lt.cli.train import train_here
    from recsys_lt.runs.reading import flat

    given = [f"{key}={json.dumps(value)}" for key, value in flat(config or {}).items() if value != {}]
    return train_here([*given, *overrides], folder, config_dir)


def load(folder: str | Path, *, trust: Iterable[str] = ()) -> Run:
    """A finished run.

    Parameters
    ----------
    folder
        The run folder.
    trust
        Modules of other packages whose classes the run's configuration may name; they are imported.

    Returns
    -------
    Run
        Its ``metrics`` (the content of metrics.json), ``config``, ``data``, ``model``, and
        ``recommend(users=..., histories=..., k=...)``.

    Raises
    ------
    UserError
        If the folder holds no finished run, or one of another version.
    """
    from recsys_lt.runs.trust import trusting
    from recsys_lt.training.trained import Run

    with trusting(list(trust)):
        return Run(Path(folder))


def table(
    runs: Iterable[Run | str | Path], *, metrics: Iterable[str] | None = None, against: str | None = None
) -> pd.DataFrame:
    """One row for each cell (runs that differ only in their seed), tested against the best cell.

    Parameters
    ----------
    runs
        Runs, run folders or sweep folders.
    metrics
        Test metrics to show, by their names in metrics.json; None for NDCG@10 overall and by group, and HR@10.
    against
        The cell to test against, by names that single it out, such as ``"sasrec/ce"``; None for the cell that is best
        on validation.

    Returns
    -------
    pandas.DataFrame
        What ``recsys_lt table --csv`` writes.

    Raises
    ------
    UserError
        If there is no run, or the runs make no table.
    """
    from recsys_lt.cli.table import frame

    folders = [Path(run) if isinstance(run, str | Path) else run.folder for run in runs]
    return frame(folders, None if metrics is None else list(metrics), against)
