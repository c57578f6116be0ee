"""SIGINT, SIGTERM and SIGHUP at each phase of a run: one clean stop, an exit code that says so, nothing lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from recsys_lt.training import build, journal
from recsys_lt.training import write_results as results
from recsys_lt.training.launch import launch
from tests.end_to_end.conftest import ROOT, TINY, Cli, Start
from tests.end_to_end.ranks import dies
from tests.end_to_end.test_survival import result, wait_for_epoch

RUN = (*TINY, "trainer.max_epochs=4", "trainer.eval_every=2", "logger=none", "hydra.run.dir=run")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture(scope="module")
def alone(here: Cli, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("alone")
    assert here(*RUN, cwd=place).returncode == 0
    return result(place / "run")


@contextmanager
def signals(where: Any, name: str, number: int, times: int = 1, at: int = 1) -> Iterator[None]:
    """Signal this process where a function is called, the ``at``-th time."""
    calls, plain = iter(range(1, 1_000_000)), getattr(where, name)

    def signalled(*arguments: Any, **named: Any) -> Any:
        if next(calls) == at:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return plain(*arguments, **named)

    with mock.patch.object(where, name, signalled):
        yield


@pytest.mark.parametrize(
    ("where", "name", "at", "finished", "number"),
    [
        (journal.Journal, "on_validation_start", 1, False, signal.SIGHUP),  # before the first best
        (journal.Journal, "on_train_batch_end", 3, False, signal.SIGINT),
        (journal, "save", 2, False, signal.SIGTERM),
        (journal.Journal, "on_validation_end", 2, False, signal.SIGINT),
        (results.Results, "write", 1, True, signal.SIGTERM),
    ],
)
def test_the_first_signal_keeps_what_was_reached(
    here: Cli,
    alone: dict[str, Any],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    where: Any,
    name: str,
    at: int,
    finished: bool,
    number: signal.Signals,
) -> None:
    with signals(where, name, number, at=at):
        done = here(*RUN, cwd=tmp_path)
    assert done.returncode == CODES[number]
    assert done.stderr == (
        f"recsys_lt: interrupted ({number.name}); go on with: python -m recsys_lt resume {tmp_path / 'run'}\n"
    )
    assert f"stopping ({number.name}): what was reached is evaluated and written" in capfd.readouterr().err
    assert result(tmp_path / "run")["finished"] is finished
    assert here("resume", "run", cwd=tmp_path).returncode == 0
    assert result(tmp_path / "run") == alone


def test_the_second_signal_stops_at_once(here: Cli, alone: dict[str, Any], tmp_path: Path) -> None:
    with signals(journal.Journal, "on_train_batch_end", signal.SIGTERM, times=2, at=20):
        done = here(*RUN, cwd=tmp_path)
    assert done.returncode == 143
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert here("resume", "run", cwd=tmp_path).returncode == 0
    assert result(tmp_path / "run") == alone


@pytest.mark.parametrize("number", CODES)
def test_a_signal_before_anything_was_done_leaves_nothing(here: Cli, tmp_path: Path, number: signal.Signals) -> None:
    with signals(build.Parts, "data", number):
        done = here(*RUN, cwd=tmp_path)
    assert done.returncode == CODES[number]
    assert done.stderr == f"recsys_lt: interrupted ({number.name}); nothing was begun\n"
    assert list(tmp_path.iterdir()) == []


def test_a_signal_whose_exception_a_library_swallows_still_ends_the_run(here: Cli, tmp_path: Path) -> None:
    def prepared(self: build.Parts, announce: Any) -> Any:
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        return data(self, announce)

    data = build.Parts.data
    with mock.patch.object(build.Parts, "data", prepared):
        assert here(*RUN, cwd=tmp_path).returncode == 143


def test_a_sweep_ends_after_the_cell_at_hand(here: Cli, tmp_path: Path) -> None:
    number = signal.SIGTERM
    sweep = ("-m", *RUN[:-1], "seed=0,1", "hydra.sweep.dir=sweep")
    with signals(journal.Journal, "on_train_batch_end", number, at=3):
        done = here(*sweep, cwd=tmp_path)
    assert done.returncode == CODES[number]
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"recsys_lt: interrupted ({number.name}); rerun the same command with hydra.sweep.dir=")
    first = tmp_path / "sweep" / "0_synthetic_sasrec_ce_adam_seed0"
    assert [path.parent for path in (tmp_path / "sweep").glob("*/config.yaml")] == [first]
    assert json.loads((first / "metrics.json").read_text())["finished"] is False


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGTERM, 0.15), (signal.SIGHUP, 0.6), (signal.SIGINT, 2.5)])
def test_a_signal_while_the_program_starts(
    environment: dict[str, str], tmp_path: Path, number: signal.Signals, seconds: float
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "recsys_lt", *RUN, "trainer.max_epochs=5000"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        time.sleep(seconds)
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert "Traceback" not in output
    # Before the first line of this program has run, Python or the system ends the process, as a shell counts 128 + n.
    assert process.returncode in (CODES[number], -number)


def test_workers_of_the_loader_leave_a_signal_to_all_processes_to_the_run(start: Start, tmp_path: Path) -> None:
    process = start(*RUN, "trainer.num_workers=1", "trainer.max_epochs=4000", cwd=tmp_path, first=os.setpgrp)
    wait_for_epoch(process, tmp_path / "run", 1)
    os.killpg(process.pid, signal.SIGTERM)  # as timeout(1) and a scheduler do
    assert process.ended() == 143, process.said()
    assert "Traceback" not in process.said()
    assert result(tmp_path / "run")["finished"] is False


def test_a_terminal_that_goes_away_is_no_error(start: Start, tmp_path: Path) -> None:
    master, terminal = os.openpty()

    def on_terminal() -> None:
        os.close(master)
        os.setsid()
        for number in (0, 1, 2):
            os.dup2(terminal, number)
        os.close(terminal)

    process = start(*RUN, "trainer.max_epochs=5000", cwd=tmp_path, first=on_terminal)
    os.close(terminal)
    deadline = time.monotonic() + 120
    os.set_blocking(master, False)
    while not (tmp_path / "run" / "last.ckpt").exists():
        assert process.runs()
        assert time.monotonic() < deadline
        try:
            os.read(master, 1 << 16)
        except BlockingIOError:
            time.sleep(0.02)
    os.close(master)
    process.signal(signal.SIGHUP)
    assert process.ended() == 129
    assert result(tmp_path / "run")["finished"] is False


# Processes of one run.


def _running(folder: Path) -> list[int]:
    """The ranks that have written their process's number and live."""
    found = []
    for path in folder.glob("*.pid"):
        stat = Path(f"/proc/{path.read_text() or 0}/stat")
        try:
            alive = stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            alive = False
        if alive:
            found.append(int(path.stem))
    return sorted(found)


_LAUNCH = (
    "import sys, pathlib; from recsys_lt.training.launch import launch\n"
    "from tests.end_to_end.ranks import waits\n"
    "if __name__ == '__main__': print(launch(waits, (pathlib.Path(sys.argv[1]),), 2))"
)


@pytest.mark.parametrize(("number", "left"), [(signal.SIGTERM, "(15, 15)"), (signal.SIGKILL, "")])
def test_no_rank_outlives_the_process_that_started_it(
    environment: dict[str, str], tmp_path: Path, number: int, left: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, str(tmp_path)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while _running(tmp_path) != [0, 1]:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert output.strip() == left
    deadline = time.monotonic() + 10
    while _running(tmp_path):
        assert time.monotonic() < deadline, "a rank lives on"
        time.sleep(0.02)


def test_a_rank_that_is_killed_is_one_line() -> None:
    with pytest.raises(build.UserError) as refusal:
        launch(dies, (), 2, "Go on with resume")
    assert str(refusal.value) == "trainer.devices: process 1 of the run was killed by SIGKILL. Go on with resume."
