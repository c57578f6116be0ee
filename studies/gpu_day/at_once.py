"""Several runs of the grid on one device, in order, each going on where it stopped, until the minutes are over."""

import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studies.gpu_day.grid import Cell
from studies.shared.kept import is_finished

#: Seconds before its first epoch that a run takes at least; with less time left none is begun.
_LEAST = 5.0
_PACK_EVERY = 20.0
#: Of the output of a run that failed, what travels back.
_TAIL = 4000
#: How the names of the files with it begin.
FAILED = "failed_"


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


@dataclass(frozen=True)
class Runs:
    """How the runs of the grid are started.

    Parameters
    ----------
    folder
        Where their run folders are.
    stages
        Where the end of a failed run's output is noted.
    tree
        The source tree that runs.
    environment
        Their environment.
    overrides
        For all of them.
    """

    folder: Path
    stages: Path
    tree: Path
    environment: Mapping[str, str]
    overrides: Sequence[str]

    def log(self, name: str) -> Path:
        return self.folder.parent / "logs" / f"{name}.txt"

    def failure(self, name: str) -> Path:
        """Where it is noted that a cell's run failed."""
        return self.stages / f"{FAILED}{name}.txt"

    def start(self, cell: Cell) -> "subprocess.Popen[bytes]":
        from studies.published.run_cells import command

        log = self.log(cell["cell"])
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as output:
            return subprocess.Popen(
                command(cell, self.folder / cell["cell"], list(self.overrides)),
                cwd=self.tree,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def note_end(self, name: str, code: int) -> None:
        """Say how a run ended, and keep the end of what a failed one printed."""
        self.failure(name).unlink(missing_ok=True)
        if code != 0:
            self.failure(name).write_bytes(self.log(name).read_bytes()[-_TAIL:])
        print(f"grid: {name} {'is done' if code == 0 else f'failed with code {code}'}", flush=True)


def run_at_once(cells: Sequence[Cell], number: int, runs: Runs, clock: Clock, pack: Callable[[], Any]) -> None:
    """Run cells until all have ended or the minutes are over.

    The next command tries again what failed.

    Parameters
    ----------
    cells
        In order.
    number
        How many share the device.
    runs
        How they are started.
    clock
        How much time is left.
    pack
        Called when a run has ended, and every 20 seconds.
    """
    waiting = deque(cell for cell in cells if not is_finished(runs.folder / cell["cell"]))
    running: dict[str, subprocess.Popen[bytes]] = {}
    packed = time.monotonic()
    while clock.left() > 0:
        while waiting and len(running) < number and clock.left() > _LEAST:
            cell = waiting.popleft()
            running[cell["cell"]] = runs.start(cell)
            print(f"grid: {cell['cell']} begins", flush=True)
        ended = [name for name, run in running.items() if run.poll() is not None]
        for name in ended:
            runs.note_end(name, running.pop(name).returncode)
        if ended or time.monotonic() - packed > _PACK_EVERY:
            pack()
            packed = time.monotonic()
        if not running and (not waiting or clock.left() <= _LEAST):
            break
        time.sleep(0.2)
    stop_all(list(running.values()), clock.grace())
