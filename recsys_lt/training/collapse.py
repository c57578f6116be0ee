"""A line when preference optimisation makes the chosen items unlikely."""

from collections.abc import Callable

import pytorch_lightning as pl

from recsys_lt.training.journal import Journal

_LOG = "train/chosen_log_probability"
_ACCURACY = "train/preference_accuracy"
_REFERENCE = "train/reference_log_probability"
#: How far the chosen items' log-probability may fall, as a part of its size at the start.
_FALL = 0.3


class Collapse(pl.Callback):
    """Callback that says once where the chosen items' log-probability falls while they beat more rejected ones.

    It reads the rows of the journal, which must come before this callback. The start is what the reference gives the
    same items; without a reference, the first epoch that was measured.
    """

    def __init__(self, journal: Journal, say: Callable[[str], None]) -> None:
        self.journal, self.say = journal, say
        self._said = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rows = [row for row in self.journal.history if _LOG in row]
        if self._said or not rows or not trainer.is_global_zero:
            return
        first, last = rows[0], rows[-1]
        start = last.get(_REFERENCE, first[_LOG])
        if last[_LOG] < (1 + _FALL) * start and last[_ACCURACY] >= first[_ACCURACY]:
            self._said = True
            self.say(
                f"epoch {last['epoch']}: the mean log-probability of the chosen items has fallen from {start:.2f} to"
                f" {last[_LOG]:.2f} while they beat the rejected ones (a collapse); a smaller optimizer.lr or"
                " loss.sft_weight=0.1 may help"
            )
