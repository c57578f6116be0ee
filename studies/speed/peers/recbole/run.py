"""RecBole 1.2.1's SASRec with cross-entropy over the catalogue, by its own trainer.

RecBole trains one row a prefix: the encoder reads the whole padded prefix, the loss is of its last position only.
Batches of 2,048 rows are its default. The network is brought to ours as far as options reach: width 64 inside the
feed-forward too, ReLU. For sequential models RecBole ranks without masking earlier items (``repeatable: True``).
"""

import contextlib
import logging
import os
import sys
import tempfile
from pathlib import Path

# Last: this folder's name must not hide the package's.
sys.path.append(str(Path(__file__).resolve().parents[1]))
import pandas as pd
from driver import BLOCKS, DROPOUT, HEADS, LEARNING_RATE, MAX_LENGTH, WIDTH, Clock, asked, peak_rss_mb, report, timed
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed


class EnoughError(Exception):
    """The steps asked for are done."""


def write_atomic(data: Path, folder: Path) -> None:
    """RecBole's own file format; the split is then made by RecBole: last event to test, the one before to valid."""
    events = pd.read_csv(data)
    events.columns = ["user_id:token", "item_id:token", "timestamp:float", "split"]
    (folder / "exported").mkdir()
    events.iloc[:, :3].to_csv(folder / "exported" / "exported.inter", sep="\t", index=False)


def main() -> None:
    given = asked(default_batch_rows=2048)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # logs
        write_atomic(given.data, Path(folder))
        config = Config(
            model="SASRec",
            dataset="exported",
            config_dict={
                "data_path": folder,
                "checkpoint_dir": folder,
                "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
                "use_gpu": False,
                "show_progress": False,
                "epochs": 1,
                "train_batch_size": given.batch_rows,
                "loss_type": "CE",
                "train_neg_sample_args": None,
                "hidden_size": WIDTH,
                "inner_size": WIDTH,
                "n_layers": BLOCKS,
                "n_heads": HEADS,
                "hidden_act": "relu",
                "hidden_dropout_prob": DROPOUT,
                "attn_dropout_prob": DROPOUT,
                "MAX_ITEM_LIST_LENGTH": MAX_LENGTH,
                "learning_rate": LEARNING_RATE,
                "metrics": ["NDCG"],
                "topk": [10],
                "valid_metric": "NDCG@10",
            },
        )
        init_seed(config["seed"], config["reproducibility"])
        logging.getLogger().setLevel(logging.ERROR)
        train, _, test = data_preparation(config, create_dataset(config))
        rows = len(train.dataset)
        model = get_model(config["model"])(config, train.dataset)
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)

        clock = Clock(given.warm, given.within(len(train) - 1))
        losses = []
        calculate_loss = model.calculate_loss

        def counted(interaction):  # a call means that the step before is done
            if losses and clock.step():
                raise EnoughError
            loss = calculate_loss(interaction)
            losses.append(float(loss.detach()))
            return loss

        model.calculate_loss = counted
        with contextlib.suppress(EnoughError):
            trainer.fit(train, saved=False, verbose=False, show_progress=False)
        training_peak = peak_rss_mb()
        seconds, metrics = timed(lambda: trainer.evaluate(test, load_best_model=False))
    report(
        package="recbole",
        clock=clock,
        rows=rows,
        batch_rows=given.batch_rows,
        targets=rows,
        trains="one row a prefix, padded to 50, loss at its last position",
        training_peak=training_peak,
        evaluate_seconds=seconds,
        ndcg=float(metrics["ndcg@10"]),
        masks_seen=not config["repeatable"],
        loss=losses[-1],
    )


if __name__ == "__main__":
    main()
