"""The processes of one run: where they meet, and who waits for whom."""

import atexit
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from recsys_lt import CONF
from recsys_lt.runs import checkpoints
from recsys_lt.runs.stored import Names, Stored
from recsys_lt.system.stopping import Stop
from recsys_lt.training import journal
from recsys_lt.training.launch import launch
from recsys_lt.training.run import _one_process
from tests.end_to_end.conftest import TINY, Cli


def _with_a_slow_disk(this: Stored, folder: Path, stop: Stop) -> dict[str, Any]:
    def save(*arguments: Any) -> None:
        time.sleep(2)
        checkpoints.save(*arguments)

    # Nobody else can have the port at which they are to meet, however late they come.
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", int(os.environ["MASTER_PORT"])))
    journal.save = save  # type: ignore[attr-defined]
    return _one_process(this, folder, False, False, stop).metrics


@pytest.mark.usefixtures("forked_ranks")
def test_no_process_reads_weights_that_another_is_still_to_write(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    choices = ("trainer.max_epochs=0", "strategy=ddp", "strategy.accelerator=cpu", "trainer.devices=2", "logger=none")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [*TINY, *choices])
    this = Stored(config, Names("synthetic", "sasrec", "ce", "adam"), None)
    metrics, signal = launch(_with_a_slow_disk, (this, tmp_path), 2)
    assert signal == 0
    assert (metrics["train"]["processes"], metrics["best_epoch"]) == (2, 0)
    assert metrics == json.loads((tmp_path / "metrics.json").read_text())


def _says_at_exit(folder: Path, _stop: Stop) -> int:
    """Train nothing, but leave behind what a run leaves: a wrapped model in a cycle, and sums in gloo's threads."""
    rank = int(os.environ["RANK"])
    distributed.init_process_group("gloo")
    model = DistributedDataParallel(torch.nn.Linear(2, 1))
    model.itself = model
    model(torch.ones(1, 2)).sum().backward()
    atexit.register(lambda: (folder / str(rank)).write_text(" ".join(_threads())))
    assert any("gloo" in name for name in _threads())
    return distributed.get_world_size()


def _threads() -> list[str]:
    return [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="this system does not list a process's threads")
def test_threads_of_the_process_group_end_before_the_interpreter(tmp_path: Path) -> None:
    assert launch(_says_at_exit, (tmp_path,), 2) == (2, 0)
    for rank in "01":
        assert "gloo" not in (tmp_path / rank).read_text()


@pytest.mark.usefixtures("forked_ranks")
@pytest.mark.parametrize("model", ["cotten4rec", "hstu"])
def test_a_process_without_a_row_of_the_last_batch_trains_on(here: Cli, tmp_path: Path, model: str) -> None:
    # The last batch has one of the 400 users.
    run = (*TINY[:-1], "trainer.batch_rows=57", f"model={model}", "trainer.max_epochs=2", "logger=none")
    two = ("strategy=ddp", "strategy.accelerator=cpu", "trainer.devices=2", "hydra.run.dir=two")
    for choices in (two, ("strategy=cpu", "hydra.run.dir=one")):
        done = here(*run, *choices, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    losses = [pd.read_csv(tmp_path / name / "learning_curve.csv")["train/loss"].dropna() for name in ("one", "two")]
    assert len(losses[0]) == 2
    assert losses[1].tolist() == pytest.approx(losses[0].tolist(), rel=1e-4)
