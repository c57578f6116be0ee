"""Start and end of a sweep: a note for the processes of its cells; table, failed cells and exit code."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback

from recsys_lt.errors import UserError

# In the environment, because a cell may run in another process, started by joblib or by a cluster's scheduler.
_FOLDER, _LAUNCH, _CELLS = "RECSYS_LT_SWEEP_FOLDER", "RECSYS_LT_SWEEP_LAUNCH", "RECSYS_LT_SWEEP_CELLS"


class Launch(NamedTuple):
    """One start of a sweep: its folder, a name of its own, and the number of cells."""

    folder: Path
    name: str
    cells: int


class SweepRefused(BaseException):
    """Refusal of a sweep. It is no ``Exception``, because Hydra turns those of a callback into warnings."""


class SweepStart(Callback):
    """Hydra callback of ``conf/config.yaml`` at the start of a sweep; SweepRefused if ``hydra.run.dir`` is given."""

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        cells = _n_cells(config)
        named = [given for given in config.hydra.overrides.hydra if given.lstrip("+").startswith("hydra.run.dir=")]
        if named:
            raise SweepRefused(
                f"{named[0]}: this is a sweep of {cells} cells, and hydra.run.dir is for a single run. "
                "Name the sweep's folder with hydra.sweep.dir=, or add hydra.mode=RUN for a single run."
            )
        os.environ[_FOLDER] = str(Path(str(config.hydra.sweep.dir)).absolute())
        os.environ[_LAUNCH] = secrets.token_hex(8)
        os.environ[_CELLS] = str(cells)


def _n_cells(config: Any) -> int:
    """The cells that Hydra's own sweeper makes of the configuration, or the trials of a search."""
    if "trials" in config.hydra.sweeper:
        trials = config.hydra.sweeper.trials
        return trials if isinstance(trials, int) else 0  # the search refuses it
    params = config.hydra.sweeper.get("params") or {}
    given = [f"{key}={value}" for key, value in params.items()]
    overrides = OverridesParser.create().parse_overrides([*given, *config.hydra.overrides.task])
    return sum(len(batch) for batch in BasicSweeper.split_arguments(overrides, None))


def current_launch() -> Launch | None:
    """The sweep this process has started or works for; None where nobody has said."""
    if _LAUNCH not in os.environ:
        return None
    return Launch(Path(os.environ[_FOLDER]), os.environ[_LAUNCH], int(os.environ[_CELLS]))


def forget_launch() -> None:
    """Before a command line is read: what an outer process started is none of its business."""
    for variable in (_FOLDER, _LAUNCH, _CELLS):
        os.environ.pop(variable, None)


def end_of_sweep(launch: Launch, complain: Callable[[str], None]) -> int:
    """Print the table of a sweep and name its failed cells; the exit code, to which this start alone counts.

    ``complain`` prints a line on standard error.
    """
    from recsys_lt.runs.sweep import failures

    noted = failures(launch.folder)
    failed = [failure for failure in noted if failure.launch == launch.name]
    code = max((failure.code for failure in failed), key=lambda code: (code == 1, code), default=0)
    if any(launch.folder.glob("*/metrics.json")) and not (launch.folder / "search.log").exists():
        from recsys_lt.cli import table

        try:
            table.main.do([str(launch.folder)])
        except UserError as error:
            complain(str(error))
            code = code or 2
    for failure in failed:
        if failure.process != os.getpid():  # its own line went to its own terminal, if any
            complain(failure.line)
    if len(failed) > 1:
        complain(f"{len(failed)} cells failed: {', '.join(failure.cell for failure in failed)}")
    for failure in noted:
        if not failure.launch:
            complain(failure.line)
    earlier = [failure.cell for failure in noted if failure.launch not in ("", launch.name)]
    if earlier:
        complain(
            f"failed in an earlier start and not rerun now: {', '.join(earlier)}. "
            f"Delete their folders in {os.path.relpath(launch.folder)} to drop them"
        )
    return code
