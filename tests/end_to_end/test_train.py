"""One run from the command line, and all it must leave behind."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from recsys_lt.training.settings import GroupSettings
from recsys_lt.training.trained import Run
from tests.end_to_end.conftest import TINY, Cli
from tests.end_to_end.weights_and_biases import read


@pytest.fixture(scope="module")
def trained(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    place = tmp_path_factory.mktemp("train")
    sent = "logger.artifacts=[config,report,checkpoint]"
    done = cli(*TINY, "trainer.max_epochs=7", "trainer.eval_every=3", "hydra.run.dir=run", sent, cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return place / "run", done.stdout


@pytest.fixture(scope="module")
def metrics(trained: tuple[Path, str]) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((trained[0] / "metrics.json").read_text())
    return loaded


def test_metrics_hold_the_public_contract(metrics: dict[str, Any]) -> None:
    assert (metrics["dataset"], metrics["model"], metrics["loss"], metrics["optimizer"], metrics["seed"]) == (
        "synthetic", "sasrec", "ce", "adam", 0,
    )  # fmt: skip
    for k in (1, 5, 10, 20):
        for name in ("ndcg", "hr", "mrr"):
            for group in ("", "head/", "mid/", "tail/", "nonhead/"):
                assert 0 <= metrics["test"][f"{group}{name}@{k}"] <= 1
            assert 0 <= metrics["valid"][f"{name}@{k}"] <= 1
        for name in ("arp", "aplt", "coverage", "gini"):
            assert math.isfinite(metrics["test"][f"{name}@{k}"])
    assert {"seconds_per_epoch", "eval_seconds", "peak_rss_mb", "targets_per_second"} <= set(metrics["train"])
    assert metrics["epochs"] == 7
    assert metrics["finished"] is True
    assert metrics["versions"]["torch"] == torch.__version__
    assert "commit" in metrics["versions"]
    assert {"split", "mask_seen", "ties", "ranking", "max_length"} <= set(metrics["protocol"])


def test_it_learned_something(metrics: dict[str, Any]) -> None:
    # Ranking 120 items at random has an HR@10 of 0.083.
    assert metrics["test"]["hr@10"] > 0.2


def test_epochs_0_3_6_and_the_last_are_validated_and_the_best_is_chosen(
    trained: tuple[Path, str], metrics: dict[str, Any]
) -> None:
    curve = pd.read_csv(trained[0] / "learning_curve.csv")
    assert list(curve["epoch"]) == list(range(8))
    validated = curve.dropna(subset=["valid/ndcg@10"])
    assert list(validated["epoch"]) == [0, 3, 6, 7]
    best = validated.loc[validated["valid/ndcg@10"].idxmax()]
    assert metrics["best_epoch"] == best["epoch"]
    assert metrics["valid"]["ndcg@10"] == pytest.approx(best["valid/ndcg@10"], abs=1e-6)


def test_the_ranks_give_the_metrics(trained: tuple[Path, str], metrics: dict[str, Any]) -> None:
    ranks = pd.read_parquet(trained[0] / "ranks.parquet")
    assert ranks["user"].is_unique
    assert len(ranks) == metrics["test"]["users"]
    assert (ranks["rank"] <= 10).mean() == pytest.approx(metrics["test"]["hr@10"])
    tail = ranks[ranks["group"] == 2]
    assert (tail["rank"] <= 10).mean() == pytest.approx(metrics["test"]["tail/hr@10"])
    deciles, histories = metrics["long_tail"]["deciles"], metrics["long_tail"]["histories"]
    assert sum(row["users"] for row in deciles[:2]) == metrics["test"]["head/users"]
    assert sum(row["exposure"] for row in deciles[:2]) == pytest.approx(metrics["test"]["head/exposure@10"])
    for rows in (deciles, histories):
        total = sum(row["users"] * (row["ndcg@10"] or 0) for row in rows)
        assert total / len(ranks) == pytest.approx(metrics["test"]["ndcg@10"])
    assert sum(row["nonhead"]["users"] for row in histories) == metrics["test"]["nonhead/users"]


def test_the_folder_holds_the_evidence(trained: tuple[Path, str]) -> None:
    folder, printed = trained
    for picture in ("learning_curve", "long_tail", "history_length"):
        assert (folder / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"{picture}.pdf").read_bytes().startswith(b"%PDF")
    for checkpoint in ("best.ckpt", "last.ckpt"):
        state = torch.load(folder / checkpoint, weights_only=True)
        assert "backbone.items.weight" in state["state_dict"]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["choices"] == {"dataset": "synthetic", "model": "sasrec", "loss": "ce", "optimizer": "adam"}
    for word in ("NDCG@10", "overall", "head", "mid", "tail", "protocol", "run folder"):
        assert word in printed
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [".lock"]


def test_the_offline_wandb_run_says_the_same(trained: tuple[Path, str], metrics: dict[str, Any]) -> None:
    (file,) = trained[0].glob("wandb/offline-run-*/run-*.wandb")
    logged = read(file)
    assert logged["group"] == "synthetic_sasrec_ce_adam"
    assert logged["tags"] == ["synthetic", "sasrec", "ce", "adam"]
    assert {key: logged["config"][key] for key in ("dataset", "model", "loss", "optimizer", "seed")} == {
        key: metrics[key] for key in ("dataset", "model", "loss", "optimizer", "seed")
    }
    assert logged["config"]["settings"]["trainer"]["max_epochs"] == 7
    assert logged["history"] >= 8
    sent = {"config": ["config.yaml"], "report": ["report.html"], "checkpoint": ["best.ckpt"]}
    assert logged["artifacts"] == sent | {"run_table": logged["artifacts"]["run_table"]}
    for part in ("valid", "test", "train", "protocol"):
        for key, value in metrics[part].items():
            if not isinstance(value, dict):
                assert logged["summary"][f"{part}/{key}"] == value
    for picture in ("learning_curve", "long_tail", "history_length"):
        assert f"{picture}/path" in logged["summary"]
    for table in ("metrics_by_group", "tenths", "examples"):
        assert logged["summary"][f"tables/{table}/_type"] == "table-file"
        (path,) = file.parent.glob(f"files/media/table/tables/{table}_*.table.json")
        told = json.loads(path.read_text())
        assert len(told["data"]) == {"metrics_by_group": 13, "tenths": 10, "examples": 8}[table]  # 12 metrics, users
    assert not [key for key in logged["summary"] if key.startswith("long_tail/deciles")]  # a table and a picture
    assert {"learning_rate", "gradient_norm"} <= logged["history_keys"]
    assert f"W&B: offline; upload with: wandb sync run/wandb/{file.parent.name}" in trained[1]
    assert logged["summary"]["best_epoch"] == metrics["best_epoch"]
    assert "train/loss" not in logged["summary"]  # an epoch's row must not stand as a result


def test_the_same_seed_gives_the_same_numbers_with_workers_and_other_rank_batches(
    here: Cli, trained: tuple[Path, str], metrics: dict[str, Any], tmp_path: Path
) -> None:
    done = here(
        *TINY, "trainer.max_epochs=7", "trainer.eval_every=3", "trainer.num_workers=2", "trainer.rank_rows=37",
        "logger=none", "hydra.run.dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    again = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert again["test"] == metrics["test"]
    assert again["valid"] == metrics["valid"]


def test_without_a_look_at_the_untrained_model_training_is_the_same(
    here: Cli, metrics: dict[str, Any], tmp_path: Path
) -> None:
    done = here(
        *TINY, "trainer.max_epochs=7", "trainer.eval_every=3", "trainer.eval_untrained=false", "logger=none",
        "hydra.run.dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    curve = pd.read_csv(tmp_path / "run" / "learning_curve.csv")
    assert list(curve["epoch"]) == list(range(1, 8))
    assert list(curve.dropna(subset=["valid/ndcg@10"])["epoch"]) == [3, 6, 7]
    again = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for part in ("test", "valid", "best_epoch", "epochs", "finished"):
        assert again[part] == metrics[part]


def test_a_model_that_does_not_train_is_validated_all_the_same(here: Cli, tmp_path: Path) -> None:
    done = here(*TINY, "model=pop", "trainer.eval_untrained=false", "logger=none", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["best_epoch"], metrics["epochs"], metrics["train"]["parameters"]) == (0, 0, 0)
    assert list(pd.read_csv(tmp_path / "run" / "learning_curve.csv")["epoch"]) == [0]


def test_popularity_of_late(
    here: Cli, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = here(
        *TINY, "model=pop", "logger=none", "hydra.run.dir=run", "metrics.groups=[0.3,0.5,0.2]",
        "metrics.groups.window=20w", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "groups head 0.3/mid 0.5/tail 0.2; groups by training interactions of the last 20w" in " ".join(
        done.stdout.split()
    )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["protocol"]["groups_by"].startswith("training interactions of the last 20w (")
    # What a later reader works out of the folder is what the run had.
    monkeypatch.setenv("RECSYS_LT_CACHE", environment["RECSYS_LT_CACHE"])
    run = Run(tmp_path / "run")
    groups = run.groups
    ranks = pd.read_parquet(tmp_path / "run" / "ranks.parquet")
    assert (groups.of[ranks["target"]] == ranks["group"]).all()
    assert 0 < groups.popularity.sum() < run.data.popularity.sum()
    assert (groups.of != GroupSettings([0.3, 0.5, 0.2]).of(run.data).of).any()
    deciles = metrics["long_tail"]["deciles"]
    assert (deciles[0]["most"], deciles[-1]["least"]) == (groups.popularity.max(), groups.popularity.min())
    # ARP stays a mean of all training interactions, whatever the groups are made by.
    done = here(*TINY, "model=pop", "logger=none", "hydra.run.dir=usual", cwd=tmp_path)
    usual = json.loads((tmp_path / "usual" / "metrics.json").read_text())
    assert usual["protocol"]["fingerprint"] == metrics["protocol"]["fingerprint"]
    assert usual["test"]["arp@10"] == metrics["test"]["arp@10"]
    assert usual["test"]["head/users"] != metrics["test"]["head/users"]


@pytest.mark.parametrize("rule", [(), ("optimizer=eisam", "optimizer.rho=0.5", "optimizer.accumulate=two_pass")])
def test_two_half_batches_make_the_step_of_one(here: Cli, tmp_path: Path, rule: tuple[str, ...]) -> None:
    """Also where the last batch is smaller, and rows differ in their number of targets."""
    curves = []
    for name, settings in {
        "whole": ["trainer.batch_rows=90"],
        "halves": ["trainer.batch_rows=45", "trainer.accumulate=2"],
    }.items():
        done = here(
            *TINY, *rule, *settings, "trainer.max_epochs=2", "logger=none", f"hydra.run.dir={name}", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        curves.append(json.loads((tmp_path / name / "metrics.json").read_text())["test"]["ndcg@20"])
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)


@pytest.mark.parametrize(
    "optimizer",
    [
        ("lazy_adam",),
        ("eisam", "optimizer.form=stale", "optimizer.every=2", "precision=bf16"),
        ("eisam", "optimizer.accumulate=two_pass", "precision=bf16-mixed"),
    ],
)
def test_a_rule_accumulates_clips_and_resumes(here: Cli, tmp_path: Path, optimizer: tuple[str, ...]) -> None:
    settings = (
        *TINY, "dataset.source.n_items=1500", "loss=sce", "loss.k=20", "loss.share=batch",
        f"optimizer={optimizer[0]}", *optimizer[1:],
        "trainer.accumulate=2", "trainer.clip=0.1", "trainer.eval_every=1", "logger=none",
    )  # fmt: skip
    for name, epochs in (("whole", 3), ("parts", 1)):
        done = here(*settings, f"trainer.max_epochs={epochs}", f"hydra.run.dir={name}", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    done = here("resume", "parts", "trainer.max_epochs=3", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    whole, parts = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "parts"))
    assert whole["best_epoch"] > 0
    assert (whole["valid"], whole["test"]) == (parts["valid"], parts["test"])
    curves = [pd.read_csv(tmp_path / name / "learning_curve.csv")["train/loss"] for name in ("whole", "parts")]
    assert curves[0].equals(curves[1])


def test_the_backbone_without_a_stored_result_runs(here: Cli, tmp_path: Path) -> None:
    done = here(*TINY, "model=fmlp_rec", "loss=sce", "loss.k=10", "trainer.max_epochs=1", "logger=none",
                "dataset.source.n_users=60", "hydra.run.dir=run", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0 <= metrics["test"]["ndcg@10"] <= 1
