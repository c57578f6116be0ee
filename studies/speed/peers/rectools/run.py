"""RecTools' SASRecModel with loss="softmax", by its own fit and recommend.

One row a user, padded to 50, every real position trained; batches of 128 users are its default. Ranking is
``recommend`` with viewed items filtered, and its NDCG.
"""

import os
import sys
import tempfile
import warnings
from pathlib import Path

# Last: this folder's name must not hide the package's.
sys.path.append(str(Path(__file__).resolve().parents[1]))
import numpy as np
import pandas as pd
from driver import BLOCKS, DROPOUT, HEADS, LEARNING_RATE, MAX_LENGTH, WIDTH, Clock, asked, peak_rss_mb, report, timed
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import NDCG, calc_metrics
from rectools.models import SASRecModel


class Watch(Callback):
    """Tells the clock of steps. RecTools copies its trainer, so this is read back from the copy."""

    def __init__(self, warm: int, steps: int) -> None:
        self.clock, self.loss = Clock(warm, steps), 0.0

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.clock.step()
        self.loss = float(outputs["loss"])


def make_trainer(warm: int, steps: int) -> Trainer:
    return Trainer(
        max_epochs=1,
        limit_train_batches=warm + steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Watch(warm, steps)],
    )


def interactions(events: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            Columns.User: events.user,
            Columns.Item: events.item,
            Columns.Weight: 1,
            Columns.Datetime: pd.Timestamp("2014-01-01") + pd.to_timedelta(events.position, unit="D"),
        }
    )


def main() -> None:
    given = asked(default_batch_rows=128)
    warnings.filterwarnings("ignore")
    events = pd.read_csv(given.data)
    train = events[events.split == "train"]
    lengths = train.groupby("user").size()
    rows = int((lengths >= 2).sum())
    steps = given.within(-(-rows // given.batch_rows) - 1)
    model = SASRecModel(
        n_blocks=BLOCKS,
        n_heads=HEADS,
        n_factors=WIDTH,
        dropout_rate=DROPOUT,
        session_max_len=MAX_LENGTH,
        loss="softmax",
        lr=LEARNING_RATE,
        batch_size=given.batch_rows,
        get_trainer_func=make_trainer,
        get_trainer_func_kwargs={"warm": given.warm, "steps": steps},
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # whatever Lightning writes
        model.fit(Dataset.construct(interactions(train)))
    watch = next(callback for callback in model.fit_trainer.callbacks if isinstance(callback, Watch))
    training_peak = peak_rss_mb()

    known = Dataset.construct(interactions(events[events.split != "test"]))
    test = interactions(events[events.split == "test"])

    def evaluate() -> float:
        lists = model.recommend(test[Columns.User].to_numpy(), known, k=10, filter_viewed=True)
        return calc_metrics({"ndcg": NDCG(k=10)}, lists, test)["ndcg"]

    seconds, ndcg = timed(evaluate)
    report(
        package="rectools",
        clock=watch.clock,
        rows=rows,
        batch_rows=given.batch_rows,
        targets=int(np.minimum(lengths - 1, MAX_LENGTH).sum()),
        trains="every position, one row a user padded to 50",
        training_peak=training_peak,
        evaluate_seconds=seconds,
        ndcg=float(ndcg),
        masks_seen=True,
        loss=watch.loss,
    )


if __name__ == "__main__":
    main()
