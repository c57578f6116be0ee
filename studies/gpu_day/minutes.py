"""The minutes that a command may take, and processes that end before they are over."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Clock:
    """How much of the minutes is left.

    Parameters
    ----------
    minutes
        How many there are.

    Attributes
    ----------
    stopped
        Whether somebody asked to end early.
    """

    minutes: float
    stopped: bool = False
    _start: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Seconds until work must stop: runs need time to end, and what they reached must be packed."""
        if self.stopped:
            return 0.0
        whole = 60 * self.minutes
        return self._start + whole - min(45.0, whole / 4) - time.monotonic()

    def grace(self) -> float:
        """Seconds that runs have to end."""
        return min(30.0, 60 * self.minutes / 6)


def stop_all(runs: Sequence["subprocess.Popen[Any]"], grace: float) -> None:
    """Ask processes to end, and kill those that have not ended after ``grace`` seconds."""
    for run in runs:
        run.terminate()
    end = time.monotonic() + grace
    for run in runs:
        try:
            run.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
