"""RePlay 0.22's SasRec (``replay.nn``) with its CE, by its own Parquet module, Lightning module and metrics callback.

One row a user, padded to 50, every real position trained (logits of padded ones are formed and left out by
``ignore_index``). Model and transforms are RePlay's defaults (``SasRec.from_params``,
``make_default_sasrec_transforms``); batches of 128 users. Ranking masks seen items (``SeenItemsFilter``) and reads as
many users at a time.
"""

import os
import sys
import tempfile
import warnings
from pathlib import Path

# Last: this folder's name must not hide the package's.
sys.path.append(str(Path(__file__).resolve().parents[1]))
import lightning
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from driver import BLOCKS, DROPOUT, HEADS, LEARNING_RATE, MAX_LENGTH, WIDTH, Clock, asked, peak_rss_mb, report, timed
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.lightning.callback import ComputeMetricsCallback
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.lightning.postprocessor import SeenItemsFilter
from replay.nn.sequential import SasRec
from replay.nn.transform.template import make_default_sasrec_transforms


class Watch(lightning.Callback):
    """Tells the clock of steps."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.loss = clock, 0.0

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.clock.step()
        self.loss = float(outputs["loss"])


def write_parquet(events: pd.DataFrame, folder: Path) -> int:
    """Training histories and test rows with what was seen before; the length of the longest of these."""
    histories = events[events.split == "train"].groupby("user")["item"].agg(list)
    pq.write_table(pa.table({"item_id": histories.to_list()}), folder / "train.parquet")
    seen = events[events.split != "test"].groupby("user")["item"].agg(list)
    target = events[events.split == "test"].groupby("user")["item"].agg(list)
    seen = seen.loc[target.index].to_list()
    pq.write_table(
        pa.table({"item_id": seen, "seen_ids": seen, "ground_truth": target.to_list()}), folder / "test.parquet"
    )
    return max(map(len, seen))


def main() -> None:
    given = asked(default_batch_rows=128)
    warnings.filterwarnings("ignore")
    events = pd.read_csv(given.data)
    items = int(events["item"].max()) + 1
    lengths = events[events.split == "train"].groupby("user").size()
    rows = len(lengths)
    schema = TensorSchema(
        [
            TensorFeatureInfo(
                "item_id",
                is_seq=True,
                feature_type=FeatureType.CATEGORICAL,
                embedding_dim=WIDTH,
                padding_value=items,
                cardinality=items,
                feature_hint=FeatureHint.ITEM_ID,
                feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")],
            )
        ]
    )
    model = LightningModule(
        SasRec.from_params(
            schema,
            embedding_dim=WIDTH,
            num_heads=HEADS,
            num_blocks=BLOCKS,
            max_sequence_length=MAX_LENGTH,
            dropout=DROPOUT,
        ),
        optimizer_factory=OptimizerFactory(learning_rate=LEARNING_RATE),
    )
    watch = Watch(Clock(given.warm, given.within(-(-rows // given.batch_rows) - 1)))
    metrics = ComputeMetricsCallback(
        metrics=["ndcg"], ks=[10], postprocessors=[SeenItemsFilter(items)], item_count=items, verbose=False
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # whatever Lightning writes
        longest = write_parquet(events, Path(folder))
        data = ParquetModule(
            batch_size=given.batch_rows,
            metadata={
                # One more than the model reads: the transform shifts it into targets.
                "train": {"item_id": {"shape": MAX_LENGTH + 1, "padding": items}},
                "test": {
                    "item_id": {"shape": MAX_LENGTH, "padding": items},
                    "seen_ids": {"shape": longest, "padding": -1},
                    "ground_truth": {"shape": 1, "padding": -1},
                },
            },
            transforms=make_default_sasrec_transforms(schema),
            train_path=f"{folder}/train.parquet",
            test_path=f"{folder}/test.parquet",
        )
        trainer = lightning.Trainer(
            max_epochs=1,
            limit_train_batches=watch.clock.warm + watch.clock.steps,
            limit_val_batches=0,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[watch, metrics],
        )
        trainer.fit(model, datamodule=data)
        training_peak = peak_rss_mb()
        seconds, (tested,) = timed(lambda: trainer.test(model, datamodule=data, verbose=False))
    report(
        package="replay-rec",
        clock=watch.clock,
        rows=rows,
        batch_rows=given.batch_rows,
        targets=int(np.minimum(lengths - 1, MAX_LENGTH).sum()),
        trains="every position, one row a user padded to 50",
        training_peak=training_peak,
        evaluate_seconds=seconds,
        ndcg=tested["ndcg@10"],
        masks_seen=True,
        loss=watch.loss,
    )


if __name__ == "__main__":
    main()
