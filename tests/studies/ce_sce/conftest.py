"""Made runs of the paper's cells, in their slim form."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import yaml

from recsys_lt import CONF
from studies.ce_sce import figures
from studies.ce_sce.choices import CHOICES
from studies.ce_sce.claims import claims
from studies.ce_sce.judging import Claim

USERS = 400


@pytest.fixture(scope="session", autouse=True)
def composed_once() -> Iterator[None]:
    """Each published setting is composed once for all tests."""
    with mock.patch.object(figures, "_published_setting", cache(figures._published_setting)):
        yield


@cache
def _configuration(*choices: str) -> str:
    """The shipped configuration of these choices with seed 0, as YAML."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [*choices, "seed=0", CHOICES])
    return yaml.safe_dump(OmegaConf.to_container(config, resolve=False))


def make_run(folder: Path, *choices: str, gain: float = 0.05, seed: int = 0, optimizer: str = "adam") -> None:
    """A run's slim folder: the shipped configuration of these choices, and users of whom a share is hit at rank 1."""
    picked = {c.split("=")[0]: c.split("=")[1] for c in choices}
    names = {part: picked.get(part, "?") for part in ("dataset", "model", "loss")} | {"optimizer": optimizer}
    folder.mkdir(parents=True)
    whole = _configuration(*choices).replace("\nseed: 0\n", f"\nseed: {seed}\n")
    (folder / "config.yaml").write_text(yaml.safe_dump({"choices": names}) + whole)
    hits = round(gain * USERS)
    rank = np.where(np.arange(USERS) < hits, 1, 500)
    ranks = pd.DataFrame(
        {"user": np.arange(USERS), "target": np.arange(USERS), "rank": rank, "group": np.arange(USERS) % 2}
    )
    ranks.to_parquet(folder / "ranks.parquet")
    test = {
        f"{group}{metric}@{k}": gain
        for group in ("", "head/", "mid/", "tail/", "nonhead/")
        for metric in ("ndcg", "mrr", "hr")
        for k in (5, 10)
    }
    metrics = names | {
        "seed": seed,
        "protocol": {
            "split": "leave-one-out", "users": 22363, "items": 12101, "interactions": 198502, "max_length": 50,
            "fingerprint": picked["dataset"],
        },
        "valid": {"ndcg@10": gain}, "test": test, "best_epoch": 10, "epochs": 20, "finished": True,
        "train": {"seconds_per_epoch": 2.0, "parameters": 828224, "device": "cpu", "threads": 2},
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))


def make_runs(folder: Path, *choices: str, gain: float = 0.05) -> None:
    """Two seeds of a cell, as one seed settles nothing."""
    for seed in (0, 1):
        make_run(folder.with_name(f"{folder.name}_seed{seed}"), *choices, gain=gain, seed=seed)


def cell(loss: str, *more: str, model: str = "sasrec", dataset: str = "beauty") -> tuple[str, ...]:
    return (f"dataset={dataset}", f"model={model}", f"loss={loss}", *more)


FAST = ("optimizer.lr=2e-3", "trainer.max_epochs=60")


def change(folder: Path, **protocol: object) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["protocol"] |= protocol
    (folder / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    make_run(root / "ce0", *cell("ce"), gain=0.06)
    make_run(root / "ce1", *cell("ce"), gain=0.0625, seed=1)
    make_run(root / "ce_again", *cell("ce"), gain=0.06)  # kept twice
    make_run(root / "bce", *cell("bce"), gain=0.02)
    make_run(root / "sce_fast", *cell("sce", *FAST), gain=0.0575)
    make_run(root / "gru_curve", *cell("ce", "trainer.max_epochs=20", model="gru4rec"), gain=0.5)
    make_run(root / "sam", *cell("ce"), gain=0.9, optimizer="sam")
    return root


def claim(root: Path, words: str) -> Claim:
    (found,) = [each for each in claims(figures.evidence_of([root])) if words in each.statement]
    return found
