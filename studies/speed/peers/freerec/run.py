"""SASRec as MTandHJ/CE-SCE-LLMRec trains it with CE, written anew on FreeRec 0.6.3.

That repository is on no package index, so this is not its code but a driver of the same shape, on the same library:
FreeRec's dataset, data pipes, coach, criterion and ranking; histories cut to the last 50 and padded on the left; causal
attention (torch's MultiheadAttention, pads not masked as keys) and point-wise convolutions; logits of every position,
padded ones too, against the whole catalogue, of which a boolean mask then takes the real positions for the mean
cross-entropy; batches of 512 users, its setting for Beauty. Two things of its training loop that CE does not use are
left out, in its favour: the drawing and looking up of negatives, and the separate scores of the targets. Ranking is
FreeRec's: 100 users at a time, seen items masked.
"""

import csv
import os
import sys
import tempfile
import warnings
from pathlib import Path

# Last: this folder's name must not hide the package's.
sys.path.append(str(Path(__file__).resolve().parents[1]))
import freerec
import torch
from driver import BLOCKS, DROPOUT, HEADS, LEARNING_RATE, MAX_LENGTH, WIDTH, Clock, asked, peak_rss_mb, report, timed
from freerec.data.datasets.sequential.base import UserItemTimeTriplet
from freerec.data.fields import FieldModuleList
from freerec.data.postprocessing.source import RandomShuffledSource
from freerec.data.tags import ID, ITEM
from torch import nn

PADS = 1  # item 0 of the table is the pad
MONITORS = ["loss", "hitrate@1", "hitrate@5", "hitrate@10", "ndcg@5", "ndcg@10", "mrr@5", "mrr@10"]


class Exported(UserItemTimeTriplet):
    """The exported data as one of FreeRec's datasets."""


class Block(nn.Module):
    """Attention of the normalised query over the raw sequence, then two convolutions of width one; two residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_forward = (nn.LayerNorm(WIDTH, eps=1e-8) for _ in range(2))
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, dropout=DROPOUT, batch_first=True)
        self.forward_part = nn.Sequential(
            nn.Conv1d(WIDTH, WIDTH, 1), nn.Dropout(DROPOUT), nn.ReLU(), nn.Conv1d(WIDTH, WIDTH, 1), nn.Dropout(DROPOUT)
        )

    def forward(self, x, is_pad, future):
        read, _ = self.attention(self.before_attention(x), x, x, attn_mask=future, need_weights=False)
        x = self.before_forward(read + x)
        return (self.forward_part(x.mT).mT + x).masked_fill(is_pad, 0.0)


class SASRec(freerec.models.RecSysArch):
    """States of a padded batch, and scores of the catalogue."""

    def __init__(self, fields) -> None:
        super().__init__()
        self.fields = fields
        self.item = fields[ITEM, ID]
        self.positions = nn.Embedding(MAX_LENGTH, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-8)
        self.register_buffer("future", torch.ones(MAX_LENGTH, MAX_LENGTH, dtype=torch.bool).triu(1))
        self.reset_parameters()

    def states(self, sequences):
        is_pad = (sequences == 0).unsqueeze(-1)
        x = self.item.look_up(sequences) * WIDTH**0.5 + self.positions.weight
        x = self.dropout(x).masked_fill(is_pad, 0.0)
        for block in self.blocks:
            x = block(x, is_pad, self.future)
        return self.norm(x)

    def predict(self, sequences):
        return self.states(sequences) @ self.item.embeddings.weight[PADS:].T

    def recommend_from_full(self, seqs):
        return self.states(seqs)[:, -1] @ self.item.embeddings.weight[PADS:].T

    def recommend_from_pool(self, seqs, pool):
        raise NotImplementedError("everything is ranked")


class Coach(freerec.launcher.SeqCoach):
    """FreeRec's coach, training until the clock says enough."""

    clock: Clock
    last_loss = 0.0

    def train_per_epoch(self, epoch):
        for batch in self.dataloader:
            users, sequences, targets = (column.to(self.device) for column in batch)
            logits = self.model.predict(sequences)
            real = targets != 0
            loss = self.criterion(logits[real], targets[real] - PADS)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.last_loss = loss.item()
            self.monitor(self.last_loss, n=len(users), mode="mean", prefix="train", pool=["LOSS"])
            if self.clock.step():
                return


def write_triplets(data: Path, folder: Path) -> tuple[int, int]:
    """FreeRec's three files; rows that can be trained on, and their targets."""
    folder.mkdir(parents=True)
    lengths: dict[str, int] = {}
    files = {split: (folder / f"{split}.txt").open("w", encoding="utf-8") for split in ("train", "valid", "test")}
    for file in files.values():
        file.write("user\titem\ttimestamp\n")
    with data.open(encoding="utf-8") as file:
        for event in csv.DictReader(file):
            files[event["split"]].write(f"{event['user']}\t{event['item']}\t{event['position']}\n")
            if event["split"] == "train":
                lengths[event["user"]] = lengths.get(event["user"], 0) + 1
    for file in files.values():
        file.close()
    targets = [min(n - 1, MAX_LENGTH) for n in lengths.values() if n >= 2]
    return len(targets), sum(targets)


def main() -> None:
    given = asked(default_batch_rows=512)
    warnings.filterwarnings("ignore")
    # FreeRec reads the command line too; no worker processes: on two cores they only take from the training.
    sys.argv = [
        sys.argv[0],
        "--num-workers=0",
        f"--batch-size={given.batch_rows}",
        f"--lr={LEARNING_RATE}",
        "--device=cpu",
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # logs, checkpoints
        rows, targets = write_triplets(given.data, Path(folder) / "Sequential" / "Exported")
        settings = freerec.parser.Parser()
        settings.set_defaults(description="SASRec", dataset="Exported", root=folder, weight_decay=0.0)
        settings.compile()
        dataset = Exported(folder, download=False)
        train = (
            RandomShuffledSource(dataset.train().to_seqs(keepid=True))
            .sharding_filter()
            .seq_train_yielding_(dataset, leave_one_out=False)
            .lprune_(indices=[1, 2], maxlen=MAX_LENGTH)
            .add_(indices=[1, 2], offset=PADS)
            .lpad_(indices=[1, 2], maxlen=MAX_LENGTH, padding_value=0)
            .batch(given.batch_rows)
            .column_()
            .tensor_()
        )
        ranked = {"padding_value": 0, "batch_size": 100, "ranking": "full"}
        valid = freerec.data.dataloader.load_seq_lpad_validpipe(dataset, MAX_LENGTH, PADS, **ranked)
        test = freerec.data.dataloader.load_seq_lpad_testpipe(dataset, MAX_LENGTH, PADS, **ranked)
        dataset.fields[ITEM, ID].embed(WIDTH, padding_idx=0)
        model = SASRec(FieldModuleList(dataset.fields))
        coach = Coach(
            dataset=dataset,
            trainpipe=train,
            validpipe=valid,
            testpipe=test,
            model=model,
            criterion=freerec.criterions.CrossEntropy4Logits(reduction="mean"),
            optimizer=torch.optim.Adam(model.parameters(), lr=LEARNING_RATE),
            lr_scheduler=None,
            device="cpu",
        )
        coach.compile(settings, monitors=MONITORS, which4best="ndcg@10")
        coach.clock = Clock(given.warm, given.within(-(-rows // given.batch_rows) - 1))
        coach.train(0)
        training_peak = peak_rss_mb()
        masks_seen = bool(coach.remove_seen)
        seconds, _ = timed(lambda: coach.test(0))
        ndcg = next(meter.avg for meter in coach.monitors["test"]["NDCG"] if meter.name == "NDCG@10")
    report(
        package="freerec",
        clock=coach.clock,
        rows=rows,
        batch_rows=given.batch_rows,
        targets=targets,
        trains="every position, one row a user padded to 50 on the left",
        training_peak=training_peak,
        evaluate_seconds=seconds,
        ndcg=float(ndcg),
        masks_seen=masks_seen,
        loss=coach.last_loss,
    )


if __name__ == "__main__":
    main()
