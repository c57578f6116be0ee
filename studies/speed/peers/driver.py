"""What the drivers share: what they are asked, the clock of their steps, and the one line of JSON they print.

A driver runs in its peer's environment, where our package is not installed; nothing here needs more than the
standard library and pandas, which every peer brings.
"""

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

#: SASRec as published on Beauty, as far as the peers' options reach.
WIDTH, BLOCKS, HEADS, MAX_LENGTH, DROPOUT, LEARNING_RATE = 64, 2, 1, 50, 0.6, 5e-4


@dataclass(frozen=True)
class Asked:
    """What the command line asked.

    Parameters
    ----------
    data
        CSV with the columns user, item, position, split (``export.py``).
    steps, warm
        Steps to time, after so many that are not timed.
    batch_rows
        Rows in a batch.
    """

    data: Path
    steps: int
    warm: int
    batch_rows: int

    def within(self, steps_an_epoch: int) -> int:
        """Steps that can be timed in one epoch after the warm-up: what was asked, or what there is."""
        if steps_an_epoch <= self.warm:
            raise SystemExit(f"an epoch has {steps_an_epoch} steps, no more than the {self.warm} to warm up")
        return min(self.steps, steps_an_epoch - self.warm)


def asked(default_batch_rows: int) -> Asked:
    """Read the command line. ``default_batch_rows`` is the peer's own default (or its published setting)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path, help="CSV with user, item, position, split")
    parser.add_argument("--steps", type=int, default=20, help="steps to time (default: 20)")
    parser.add_argument("--warm", type=int, default=3, help="steps before them (default: 3)")
    parser.add_argument("--batch-rows", type=int, default=default_batch_rows)
    given = parser.parse_args()
    # Peers write logs and checkpoints where they stand, so drivers change folder.
    return Asked(given.data.resolve(), given.steps, given.warm, given.batch_rows)


class Clock:
    """Times steps ``warm`` to ``warm + steps``; told after every step.

    Parameters
    ----------
    warm, steps
        Steps before those timed, and those timed.
    """

    def __init__(self, warm: int, steps: int) -> None:
        self.warm, self.steps, self.done = warm, steps, 0
        self._start = self._end = time.perf_counter()

    def step(self) -> bool:
        """A step is done; whether that was the last one."""
        self.done += 1
        if self.done <= self.warm:
            self._start = time.perf_counter()
        self._end = time.perf_counter()
        return self.done >= self.warm + self.steps

    def seconds_a_step(self) -> float:
        if self.done != self.warm + self.steps:
            raise SystemExit(f"{self.done} steps were made, not {self.warm} + {self.steps}")
        return (self._end - self._start) / self.steps


def peak_rss_mb() -> float:
    """Most memory this process has held, in MB (2^20 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():  # the other figure begins with the parent's peak
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds a call takes, and what it gave."""
    start = time.perf_counter()
    value = call()
    return time.perf_counter() - start, value


def report(
    *,
    package: str,
    clock: Clock,
    rows: int,
    batch_rows: int,
    targets: int,
    trains: str,
    training_peak: float,
    evaluate_seconds: float,
    ndcg: float,
    masks_seen: bool,
    loss: float,
) -> None:
    """Print the one line of JSON.

    Parameters
    ----------
    package
        The distribution's name, for its version.
    clock
        What timed the steps; an epoch is scaled from it by rows.
    rows, batch_rows
        Rows in an epoch and in a batch.
    targets
        Targets an epoch's losses are of.
    trains
        What a row is, in words.
    training_peak
        Peak memory after the training steps, MB.
    evaluate_seconds, ndcg, masks_seen
        Of ranking every user's test item among all items: seconds, NDCG@10, and whether earlier items are left out.
    loss
        Mean loss of the last step: about ln(items) after a few steps, if it is a softmax over the catalogue.
    """
    import torch

    seconds_a_step = clock.seconds_a_step()
    value = {
        "package": package,
        "seconds": seconds_a_step * rows / batch_rows,
        "seconds_a_step": seconds_a_step,
        "timed_steps": clock.steps,
        "warm_steps": clock.warm,
        "steps_an_epoch": -(-rows // batch_rows),
        "rows": rows,
        "batch_rows": batch_rows,
        "targets": targets,
        "trains": trains,
        "loss": loss,
        "peak_rss_mb": training_peak,
        "evaluate_seconds": evaluate_seconds,
        "evaluate_ndcg_at_10": ndcg,
        "evaluate_peak_rss_mb": peak_rss_mb(),
        "masks_seen": masks_seen,
        "threads": torch.get_num_threads(),
        "malloc": {name: os.environ[name] for name in sorted(os.environ) if name.startswith("MALLOC_")},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, package: version(package)},
    }
    print(json.dumps(value, allow_nan=False), flush=True)
