"""The journal of a run: one row for each epoch, the best epoch, and the checkpoints."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch

from recsys_lt.recommenders.full_ranking import Evaluation
from recsys_lt.runs.checkpoints import Notes, save
from recsys_lt.runs.run_folder import BEST, LAST
from recsys_lt.system.atomic import write_text
from recsys_lt.system.stopping import Stop
from recsys_lt.training.loggers import Logger
from recsys_lt.training.settings import TrainerSettings

SELECT = "ndcg@10"
Measure = Callable[[Evaluation], Mapping[str, float | None]]


class StopRun(Exception):  # noqa: N818  (no error: the user asked)
    """Stop at a signal of the user; the epochs so far are kept."""


class Journal(pl.Callback):
    """Callback that keeps history, best epoch and checkpoints, and decides when to validate and when to stop.

    ``measure`` computes the metrics of a validation. The curve has the metrics of all users, and of the groups only the
    one that selects; the best epoch keeps all. ``notes`` are written into checkpoints. The first process calls
    ``begin`` before it writes anything, and before each further epoch, because files of an earlier state of the run are
    outdated then. Rows also go to the logger. An epoch's row also has what the user's callbacks log in it, and the
    learning rate and gradient norm of its last step.
    """

    def __init__(
        self,
        folder: Path,
        settings: TrainerSettings,
        measure: Measure,
        notes: Notes,
        stop: Stop,
        begin: Callable[[], None],
        logger: Logger,
    ) -> None:
        self.folder, self.settings, self.measure = folder, settings, measure
        self.notes, self.logger = notes, logger
        self.stop, self.begin = stop, begin
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self._epoch_start = 0.0
        self._tokens: int | None = None
        self._read: int | None = None
        self._losses: list[torch.Tensor] = []
        self._validated: dict[str, Any] | None = None
        self._metrics: Mapping[str, float | None] = {}

    # What a checkpoint holds of the diary.

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history, self.best = state_dict["history"], state_dict["best"]

    # An epoch.

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A resumed run may have been killed after its patience had ended.
        trainer.should_stop |= self._out_of_patience()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        # Lightning validates after epochs divisible by this number; the schedule is ours.
        epoch = trainer.current_epoch + 1
        trainer.check_val_every_n_epoch = epoch if self.settings.evaluates(epoch) else epoch + 1
        self._losses = []
        self._validated = None
        trainer.callback_metrics.clear()  # else what was logged in an epoch before is there too
        self._tokens = pl_module.facts().get("tokens_read")
        self._epoch_start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, _outputs: Any, _batch: Any, batch_index: int
    ) -> None:
        if pl_module.last_total is not None:  # a step's first batches may wait for its last
            self._losses.append(pl_module.last_total)
        if batch_index + 1 == trainer.num_training_batches:
            self._seconds = time.perf_counter() - self._epoch_start
            self._last_step = _last_step(trainer, pl_module)
            self._read = pl_module.facts().get("tokens_read")
        if self.stop.number and trainer.world_size == 1:
            raise StopRun

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._eval_start = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._metrics = self.measure(pl_module.evaluation)
        self._validated = {
            f"valid/{name}": value
            for name, value in self._metrics.items()
            if value is not None and ("/" not in name or name.endswith(f"/{SELECT}")) and name != "users"
        }
        self._validated["eval_seconds"] = time.perf_counter() - self._eval_start

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        total = torch.stack(self._losses).mean()
        if trainer.world_size > 1:
            total = trainer.strategy.reduce(total, reduce_op="mean")
        row: dict[str, Any] = {"train/loss": float(total), "seconds": self._seconds}
        if self._tokens is not None and self._read is not None:
            read = torch.tensor(float(self._read - self._tokens), device=pl_module.device)
            if trainer.world_size > 1:
                read = trainer.strategy.reduce(read, reduce_op="sum")
            row["tokens_per_second"] = float(read) / self._seconds
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row |= self._last_step
        self.record(trainer, trainer.current_epoch + 1, row | {n: v for n, v in logged.items() if n not in row})
        trainer.save_checkpoint(self.folder / LAST)
        if trainer.world_size > 1:  # processes must stop at the same step
            asked = torch.tensor(self.stop.number, device=pl_module.device)
            self.stop.number = int(trainer.strategy.reduce(asked, reduce_op="max"))
            trainer.should_stop |= bool(self.stop.number)
        if self._out_of_patience():
            trainer.should_stop = True

    def record(self, trainer: pl.Trainer, epoch: int, row: dict[str, Any]) -> None:
        """Write down an epoch; keep its weights if it validates best so far (the earliest on ties)."""
        if trainer.is_global_zero:
            self.begin()
        row = {"epoch": epoch} | row | (self._validated or {})
        self.history.append(row)
        score = row.get(f"valid/{SELECT}")
        if score is not None and (self.best is None or score > self.best[SELECT]):
            self.best = {"epoch": epoch, SELECT: score, "valid": dict(self._metrics)}
            # Every strategy can gather the whole state; not every one writes it as one file.
            state = trainer.strategy.lightning_module_state_dict()
            if trainer.is_global_zero:
                best = {"state_dict": state, "notes": {"best": self.best}}
                save(self.folder / BEST, best, self.notes)
        if trainer.is_global_zero:
            curve = pd.DataFrame(self.history).to_csv(index=False, float_format="%.6g", lineterminator="\n")
            write_text(self.folder / "learning_curve.csv", curve)
            self.logger.log(row)

    def _out_of_patience(self) -> bool:
        if self.settings.patience is None or self.best is None:
            return False
        since = [row for row in self.history if row["epoch"] > self.best["epoch"] and f"valid/{SELECT}" in row]
        return len(since) >= self.settings.patience


def _last_step(trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, float]:
    """The learning rate after an epoch's last step, and the norm of the gradient it took, after any clipping."""
    rates = [float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups]
    found = [p.grad for p in module.parameters() if p.grad is not None]
    # Shards of a model know their own part alone, and so does a gradient in DeepSpeed's hands.
    whole = [grad.coalesce().values() if grad.is_sparse else grad for grad in found if type(grad) is torch.Tensor]
    row = {"learning_rate": rates[0]} if rates else {}
    if whole and len(whole) == len(found):
        row["gradient_norm"] = float(torch.linalg.vector_norm(torch.stack([grad.norm() for grad in whole])))
    return row
