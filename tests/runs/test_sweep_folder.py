"""Cells of a sweep's folder: claimed by one process, gone on with, never written over."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from recsys_lt.runs.run_folder import held
from recsys_lt.runs.stored import Names, Stored, stored
from recsys_lt.runs.sweep import Failure, claimed, failures, note_failure
from recsys_lt.system.atomic import write_json

NAMES = Names("synthetic", "sasrec", "ce", "adam")


def cell(lr: float = 1e-3, **others: Any) -> Stored:
    config = {
        "dataset": {"raw_dir": None},
        "model": {},
        "metrics": {"max_users": None},
        "optimizer": {"lr": lr},
        "seed": 0,
    }
    config |= {"schedule": {}, "trainer": {"devices": 1, "max_train_rows": None}, "logger": "none"}
    return Stored(OmegaConf.create(config | others), NAMES, "sweep")


def finish(folder: Path, finished: bool = True) -> None:
    write_json(folder / "metrics.json", {"finished": finished, "test": {}})


def test_new_then_begun_then_done_in_whatever_order_and_on_whatever_device(tmp_path: Path) -> None:
    with claimed(cell(), tmp_path / "0") as claim:
        assert claim == ("new", tmp_path / "0")
        assert stored(tmp_path / "0").config == cell().config
    moved = cell(trainer={"devices": 4, "max_train_rows": None}, logger="wandb")
    with claimed(moved, tmp_path / "7") as claim:
        assert claim == ("begun", tmp_path / "0")
        assert stored(tmp_path / "0").config.trainer.devices == 1  # the run writes it, once all is checked
        finish(claim.folder, finished=False)
    with claimed(cell(), tmp_path / "7") as claim:
        assert claim == ("begun", tmp_path / "0")
        finish(claim.folder)
    with claimed(cell(), tmp_path / "7") as claim:
        assert claim == ("done", tmp_path / "0")
    assert not (tmp_path / "7").exists()


def test_another_cell_of_the_same_name_gets_a_folder_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for lr, name in ((1e-3, "0"), (1e-2, "0_2"), (1e-1, "0_3"), (1e-2, "0_2")):
        with claimed(cell(lr), tmp_path / "0") as claim:
            assert claim.folder == tmp_path / name
    assert stored(tmp_path / "0").config.optimizer.lr == 1e-3
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "config.yaml").write_text("no: run\n")
    assert capsys.readouterr().err == ""
    for lr, name in ((5.0, "1_2"), (6.0, "1_3")):
        with claimed(cell(lr), tmp_path / "1") as claim:
            assert claim == ("new", tmp_path / name)
    (line,) = capsys.readouterr().err.splitlines()  # once, however many cells look
    where = tmp_path / "1" / "config.yaml"
    assert line.startswith(f"recsys_lt: {where}: no cell is recognised in it (it holds no run's configuration). ")


def test_a_cell_is_one_processs_at_a_time_and_free_when_that_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", (
            "import sys, time; from pathlib import Path; from tests.runs.test_sweep_folder import *\n"
            "with claimed(cell(), Path(sys.argv[1])) as claim: print(claim.state, flush=True); time.sleep(600)"
        ), str(tmp_path / "0")],
        cwd=Path(__file__).resolve().parents[2], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "new\n"
        with claimed(cell(), tmp_path / "1") as claim:
            assert claim.state == "busy"
        with claimed(cell(1e-2), tmp_path / "1") as claim:  # others are free
            assert claim.state == "new"
    finally:
        holder.kill()
        holder.wait()
    with claimed(cell(), tmp_path / "1") as claim:
        assert claim == ("begun", tmp_path / "0")


def test_failures_say_in_which_start_and_are_forgotten_when_tried_again(tmp_path: Path) -> None:
    for lr, launch, code in ((1.0, "old", 1), (2.0, "new", 2), (3.0, "new", 1)):
        with claimed(cell(lr), tmp_path / f"{lr:.0f}") as claim:
            note_failure(claim.folder, f"lr {lr}", code, launch)
    third = Failure("3", "lr 3.0", 1, os.getpid(), "new")
    assert failures(tmp_path)[1:] == [Failure("2", "lr 2.0", 2, os.getpid(), "new"), third]
    with claimed(cell(2.0), tmp_path / "2"):
        assert [failure.launch for failure in failures(tmp_path)] == ["old", "new"]


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", '{"error": 1, "exit_code": "x", "process": [], "launch": 0}', "[" * 100_000, "\0"]
)
def test_a_note_of_failure_that_cannot_be_read_is_one_line_of_no_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "failed.json").write_text(text)
    (failure,) = failures(tmp_path)
    assert (failure.code, failure.launch) == (0, "")
    assert "failed.json: it cannot be read. Remove it." in failure.line
    assert "\n" not in failure.line


def test_a_cell_that_somebody_resumes_is_busy(tmp_path: Path) -> None:
    with claimed(cell(), tmp_path / "0"):
        pass
    with held(tmp_path / "0"), claimed(cell(), tmp_path / "1") as claim:
        assert claim.state == "busy"
    with claimed(cell(), tmp_path / "1") as claim:
        assert claim == ("begun", tmp_path / "0")


def test_what_a_strangers_note_of_failure_says_is_printed_as_plain_text(tmp_path: Path) -> None:
    folder = tmp_path / "0\x1b[31m"
    folder.mkdir()
    write_json(folder / "failed.json", {"error": "a\x1b[31m\nb", "exit_code": 1, "process": 2, "launch": "x"})
    assert failures(tmp_path) == [Failure("0?[31m", "a?[31m b", 1, 2, "x")]


def test_a_sweep_is_looked_through_without_torch() -> None:
    code = "import recsys_lt.runs.sweep, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2]).returncode == 0
