"""The processes of one run: where they meet, and who waits for whom."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from recsys_lt.__main__ import CONF
from recsys_lt.evidence import checkpoints, journal
from recsys_lt.evidence.stored import Names
from recsys_lt.launch import launch
from recsys_lt.run import _one_process
from tests.end_to_end.conftest import TINY


def _with_a_slow_disk(plain: Any, folder: Path) -> dict[str, Any]:
    def save(*arguments: Any) -> None:
        time.sleep(2)
        checkpoints.save(*arguments)

    # Nobody else can have the port at which they are to meet, however late they come.
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", int(os.environ["MASTER_PORT"])))
    journal.save = save  # type: ignore[attr-defined]
    return _one_process(plain, Names("synthetic", "sasrec", "ce", "adam"), folder, None, False)


def test_no_process_reads_weights_that_another_is_still_to_write(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    choices = ("trainer.max_epochs=0", "strategy=ddp", "strategy.accelerator=cpu", "trainer.devices=2", "logger=none")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [*TINY, *choices])
    metrics = launch(_with_a_slow_disk, (OmegaConf.to_container(config, resolve=True), tmp_path), 2)
    assert (metrics["train"]["processes"], metrics["best_epoch"]) == (2, 0)
    assert metrics == json.loads((tmp_path / "metrics.json").read_text())
