"""Run folders made by hand: what a report reads, without a training."""

import json

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from recsys_lt.cli import report

USERS = 120
GROUPS = np.arange(USERS) % 3


def histories(ndcg, shortest):
    served = {"low": 0.0, "high": 2 * ndcg}
    edges = ((shortest, 4, 50, 0.5), (5, 9, 40, 1.0), (10, 1200, 30, 2.0))
    return [
        {"shortest": a, "longest": b, "users": n, "ndcg@10": ndcg * factor, "nonhead": {"users": 9, "ndcg@10": ndcg}}
        | served
        for a, b, n, factor in edges
    ]


def make_run(
    folder, ndcg=0.05, *, dataset="beauty", model="sasrec", loss="ce", optimizer="adam", seed=0, lr="0.001",
    deciles=True, config=True, curve=True, ranks=True, raw=0.0, shortest=3,
):  # fmt: skip
    """``raw``: the share of users whose rank is thrown away; ``shortest``: the least events before a target."""
    folder.mkdir(parents=True)
    groups = {f"{group}/": factor for group, factor in (("head", 2.0), ("mid", 0.8), ("tail", 0.2), ("nonhead", 0.6))}
    test = {f"{group}{metric}": ndcg * factor for metric in ("ndcg@10", "hr@10") for group, factor in groups.items()}
    test |= {"ndcg@10": ndcg, "hr@10": 2 * ndcg, "mrr@10": 0.8 * ndcg, "users": USERS, "coverage@10": 0.4}
    test |= {"gini@10": 0.7, "arp@10": 31.0, "aplt@10": 0.1, "head/exposure@10": 0.6, "mid/exposure@10": 0.3}
    test |= {"tail/exposure@10": 0.1}
    metrics = {
        "dataset": dataset, "model": model, "loss": loss, "optimizer": optimizer, "seed": seed,
        "protocol": {"split": "leave-one-out", "users": USERS, "items": 500, "fingerprint": dataset},
        "valid": {}, "test": test, "best_epoch": 4, "epochs": 6,
        "train": {"seconds_per_epoch": 2.5, "parameters": 1000, "device": "cpu", "threads": 1},
        "versions": {"recsys_lt": "0.1.0", "torch": "2.99"},
    }  # fmt: skip
    if deciles:
        rows = [
            {"items": 50, "least": 100 - 10 * n, "most": 110 - 10 * n, "interactions": 0.1, "exposure": 0.2 - 0.02 * n,
             "users": 12, "ndcg@10": ndcg * (1 - n / 12), "low": 0.0, "high": 2 * ndcg}
            for n in range(10)
        ]  # fmt: skip
        metrics["long_tail"] = {"deciles": rows, "histories": histories(ndcg, shortest)}
    if config:
        lines = [
            f"dataset: {{_target_: a.Data, name: {dataset}}}",
            f"model: {{_target_: b.{model}, dropout: 0.2}}",
            f"loss: {{_target_: c.{loss}}}",
            f"optimizer: {{_target_: d.{optimizer}, lr: {lr}}}",
            f"seed: {seed}",
        ]
        (folder / "config.yaml").write_text("\n".join(lines))
    if curve:
        lines = ["epoch,valid/ndcg@10,valid/nonhead/ndcg@10,train/loss"]
        lines += [f"{n},{ndcg * n / 6 if n % 2 == 0 else ''},{ndcg * n / 9},{7 - n}" for n in range(7)]
        (folder / "learning_curve.csv").write_text("\n".join(lines))
    if ranks:
        random = np.random.default_rng(0)
        rank = random.integers(1, 15, USERS)
        rank[random.random(USERS) < raw] = 400
        columns = {"user": np.arange(USERS), "target": np.arange(USERS) % 500, "rank": rank, "group": GROUPS}
        parquet.write_table(pa.table(columns), folder / "ranks.parquet")
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def fail(folder, error="the loss is not a number at step 3"):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        "choices: {dataset: beauty, model: caser, loss: bpr, optimizer: adam}\nloss: {_target_: losses.BPR}\nseed: 4"
    )
    (folder / "failed.json").write_text(json.dumps({"error": error, "exit_code": 2}))


def written(folder, out=None, users=4):
    """The report of a folder, written by the command."""
    path = out or folder / report.REPORT
    assert report.main([str(folder), "--out", str(path), "--users", str(users)]) == 0
    return path
