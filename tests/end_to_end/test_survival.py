"""Killed, interrupted, diverging: nothing is lost, and a resumed run ends as one left alone."""

import csv
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import TINY, Cli, Start, Started

LONG = (*TINY, "trainer.max_epochs=12", "trainer.eval_every=4", "dataset.source.n_users=800", "logger=none")


def result(folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return {key: metrics[key] for key in ("test", "valid", "best_epoch", "epochs", "finished")}


@pytest.fixture(scope="module")
def alone(here: Cli, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("alone")
    done = here(*LONG, "hydra.run.dir=run", cwd=place)
    assert done.returncode == 0, done.stderr
    return result(place / "run")


def wait_for_epoch(process: Started, folder: Path, epoch: int) -> None:
    curve = folder / "learning_curve.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.runs(), process.said()
        if curve.is_file() and len(curve.read_text().splitlines()) > epoch + 1:
            return
        time.sleep(0.02)
    raise AssertionError("the run never got there")


def validations(folder: Path) -> list[bool]:
    """Whether each row of the learning curve, which are epochs 1, 2, ... here, holds a validation."""
    with (folder / "learning_curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))
    return [bool(row.get("valid/ndcg@10")) for row in rows]


def test_kill_and_resume_equals_never_stopped(here: Cli, start: Start, alone: dict[str, Any], tmp_path: Path) -> None:
    # With a worker, which fetches ahead before a resumed run has said which epoch it is at.
    process = start(*LONG, "trainer.num_workers=1", "hydra.run.dir=run", cwd=tmp_path)
    wait_for_epoch(process, tmp_path / "run", 6)
    process.signal(signal.SIGKILL)
    assert process.ended() == -signal.SIGKILL
    assert not (tmp_path / "run" / "metrics.json").exists()
    done = here("resume", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert result(tmp_path / "run") == alone


def test_a_rule_that_carries_a_direction_is_killed_and_resumed(here: Cli, start: Start, tmp_path: Path) -> None:
    stale = (*LONG, "trainer.max_epochs=8", "optimizer=eisam", "optimizer.form=stale", "optimizer.rho=0.5")
    done = here(*stale, "hydra.run.dir=alone", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    process = start(*stale, "hydra.run.dir=run", cwd=tmp_path)
    wait_for_epoch(process, tmp_path / "run", 5)
    process.signal(signal.SIGKILL)
    assert process.ended() == -signal.SIGKILL
    done = here("resume", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert result(tmp_path / "run") == result(tmp_path / "alone")


def test_ctrl_c_leaves_metrics_and_a_run_to_go_on_with(
    here: Cli, start: Start, alone: dict[str, Any], tmp_path: Path
) -> None:
    process = start(*LONG, "hydra.run.dir=run", cwd=tmp_path)
    wait_for_epoch(process, tmp_path / "run", 5)
    process.signal(signal.SIGINT)
    assert process.ended() == 130
    output = process.said()
    assert "Traceback" not in output
    assert f"resume {tmp_path / 'run'}" in output
    so_far = result(tmp_path / "run")
    assert so_far["finished"] is False
    assert so_far["best_epoch"] % 4 == 0
    done = here("resume", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert result(tmp_path / "run") == alone


def test_ctrl_c_before_the_first_validation_leaves_metrics_too(here: Cli, start: Start, tmp_path: Path) -> None:
    late = (
        *LONG,
        "trainer.eval_every=12",
        "trainer.eval_untrained=false",
        "hydra.run.dir=run",
    )
    process = start(*late, cwd=tmp_path)
    wait_for_epoch(process, tmp_path / "run", 2)
    process.signal(signal.SIGINT)
    assert process.ended() == 130
    output = process.said()
    assert "Traceback" not in output
    so_far = result(tmp_path / "run")
    assert so_far["finished"] is False
    assert 3 <= so_far["best_epoch"] == so_far["epochs"] < 12
    assert validations(tmp_path / "run") == [*[False] * (so_far["epochs"] - 1), True]
    done = here("resume", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (result(tmp_path / "run")["finished"], result(tmp_path / "run")["best_epoch"]) == (True, 12)
    assert validations(tmp_path / "run") == [*[False] * 11, True]


def test_a_finished_run_can_be_made_longer_but_not_shorter(here: Cli, tmp_path: Path) -> None:
    short = (*TINY, "logger=none", "trainer.eval_every=1")
    assert here(*short, "trainer.max_epochs=2", "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    assert here(*short, "trainer.max_epochs=3", "hydra.run.dir=whole", cwd=tmp_path).returncode == 0
    refused = here("resume", "run", "trainer.max_epochs=1", cwd=tmp_path)
    assert refused.returncode == 2
    assert "trained 2 epochs already" in refused.stderr
    assert here("resume", "run", "trainer.max_epochs=3", cwd=tmp_path).returncode == 0
    assert result(tmp_path / "run") == result(tmp_path / "whole")


def test_a_loss_that_is_not_a_number_stops_and_names_the_step(here: Cli, tmp_path: Path) -> None:
    done = here(*TINY, "optimizer.lr=1e30", "trainer.max_epochs=5", "logger=none", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "epoch 1, step" in done.stderr
    assert "optimizer.lr" in done.stderr
