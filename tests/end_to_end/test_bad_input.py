"""What a person may get wrong in more than one step; the rest is in test_bad_commands and test_bad_files."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from recsys_lt import __main__ as command_line
from recsys_lt.llm.tiny_random import TinyRandom

Say = Callable[..., str]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run the command line in this process; the one line it complains with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path / "cache"))

    def run(*arguments: str, code: int = 2) -> str:
        monkeypatch.setattr(sys, "argv", ["recsys_lt", *arguments])
        GlobalHydra.instance().clear()
        assert command_line.main() == code
        error = capsys.readouterr().err
        assert "Traceback" not in error
        lines = [line for line in error.splitlines() if line]
        assert len(lines) == 1, error
        return lines[0]

    return run


def csv(path: Path, text: str) -> str:
    path.write_text(text)
    return f"dataset.path={path}"


EVENTS = "".join(f"u{u},i{(u + j) % 12},{100 * u + j}\n" for u in range(30) for j in range(8))
FILE = ("dataset=file", "logger=none", "trainer.max_epochs=1", "metrics.ks=[1,10]")


def test_users_and_items_too_rare_are_dropped_with_a_word_not_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path / "cache"))
    path = csv(tmp_path / "mine.csv", "user,item,timestamp\n" + EVENTS + "lonely,i0,1\nu0,rare,999\n")
    monkeypatch.setattr(sys, "argv", ["recsys_lt", *FILE, path, "model=pop"])
    GlobalHydra.instance().clear()
    assert command_line.main() == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "dropped 1 user and 1 item" in printed


@pytest.mark.parametrize(("mask", "said"), [("published", True), ("keep_target", False)])
def test_targets_that_users_had_before_are_said_where_they_are_misses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], mask: str, said: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path / "cache"))
    path = csv(tmp_path / "mine.csv", "user,item,timestamp\n" + EVENTS + "u3,i4,999\nu5,i5,999\nu6,i3,999\n")
    monkeypatch.setattr(sys, "argv", ["recsys_lt", *FILE, path, "model=pop", f"metrics.mask_seen={mask}"])
    GlobalHydra.instance().clear()
    assert command_line.main() == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert ("mine: 2 of 30 test targets are items the user had before; " in printed) is said


def test_an_absent_file(say: Say) -> None:
    line = say(*FILE, "dataset.path=nowhere.csv")
    assert "nowhere.csv" in line


def test_no_path(say: Say) -> None:
    assert "dataset.path" in say(*FILE)


def test_a_list_of_shares_in_a_file(say: Say, tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "shares.yaml").write_text(
        "# @package _global_\nmetrics:\n  groups: [0.3, 0.5, 0.2]\n"
    )
    line = say("--config-dir", str(tmp_path / "mine"), "+experiment=shares", "dataset=synthetic")
    for word in ("experiment/shares", "groups: {shares: [...]}"):
        assert word in line


@pytest.mark.parametrize(("text", "line"), [("gamma 0.1", 2), ("gamma: [0.1", 3)])
def test_a_file_that_is_no_yaml(say: Say, tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "mine" / "loss").mkdir(parents=True)
    (tmp_path / "mine" / "loss" / "torn.yaml").write_text(f"_target_: mylab.Loss\n{text}\n")
    assert f"mine/loss/torn.yaml, line {line}: it is not YAML" in say(
        "--config-dir", "mine", "loss=torn", "dataset=synthetic"
    )


def test_what_a_run_says_of_its_epochs_and_of_its_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path / "cache"))
    events = csv(tmp_path / "mine.csv", "user,item,timestamp\n" + EVENTS)

    def said(name: str, *choices: str) -> str:
        monkeypatch.setattr(
            sys, "argv", ["recsys_lt", *FILE, events, "model.width=8", f"hydra.run.dir={name}", *choices]
        )
        GlobalHydra.instance().clear()
        assert command_line.main() == 0
        return " ".join(capsys.readouterr().out.split())

    none = said("none", "trainer.max_epochs=0")
    assert "trainer.max_epochs=0: nothing is trained" in none
    assert "run folder: none" in none
    assert "more epochs may help" not in none
    last = said("last", "trainer.eval_untrained=false")
    assert f"the last epoch is the best; more epochs may help: python -m recsys_lt resume {tmp_path}/last" in last
    assert "trainer.max_epochs=2" in last
    monkeypatch.setattr(sys, "argv", ["recsys_lt", *FILE, events, "model.heads=3"])
    GlobalHydra.instance().clear()
    assert command_line.main() == 2
    assert "run folder" not in capsys.readouterr().out  # none is left


def test_a_window_of_events_without_times(say: Say, tmp_path: Path) -> None:
    rows = "".join(line.rsplit(",", 1)[0] + "\n" for line in EVENTS.splitlines())
    line = say(*FILE, csv(tmp_path / "mine.csv", "user,item\n" + rows), "metrics.groups.window=90d")
    for word in ("metrics.groups.window", "mine", "timestamps"):
        assert word in line


def test_a_checkpoint_of_another_dataset(say: Say, tmp_path: Path) -> None:
    def run(*arguments: str, code: int) -> None:
        GlobalHydra.instance().clear()
        sys.argv[1:] = list(arguments)
        assert command_line.main() == code

    source = csv(tmp_path / "mine.csv", "user,item,timestamp\n" + EVENTS)
    sys_argv = sys.argv[:]
    try:
        run(*FILE, source, "hydra.run.dir=run", code=0)
    finally:
        sys.argv[:] = sys_argv
    csv(tmp_path / "mine.csv", "user,item,timestamp\n" + EVENTS.replace("i3", "i4"))
    line = say("resume", "run", "trainer.max_epochs=2")
    assert "last.ckpt" in line
    assert "another dataset" in line


def test_a_broken_checkpoint(say: Say, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("choices: [not, a, run]\n")
    assert "config.yaml" in say("resume", "run")


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from recsys_lt.errors import UserError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recsys_lt", "dataset=synthetic", "debug=true", "seed=-1"])
    GlobalHydra.instance().clear()
    with pytest.raises(UserError):
        command_line.main()


def test_a_run_that_is_refused_leaves_no_folder(say: Say, tmp_path: Path) -> None:
    say("dataset=synthetic", "trainer.max_epochs=-1", f"hydra.run.dir={tmp_path}/runs/refused")
    assert not (tmp_path / "runs").exists()
    kept = tmp_path / "runs" / "kept"
    kept.mkdir(parents=True)
    (kept / "notes.txt").write_text("mine")
    say("dataset=synthetic", "trainer.max_epochs=-1", f"hydra.run.dir={kept}")
    assert (kept / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("choice", "word"),
    [
        ("model=e4srec model.supervise=maybe", "model.supervise"),
        ("model=e4srec model.max_length=99999", "reads 2,048"),
        ("model=e4srec llm.lora.targets=[nosuch]", "q_proj"),
        ("model=llamarec model.candidates=99", "model.candidates"),
    ],
)
def test_a_second_stage_is_refused_before_the_first_without_its_weights(
    say: Say, tmp_path: Path, choice: str, word: str
) -> None:
    tokenizer, model = TinyRandom().load({})
    tokenizer.save_pretrained(tmp_path / "no_weights")
    model.config.save_pretrained(tmp_path / "no_weights")
    small = ("dataset=synthetic", "dataset.source.n_users=60", "dataset.source.n_items=40", "logger=none")
    line = say(*small, *choice.split(), "llm=pretrained", "llm.weights.name=no_weights", "hydra.run.dir=run")
    assert word in line
    assert not (tmp_path / "run").exists()
