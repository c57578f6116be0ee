"""Progress bars: one for the training (epochs, loss, latest validation), one for a ranking outside training."""

import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from recsys_lt.training.journal import SELECT, Journal

_SILENCE = 60.0  # seconds between lines where there is no bar
#: Seconds back that rich looks for how fast it goes; with its own 30, longer steps have no time left.
_LOOKS_BACK = 3600.0


class _Pace:
    """Speed of work since ``done`` of it was done and a language model had read ``tokens`` tokens."""

    def __init__(self, done: float, tokens: int | None) -> None:
        self._at, self._done, self._tokens = time.monotonic(), done, tokens

    def rate(self, tokens: int | None, processes: int) -> str:
        """Tokens a second of all processes, taking the others to be as fast as this one; "" without any."""
        if tokens is None or self._tokens is None or tokens == self._tokens:
            return ""
        return f"  {processes * (tokens - self._tokens) / (time.monotonic() - self._at):.0f} tokens/s"

    def left(self, done: float, total: float) -> str:
        """The time that is left, in words; "" while nothing is done."""
        if done <= self._done:
            return ""
        return f"  about {duration((time.monotonic() - self._at) / (done - self._done) * (total - done))} left"


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``80 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


class TrainingProgress(pl.Callback):
    """Progress bar of at most 80 columns on a terminal; elsewhere a line for each validation, or minute without one.

    It shows the rows of the journal, which must come before this callback. A ``brief`` one, for a cell of a sweep,
    prints no validations and removes its bar at the end.
    """

    def __init__(self, console: Console, journal: Journal, brief: bool = False) -> None:
        self.console, self.journal, self.brief = console, journal, brief
        self._bar: Progress | None = None
        self._note = self._best = ""  # of the latest epoch
        self._said = time.monotonic()
        self._training = self._epoch = self._ranking = _Pace(0.0, None)
        self._users = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._said = time.monotonic()
        self._training = _Pace(float(trainer.current_epoch), None)
        if not (trainer.is_global_zero and self.console.is_terminal):
            return
        # Counted in epochs, moved by steps: a long epoch moves too.
        width = 2 * len(str(trainer.max_epochs)) + 1
        first = [TextColumn("epoch"), MofNCompleteColumn(table_column=Column(min_width=width))]
        self._open(first, trainer.max_epochs, trainer.current_epoch, transient=self.brief)

    def _open(
        self, first: Sequence[ProgressColumn], total: int | None, completed: int, transient: bool = False
    ) -> None:
        self._bar = Progress(
            *first,
            BarColumn(6, table_column=Column(min_width=6)),
            TimeRemainingColumn(table_column=Column(min_width=7)),
            TextColumn("left"),
            # Where a line is too narrow, this column alone is cut.
            TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=self.console,
            transient=transient,
            speed_estimate_period=_LOOKS_BACK,
        )
        self._task = self._bar.add_task("", total=total, completed=completed, note="")
        self._bar.start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._epoch = _Pace(0.0, pl_module.facts().get("tokens_read"))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, step: int) -> None:
        if not trainer.is_global_zero:
            return
        done = trainer.current_epoch + (step + 1) / max(int(trainer.num_training_batches), 1)
        rate = self._epoch.rate(pl_module.facts().get("tokens_read"), trainer.world_size)
        if self._bar is not None:
            self._bar.update(self._task, completed=round(done, 2), note=self._note + rate)
        elif self._silent_long():
            self.console.print(
                f"epoch {trainer.current_epoch + 1:>4}/{trainer.max_epochs}  step {step + 1} of "
                f"{trainer.num_training_batches}{rate}{self._training.left(done, float(trainer.max_epochs or 1))}",
                highlight=False,
            )

    def _silent_long(self) -> bool:
        """Whether it is time for a line, which is then said."""
        now = time.monotonic()
        if now - self._said < _SILENCE:
            return False
        self._said = now
        return True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or not self.journal.history:
            return
        row = self.journal.history[-1]
        best = self.journal.best
        self._best = "" if best is None else f"  best {SELECT.upper()} {best[SELECT]:.4f} at {best['epoch']}"
        self._note = note = f"loss {row.get('train/loss', float('nan')):.3f}{self._best}"
        rate = f"{row['tokens_per_second']:.0f} tokens/s" if "tokens_per_second" in row else ""
        if self._bar is not None:
            self._bar.update(self._task, completed=row["epoch"], note=f"{note}  {rate}".rstrip())
        elif f"valid/{SELECT}" in row and not self.brief:
            self._said = time.monotonic()
            self.console.print(
                f"epoch {row['epoch']:>4}/{trainer.max_epochs}  loss {row['train/loss']:.4f}  "
                f"valid {SELECT.upper()} {row[f'valid/{SELECT}']:.4f}  {row['seconds']:.1f} s{rate and f', {rate}'}",
                highlight=False,
            )

    # Ranking before and after training has a bar of its own; within training the one bar tells of it.

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._said = time.monotonic()
        self._users, self._ranking = 0, _Pace(0.0, pl_module.facts().get("tokens_read"))
        if trainer.is_global_zero and self.console.is_terminal and self._bar is None:
            testing = trainer.state.fn == "test"
            batches = sum(trainer.num_test_batches if testing else trainer.num_val_batches)
            self._open([TextColumn(_what(trainer), table_column=Column(no_wrap=True))], batches, 0, transient=True)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not trainer.is_global_zero:
            return
        loader: Any = trainer.test_dataloaders if trainer.state.fn == "test" else trainer.val_dataloaders
        of = len(loader.dataset.users)
        # Processes rank every so manieth user, so all are about as far.
        self._users = min(self._users + len(batch) * trainer.world_size, of)
        users = f"{self._users:,} of {of:,} users"
        rate = self._ranking.rate(pl_module.facts().get("tokens_read"), trainer.world_size)
        left = self._ranking.left(self._users, of)
        if self._bar is None:
            if self._silent_long():
                self.console.print(f"{_what(trainer)}: {users}{rate}{left}", highlight=False)
        elif trainer.state.fn == "fit":
            self._bar.update(self._task, note=f"ranking {self._users:,}/{of:,}{self._best}{rate}")
        else:
            self._bar.update(self._task, advance=1, note=f"{users}{rate}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != "fit":
            self._close()

    on_test_start, on_test_batch_end, on_test_end = on_validation_start, on_validation_batch_end, on_validation_end

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._bar is not None:
            # Training may end before its last epoch: the bar keeps its count of epochs, and no time is left.
            (task,) = self._bar.tasks
            task.finished_time = task.elapsed
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()


def _what(trainer: pl.Trainer) -> str:
    return "ranking for test" if trainer.state.fn == "test" else "ranking for validation"
