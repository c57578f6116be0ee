"""Baselines beside a run and beside the cells of a sweep."""

# ruff: noqa: F811  (fixtures)

import json
from pathlib import Path

import pytest

from tests.end_to_end.conftest import TINY, Cli, environment, here  # noqa: F401

SMALL = (*TINY, "logger=none", "strategy=cpu", "trainer.max_epochs=1", "model.width=8")
NAMES = ("itemgraph", "itemgraph_ids", "pop")


def model_and_text(folder: Path) -> tuple[str, int, str]:
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["finished"]
    return metrics["model"], metrics["seed"], metrics["protocol"]["ranked_users"]


def test_a_run_ends_with_a_table_of_it_and_its_baselines(here: Cli, tmp_path: Path) -> None:
    done = here(*SMALL, "seed=5", "metrics.max_users=50", "+baselines=counts", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run" / "baselines"
    found = {name: model_and_text(folder / name) for name in NAMES}
    terms = (5, "50 of 400")  # of the run itself
    assert found == {"pop": ("pop", *terms), "itemgraph": ("itemgraph", *terms), "itemgraph_ids": ("itemgraph", *terms)}
    table = done.stdout[done.stdout.rindex("run folder:") :]
    assert [table.count(model) > 0 for model in ("sasrec", "pop", "itemgraph")] == [True] * 3
    assert "baselines" not in (tmp_path / "run" / "config.yaml").read_text()


def test_cells_of_a_sweep_share_their_baselines(here: Cli, tmp_path: Path) -> None:
    sweep = ("-m", *SMALL, "loss=ce,bce", "seed=0,1", "+baselines=counts", "hydra.sweep.dir=sweep")
    done = here(*sweep, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folders = sorted(path.parent.name for path in (tmp_path / "sweep").glob("baseline_*/metrics.json"))
    assert folders == sorted(f"baseline_synthetic_{name}_seed{seed}" for name in NAMES for seed in (0, 1))
    assert [done.stdout.count(f"baseline {name}\n") for name in NAMES] == [2, 2, 2]
    assert "itemgraph" in done.stdout[done.stdout.rindex("baseline ") :]  # the sweep's table
    again = here(*sweep, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "baseline pop\n" not in again.stdout


def test_a_baseline_that_reads_texts_is_left_out_where_there_are_none(here: Cli, tmp_path: Path) -> None:
    lines = "\n".join(f"u{user} " + " ".join(f"i{(user + n) % 30}" for n in range(8)) for user in range(40))
    (tmp_path / "log.txt").write_text(lines + "\n")
    others = SMALL[4:]
    done = here("dataset=file", "dataset.path=log.txt", *others, "+baselines=counts", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "baseline itemgraph is left out: model.text=true: no item of log has a text" in done.stdout
    assert sorted(path.name for path in (tmp_path / "run" / "baselines").iterdir() if path.is_dir()) == [
        "itemgraph_ids", "pop"
    ]  # fmt: skip


@pytest.mark.parametrize("given", ["3", "{pop: model}", "{pop: [3]}", "{'../pop': [model=pop]}"])
def test_what_names_no_baselines_is_refused(here: Cli, tmp_path: Path, given: str) -> None:
    done = here(*SMALL, f"+baselines={given}", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "baselines" in done.stderr
    assert not list(tmp_path.glob("outputs/*/config.yaml"))


def test_a_misspelt_baseline_is_refused_before_the_run_is_trained(here: Cli, tmp_path: Path) -> None:
    done = here(*SMALL, "+baselines={x: [model=popp]}", "hydra.run.dir=run", cwd=tmp_path)
    assert (done.returncode, "popp" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "run").exists()
    assert "epoch" not in done.stdout
