"""What Hydra tells about a sweep at its start, for the processes of its cells and for its end."""

import os
import secrets
import sys
from pathlib import Path
from typing import Any, NamedTuple

from hydra.experimental.callback import Callback

# In the environment, because a cell may run in another process, started by joblib or by a cluster's scheduler.
_FOLDER, _LAUNCH = "RECSYS_LT_SWEEP_FOLDER", "RECSYS_LT_SWEEP_LAUNCH"


class Launch(NamedTuple):
    """One start of a sweep: its folder, and a name that no other start of it has."""

    folder: Path
    name: str


class SweepStart(Callback):
    """Hydra's callback; ``conf/config.yaml`` names it."""

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        if any(str(given).startswith("hydra.run.dir=") for given in config.hydra.overrides.hydra):
            print(
                "recsys_lt: this is a sweep: hydra.run.dir is not used. Its folder is hydra.sweep.dir; "
                "hydra.mode=RUN makes a single run of it",
                file=sys.stderr,
                flush=True,
            )
        os.environ[_FOLDER] = str(Path(str(config.hydra.sweep.dir)).absolute())
        os.environ[_LAUNCH] = secrets.token_hex(8)


def current_launch() -> Launch | None:
    """The sweep this process has started or works for; None where nobody has said."""
    if _LAUNCH not in os.environ:
        return None
    return Launch(Path(os.environ[_FOLDER]), os.environ[_LAUNCH])


def forget_launch() -> None:
    """Before a command line is read: what an outer process started is none of its business."""
    os.environ.pop(_FOLDER, None)
    os.environ.pop(_LAUNCH, None)
