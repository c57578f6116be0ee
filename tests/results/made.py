"""Made runs, the command on them, and what it prints."""

import csv
import json

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from recsys_lt.cli import table
from recsys_lt.metrics.ranking import gains

USERS = np.arange(200)


def config_text(model="sasrec", loss="ce", seed=0, lr="5e-4", **more):
    lines = [f"dataset: {{name: beauty}}\nmodel: {{name: {model}}}\nloss: {{name: {loss}}}"]
    lines += [f"optimizer: {{name: adam, lr: {lr}}}", f"seed: {seed}"]
    lines.append(f"choices: {{dataset: beauty, model: {model}, loss: {loss}, optimizer: adam}}")
    return "\n".join(lines + [f"{key}: {value}" for key, value in more.items()])


def make_run(
    folder, ndcg=0.05, *, dataset="beauty", model="sasrec", loss="ce", seed=0, ranks=None, config=None, data="",
    valid=None, **protocol,
):  # fmt: skip
    folder.mkdir(parents=True)
    test = {"ndcg@10": ndcg, "hr@10": ndcg and 2 * ndcg, "gini@10": 0.5}
    test |= {"head/ndcg@10": ndcg and 2 * ndcg, "tail/ndcg@10": None, "tail/hr@10": None}
    content = {
        "dataset": dataset, "model": model, "loss": loss, "optimizer": "adam", "seed": seed,
        "protocol": {"fingerprint": data} | protocol, "valid": {"ndcg@10": valid}, "test": test,
        "best_epoch": 1, "epochs": 2, "train": {}, "versions": {},
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(content))
    if config is not None:
        (folder / "config.yaml").write_text(config)
    if ranks is not None:
        # In whatever order: users are matched by id.
        order = np.random.default_rng(seed).permutation(len(USERS))
        columns = {"user": USERS[order], "target": USERS[order] % 7, "rank": ranks[order], "group": USERS[order] % 3}
        parquet.write_table(pa.table(columns), folder / "ranks.parquet")


def grouped(tmp_path):
    """Two losses; the second serves nonhead targets better, and head ones worse."""
    group = np.arange(200) % 3
    for name, loss, head, other in (("a", "ce", 0, 8), ("b", "sce", 6, 1)):
        make_run(tmp_path / name, 0.05, loss=loss)
        rank = np.where(group == 0, head, other) + USERS % 3
        columns = {"user": USERS, "target": USERS, "rank": rank, "group": group.astype(np.int8)}
        parquet.write_table(pa.table(columns), tmp_path / name / "ranks.parquet")
        path = tmp_path / name / "metrics.json"
        content = json.loads(path.read_text())
        ndcg = gains("ndcg", rank, 10)
        content["test"] |= {"ndcg@10": ndcg.mean(), "head/ndcg@10": ndcg[group == 0].mean()}
        content["test"] |= {"nonhead/ndcg@10": ndcg[group > 0].mean()}
        path.write_text(json.dumps(content))
    return tmp_path


def run(capsys, *arguments):
    code = table.main([str(argument) for argument in arguments])
    streams = capsys.readouterr()
    return code, streams.out, streams.err


def row_of(text, *words):
    return next(line.split() for line in text.splitlines() if all(word in line.split() for word in words))


def csv_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
