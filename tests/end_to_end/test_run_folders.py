"""A run folder holds one run: its name, its lock, and what a refused resume leaves as it was."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from recsys_lt.cli.resume import asked_to_resume
from recsys_lt.runs.run_folder import held
from tests.end_to_end.conftest import TINY, Cli

RUN = (*TINY, "trainer.max_epochs=2", "trainer.eval_every=1", "logger=none")


@pytest.fixture(scope="module")
def finished(here: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("finished")
    assert here(*RUN, "hydra.run.dir=run", cwd=place).returncode == 0
    return place / "run"


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def refused(here: Cli, folder: Path, *arguments: str) -> str:
    before = contents(folder)
    done = here(*arguments, cwd=folder.parent)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert contents(folder) == before
    return str(line)


def test_runs_of_the_same_second_have_folders_of_their_own(here: Cli, tmp_path: Path) -> None:
    same = (*RUN[:-3], "model=pop", "logger=none", "hydra.run.dir=${now:%Y}")
    for _ in range(3):
        done = here(*same, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    (year,) = (path.name for path in tmp_path.iterdir() if "_" not in path.name)
    assert sorted(path.name for path in tmp_path.iterdir()) == [year, f"{year}_2", f"{year}_3"]
    with held(tmp_path / f"{year}_3"):
        shutil.rmtree(tmp_path / year)
        assert here(*same, cwd=tmp_path).returncode == 0
    assert (tmp_path / year / "metrics.json").is_file()


def test_a_folder_that_is_named_and_taken_is_refused(here: Cli, folder: Path) -> None:
    line = refused(here, folder, *RUN, "hydra.run.dir=run", "seed=1")
    assert "another run is in this folder" in line
    assert f"python -m recsys_lt resume {folder}" in line


def test_a_run_that_another_process_works_on_is_not_resumed(here: Cli, folder: Path) -> None:
    with held(folder):
        assert "another process works on this run" in refused(here, folder, "resume", "run")


@pytest.mark.parametrize(
    "change",
    [
        "trainer.batch_rows=0",
        "trainer.max_epochs=abc",
        "trainer.max_epochs=[",
        "trainer.max_epochs=1",
        "seed=1",
        "--config-dir=nowhere",
    ],
)
def test_a_refused_resume_leaves_every_byte(here: Cli, folder: Path, change: str) -> None:
    assert change.partition("=")[0] in refused(here, folder, "resume", "run", change)
    again = here("resume", "run", cwd=folder.parent)
    assert again.returncode == 0, again.stderr


def test_a_resume_that_would_train_another_way_says_what_was_and_what_is(here: Cli, folder: Path) -> None:
    line = refused(here, folder, "resume", "run", "trainer.batch_rows=32", "trainer.max_epochs=3")
    assert f"{folder / 'last.ckpt'}: it was trained with trainer.batch_rows=64, and now it is 32" in line


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", 7), ("precision", "bf16"), ("model.heads", 2), ("optimizer.lr", 0.5), ("metrics.mask_seen", "none")],
)
def test_an_edited_configuration_is_refused(here: Cli, folder: Path, key: str, value: object) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    *above, last = key.split(".")
    inside = config
    for part in above:
        inside = inside[part]
    inside[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    line = refused(here, folder, "resume", "run", "trainer.max_epochs=3")
    assert f"trained with {key}=" in line
    assert f"and now it is {value}" in line


def test_checkpoints_of_another_run_broken_or_swapped_are_refused(here: Cli, folder: Path) -> None:
    other = folder.parent / "other"
    assert here(*RUN, "seed=1", "hydra.run.dir=other", cwd=folder.parent).returncode == 0
    kept = {name: (folder / name).read_bytes() for name in ("last.ckpt", "best.ckpt")}
    for name, spoilt, said in (
        ("last.ckpt", (other / "last.ckpt").read_bytes(), "it was trained with seed=1, and now it is 0"),
        ("best.ckpt", (other / "best.ckpt").read_bytes(), "it was trained with seed=1, and now it is 0"),
        ("best.ckpt", kept["best.ckpt"][:3000], "it cannot be read"),
        ("last.ckpt", kept["best.ckpt"], "it is no last.ckpt"),
    ):
        (folder / name).write_bytes(spoilt)
        line = refused(here, folder, "resume", "run", "trainer.max_epochs=3")
        assert f"{folder / name}: " in line
        assert said in line
        (folder / name).write_bytes(kept[name])
    (folder / "last.ckpt").unlink()  # as of a pulled run
    assert "from which it could go on" in refused(here, folder, "resume", "run", "trainer.max_epochs=3")
    assert (folder / "best.ckpt").read_bytes() == kept["best.ckpt"]
    assert (folder / "metrics.json").is_file()


def test_a_checkpoint_of_an_earlier_version_is_refused(here: Cli, folder: Path) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        checkpoint = torch.load(folder / name, weights_only=True)
        checkpoint["recsys_lt"] = {"format": 1, "fingerprint": "a", "trained_as": {}}
        torch.save(checkpoint, folder / name)
    assert "recsys_lt 0.1.0 reads runs that were made before 0.2.0" in refused(here, folder, "resume", "run")


@pytest.mark.parametrize("name", ["it's", "two\nlines", "😀", "a=b", "a,b", "{x", "a;b", "~a", "#a", "resume=x", "a b"])
def test_a_run_in_a_folder_of_any_name_goes_on(here: Cli, folder: Path, name: str) -> None:
    named = folder.rename(folder.with_name(name))
    (named / "metrics.json").unlink()
    done = here("resume", name, cwd=named.parent)
    assert done.returncode == 0, done.stderr
    assert json.loads((named / "metrics.json").read_text())["finished"]


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (["resume", "it's", "trainer.max_epochs=3"], "it's"),
        (["resume", "a=b,c", "trainer.max_epochs=3"], "a=b,c"),
    ],
)
def test_the_folder_is_taken_as_it_is_with_or_without_quotes(arguments: list[str], path: str) -> None:
    assert asked_to_resume(arguments) == (Path(path), ["trainer.max_epochs=3"])


def test_what_is_no_resume(here: Cli, tmp_path: Path) -> None:
    assert asked_to_resume(["seed=1", "trainer.max_epochs=3"]) is None
    for arguments in (["resume"], ["resume", "nowhere"], ["resume", "nowhere", "-m"]):
        done = here(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert list(tmp_path.iterdir()) == []


def test_a_sweep_is_not_taken_for_a_run(here: Cli, tmp_path: Path) -> None:
    done = here("+experiment=grid", "dataset=beauty", "model=sasrec", "hydra.run.dir=x", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "this is a sweep of 18 cells" in line
    assert "hydra.sweep.dir=" in line
    assert list(tmp_path.iterdir()) == []


def test_a_cell_that_was_mended_leaves_the_exit_code_but_is_named(here: Cli, tmp_path: Path) -> None:
    sweep = ("-m", *RUN[:-3], "model=pop", "logger=none", "hydra.sweep.dir=sweep")
    assert here(*sweep, "metrics.ks=[1,10],[0]", cwd=tmp_path).returncode == 2
    (tmp_path / "sweep" / "9").mkdir()
    (tmp_path / "sweep" / "9" / "failed.json").write_text("[]")
    (tmp_path / "sweep" / "9" / "config.yaml").write_text("a: [")
    mended = here(*sweep, "metrics.ks=[1,10],[1,5,10]", cwd=tmp_path)
    assert mended.returncode == 0, mended.stderr
    assert "9/failed.json: it cannot be read. Remove it." in mended.stderr
    (line,) = (line for line in mended.stderr.splitlines() if "earlier start" in line)
    assert "1_synthetic_pop_ce_adam_seed0" in line
    assert "Delete their folders in sweep" in line


def test_a_run_inside_an_allocation_of_several_tasks(
    here: Cli, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in (("SLURM_NTASKS", "4"), ("SLURM_JOB_NAME", "mine"), ("SLURM_JOB_ID", "1")):
        monkeypatch.setitem(environment, name, value)
    assert here(*RUN[:-3], "model=pop", "logger=none", "hydra.run.dir=run", cwd=tmp_path).returncode == 0


def test_a_folder_without_a_run_is_refused_before_what_is_slow_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from recsys_lt.cli.train import main\n"
        "sys.argv = ['recsys_lt', 'resume', 'nowhere']; print(main(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "2 False\n", done.stderr
    assert "nowhere: there is no run to resume (no config.yaml in it)" in done.stderr


def test_a_run_whose_own_configuration_refers_elsewhere_goes_on(
    here: Cli, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(environment, "LAB", "3")
    own = (*RUN[:-3], "model=pop", "logger=none", "seed='${oc.decode:${oc.env:LAB}}'")
    assert here(*own, "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    sweep = ("-m", *own, "metrics.ks=[1,10],[1,5,10]", "hydra.sweep.dir=sweep")
    assert here(*sweep, cwd=tmp_path).returncode == 0
    again = here(*sweep, cwd=tmp_path)
    assert again.stdout.count("done in") == 2, again.stderr
    monkeypatch.delitem(environment, "LAB")
    done = here("resume", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["seed"] == 3


def test_a_configuration_that_could_not_be_read_again_trains_nothing(here: Cli, tmp_path: Path) -> None:
    done = here(*RUN[:-3], "logger=none", f"dataset.noun={'x' * 70_000}", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "run/config.yaml: the run could not be read again" in line
    assert "it is larger than 64 kB" in line
    assert not (tmp_path / "run").exists()
