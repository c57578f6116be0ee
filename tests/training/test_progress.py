"""Where a run is, said while it goes: on a terminal and elsewhere, in training and in ranking."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from recsys_lt.training import progress
from recsys_lt.training.progress import TrainingProgress

ROW = {"epoch": 1, "train/loss": 2.5, "valid/ndcg@10": 0.1, "seconds": 400.0, "tokens_per_second": 100.0}


class Clock:
    """A time that passes when it is told to, 100 tokens a second."""

    def __init__(self) -> None:
        self.now = 5.0

    def monotonic(self) -> float:
        return self.now

    def facts(self) -> dict[str, int]:
        return {"tokens_read": int(100 * self.now)}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress.time, "monotonic", found.monotonic)
    return found


def trainer(fn: str, epoch: int = 0, processes: int = 1) -> SimpleNamespace:
    users = SimpleNamespace(dataset=SimpleNamespace(users=range(50)))
    return SimpleNamespace(
        current_epoch=epoch, max_epochs=2, num_training_batches=4, is_global_zero=True, world_size=processes,
        num_val_batches=[5], num_test_batches=[5], val_dataloaders=users, test_dataloaders=users,
        state=SimpleNamespace(fn=fn),
    )  # fmt: skip


def told(terminal: bool, width: int = 200, brief: bool = False) -> tuple[TrainingProgress, io.StringIO]:
    said = io.StringIO()
    journal = SimpleNamespace(history=[ROW], best={"ndcg@10": 0.1, "epoch": 1})
    console = Console(file=said, force_terminal=terminal, width=width, legacy_windows=False)
    return TrainingProgress(console, journal, brief), said


def train(callback: TrainingProgress, clock: Clock, processes: int = 1, step_seconds: float = 100.0) -> None:
    """An epoch of four steps, then one that ranks 50 users, ten in 40 seconds."""
    fit = trainer("fit", processes=processes)
    callback.on_train_start(fit, clock)
    callback.on_train_epoch_start(fit, clock)
    for step in range(4):
        clock.now += step_seconds
        callback.on_train_batch_end(fit, clock, None, None, step)
    callback.on_validation_start(fit, clock)
    for step in range(5):
        clock.now += 40
        callback.on_validation_batch_end(fit, clock, None, range(10 // processes), step)
    callback.on_validation_end(fit, clock)
    callback.on_train_epoch_end(fit, clock)


def test_without_a_terminal_a_line_a_minute_says_where_it_is(clock) -> None:
    callback, said = told(terminal=False)
    train(callback, clock)
    lines = [" ".join(line.split()) for line in said.getvalue().splitlines()]
    assert lines == [
        "epoch 1/2 step 1 of 4 100 tokens/s about 12 min left",
        "epoch 1/2 step 2 of 4 100 tokens/s about 10 min left",
        "epoch 1/2 step 3 of 4 100 tokens/s about 8 min left",
        "epoch 1/2 step 4 of 4 100 tokens/s about 7 min left",
        "ranking for validation: 20 of 50 users 100 tokens/s about 2 min left",
        "ranking for validation: 40 of 50 users 100 tokens/s about 40 s left",
        "epoch 1/2 loss 2.5000 valid NDCG@10 0.1000 400.0 s, 100 tokens/s",
    ]


def test_a_brief_run_leaves_no_line_of_its_epochs(clock) -> None:
    callback, said = told(terminal=False, brief=True)
    train(callback, clock, step_seconds=1.0)
    assert "epoch" not in said.getvalue()


def begun(clock, **how):
    """A bar in the first of 200 epochs, what it prints, and the trainer."""
    callback, said = told(terminal=True, **how)
    clock.facts = dict
    fit = trainer("fit")
    fit.max_epochs = 200
    callback.on_train_start(fit, clock)
    callback._bar.get_time = clock.monotonic
    callback.on_train_epoch_start(fit, clock)
    return callback, said, fit


def test_a_bar_of_80_columns_has_epoch_time_left_loss_and_best(clock) -> None:
    callback, said, fit = begun(clock, width=80)
    clock.now += 100
    callback.on_train_batch_end(fit, clock, None, None, 3)
    callback.on_train_epoch_end(fit, clock)
    clock.now += 1
    callback._bar.refresh()
    callback.on_train_end(fit, clock)
    last = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", said.getvalue()).splitlines()[-1]
    assert len(last.rstrip()) <= 80
    assert "epoch   1/200" in last
    assert "left loss 2.500  best NDCG@10 0.1000 at 1" in last


def test_a_bar_has_no_time_left_where_training_ends_early(clock) -> None:
    callback, said, fit = begun(clock)
    for step in range(4):
        clock.now += 100
        callback.on_train_batch_end(fit, clock, None, None, step)
    callback.on_train_epoch_end(fit, clock)
    callback.on_train_end(fit, clock)
    last = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", said.getvalue()).splitlines()[-1]
    assert "epoch   1/200" in last
    assert "0:00:00 left" in last


def test_quick_work_has_no_lines_but_the_epoch_s(clock) -> None:
    callback, said = told(terminal=False)
    clock.facts = dict  # no language model
    fit = trainer("fit")
    callback.on_train_start(fit, clock)
    callback.on_train_epoch_start(fit, clock)
    for step in range(4):
        clock.now += 1
        callback.on_train_batch_end(fit, clock, None, None, step)
    test = trainer("test")
    callback.on_test_start(test, clock)
    for step in range(5):
        clock.now += 1
        callback.on_test_batch_end(test, clock, None, range(10), step)
    callback.on_test_end(test, clock)
    assert said.getvalue() == ""


def test_a_long_test_of_several_processes_says_how_far_all_are(clock) -> None:
    callback, said = told(terminal=False)
    test = trainer("test", processes=2)
    callback.on_test_start(test, clock)
    clock.now += 3600
    callback.on_test_batch_end(test, clock, None, range(10), 0)
    assert " ".join(said.getvalue().split()) == "ranking for test: 20 of 50 users 200 tokens/s about 1.5 h left"


def test_a_terminal_s_bar_has_tokens_and_time_left_however_long_steps_are(clock) -> None:
    callback, _ = told(terminal=True)
    fit = trainer("fit")
    callback.on_train_start(fit, clock)
    assert callback._bar is not None
    callback._bar.get_time = clock.monotonic
    callback.on_train_epoch_start(fit, clock)
    for step in range(3):
        clock.now += 100
        callback.on_train_batch_end(fit, clock, None, None, step)
    (task,) = callback._bar.tasks
    assert task.time_remaining == 500
    assert task.fields["note"].split() == ["100", "tokens/s"]
    callback.on_train_epoch_end(fit, clock)
    callback.on_validation_start(fit, clock)
    clock.now += 40
    callback.on_validation_batch_end(fit, clock, None, range(10), 0)
    assert task.fields["note"].endswith("ranking 10/50  best NDCG@10 0.1000 at 1  100 tokens/s")
    callback.on_train_end(fit, clock)
    assert callback._bar is None


def test_a_ranking_of_its_own_has_a_bar_with_users_and_time_left(clock) -> None:
    callback, _ = told(terminal=True)
    validate = trainer("validate")
    callback.on_validation_start(validate, clock)
    assert callback._bar is not None
    callback._bar.get_time = clock.monotonic
    for step in range(2):
        clock.now += 100
        callback.on_validation_batch_end(validate, clock, None, range(10), step)
    (task,) = callback._bar.tasks
    assert (task.completed, task.time_remaining) == (2, 300)
    assert task.fields["note"] == "20 of 50 users  100 tokens/s"
    callback.on_validation_end(validate, clock)
    assert callback._bar is None
