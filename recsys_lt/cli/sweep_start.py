"""What Hydra tells about a sweep at its start, for the processes of its cells and for its end."""

import os
import secrets
from pathlib import Path
from typing import Any, NamedTuple

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback

# In the environment, because a cell may run in another process, started by joblib or by a cluster's scheduler.
_FOLDER, _LAUNCH = "RECSYS_LT_SWEEP_FOLDER", "RECSYS_LT_SWEEP_LAUNCH"


class Launch(NamedTuple):
    """One start of a sweep: its folder, and a name that no other start of it has."""

    folder: Path
    name: str


class SweepRefused(BaseException):
    """A sweep that was not wanted. Hydra makes a warning of any ``Exception`` that a callback raises."""


class SweepStart(Callback):
    """Hydra's callback; ``conf/config.yaml`` names it.

    Raises
    ------
    SweepRefused
        If the command line names the folder of a single run.
    """

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        named = [given for given in config.hydra.overrides.hydra if given.lstrip("+").startswith("hydra.run.dir=")]
        if named:
            raise SweepRefused(
                f"{named[0]}: this is a sweep of {_n_cells(config)} cells, and hydra.run.dir is for a single run. "
                "Name the sweep's folder with hydra.sweep.dir=, or add hydra.mode=RUN for a single run."
            )
        os.environ[_FOLDER] = str(Path(str(config.hydra.sweep.dir)).absolute())
        os.environ[_LAUNCH] = secrets.token_hex(8)


def _n_cells(config: Any) -> int:
    """The cells that Hydra's own sweeper makes of the configuration."""
    params = config.hydra.sweeper.get("params") or {}
    given = [f"{key}={value}" for key, value in params.items()]
    overrides = OverridesParser.create().parse_overrides([*given, *config.hydra.overrides.task])
    return sum(len(batch) for batch in BasicSweeper.split_arguments(overrides, None))


def current_launch() -> Launch | None:
    """The sweep this process has started or works for; None where nobody has said."""
    if _LAUNCH not in os.environ:
        return None
    return Launch(Path(os.environ[_FOLDER]), os.environ[_LAUNCH])


def forget_launch() -> None:
    """Before a command line is read: what an outer process started is none of its business."""
    os.environ.pop(_FOLDER, None)
    os.environ.pop(_LAUNCH, None)
