"""One progress bar for the whole training: epochs, loss, the latest validation."""

import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from recsys_lt.evidence.journal import SELECT, Journal

_SILENCE = 60.0  # seconds between lines where there is no bar


class TrainingProgress(pl.Callback):
    """A bar on a terminal, elsewhere a line a validation, and one a minute in between.

    Parameters
    ----------
    console
        Where to print.
    journal
        Whose rows to show; it must come before this callback.
    """

    def __init__(self, console: Console, journal: Journal) -> None:
        self.console, self.journal = console, journal
        self._bar: Progress | None = None
        self._started = self._said = time.monotonic()
        self._begun = 0.0  # epochs done when this process took over

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = self._said = time.monotonic()
        self._begun = float(trainer.current_epoch)
        if not (trainer.is_global_zero and self.console.is_terminal):
            return
        self._bar = Progress(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
        )
        # Counted in epochs, moved by steps: a long epoch moves too.
        self._task = self._bar.add_task("", total=trainer.max_epochs, completed=trainer.current_epoch, note="")
        self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, step: int) -> None:
        done = trainer.current_epoch + (step + 1) / max(int(trainer.num_training_batches), 1)
        if self._bar is not None:
            self._bar.update(self._task, completed=round(done, 2))
        elif trainer.is_global_zero and (now := time.monotonic()) - self._said >= _SILENCE:
            self._said = now
            left = (now - self._started) / (done - self._begun) * (float(trainer.max_epochs or 1) - done)
            self.console.print(
                f"epoch {trainer.current_epoch + 1:>4}/{trainer.max_epochs}  step {step + 1} of "
                f"{trainer.num_training_batches}  about {left / 60:.0f} min left",
                highlight=False,
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or not self.journal.history:
            return
        row = self.journal.history[-1]
        note = f"loss {row.get('train/loss', float('nan')):.3f}"
        if "tokens_per_second" in row:
            note += f"  {row['tokens_per_second']:.0f} tokens/s"
        best = self.journal.best
        if best is not None:
            note += f"  best valid {SELECT} {best[SELECT]:.4f} at {best['epoch']}"
        if self._bar is not None:
            self._bar.update(self._task, completed=row["epoch"], note=note)
        elif f"valid/{SELECT}" in row:
            self._said = time.monotonic()
            rate = f", {row['tokens_per_second']:.0f} tokens/s" if "tokens_per_second" in row else ""
            self.console.print(
                f"epoch {row['epoch']:>4}/{trainer.max_epochs}  loss {row['train/loss']:.4f}  "
                f"valid {SELECT} {row[f'valid/{SELECT}']:.4f}  {row['seconds']:.1f} s{rate}",
                highlight=False,
            )

    # Ranking before and after training has a bar of its own; within training the one bar stays.

    def _start_ranking(self, trainer: pl.Trainer, what: str, batches: int) -> None:
        if trainer.is_global_zero and self.console.is_terminal and self._bar is None:
            self._bar = Progress(
                TextColumn(what), BarColumn(), TimeElapsedColumn(), console=self.console, transient=True
            )
            self._task = self._bar.add_task("", total=batches)
            self._bar.start()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._start_ranking(trainer, "ranking for validation", sum(trainer.num_val_batches))

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._bar is not None and trainer.state.fn == "validate":
            self._bar.advance(self._task)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._close()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_ranking(trainer, "ranking for test", sum(trainer.num_test_batches))

    def on_test_batch_end(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.advance(self._task)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()
