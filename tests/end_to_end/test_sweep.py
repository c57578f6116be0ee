"""Sweeps: one failing cell, the table, several processes."""

import json
from pathlib import Path

import pytest

from tests.end_to_end.conftest import TINY, Cli


def test_a_failing_cell_does_not_stop_a_sweep_and_the_table_shows_it(cli: Cli, here: Cli, tmp_path: Path) -> None:
    done = here(
        "-m", *TINY, "loss=ce,sce", "loss.k=10", "seed=0,1", "trainer.max_epochs=1", "logger=none",
        "hydra.sweep.dir=multirun/grid", cwd=tmp_path,
    )  # fmt: skip
    # CE has no k: half of the grid cannot be composed, so nothing is run and the line says why.
    assert done.returncode == 2
    assert "loss.k" in done.stderr
    done = cli(
        "-m", *TINY, "optimizer.lr=0.001,-1", "seed=0,1", "trainer.max_epochs=1", "logger=wandb",
        "hydra.sweep.dir=multirun/grid", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("optimizer.lr: it is -1") == 2
    assert "Traceback" not in done.stderr
    cells = sorted(path.parent.name for path in (tmp_path / "multirun/grid").glob("*/metrics.json"))
    assert cells == ["0_synthetic_sasrec_ce_adam_seed0", "1_synthetic_sasrec_ce_adam_seed1"]
    ids = {path.read_text() for path in (tmp_path / "multirun/grid").glob("*/wandb_id.txt")}
    assert len(ids) == 2  # one W&B run a cell
    table = cli("table", "multirun/grid", cwd=tmp_path)
    assert table.returncode == 0, table.stderr
    for word in ("sasrec", "ce", "±", "2_synthetic_sasrec_ce_adam_seed0"):
        assert word in table.stdout


@pytest.mark.parametrize(
    ("choices", "seeds"),
    [
        (["adam"], "0,1"),
        (["eisam", "optimizer.form=rowwise", "optimizer.rho=0.3"], "0"),
        (["eisam", "optimizer.form=stale", "optimizer.rho=0.3"], "0"),
    ],
)
def test_two_processes_give_the_metrics_of_one_also_in_a_sweep(
    cli: Cli, here: Cli, tmp_path: Path, choices: list[str], seeds: str
) -> None:
    optimizer, *further = choices
    settings = (
        *TINY,
        "trainer.max_epochs=2",
        "trainer.eval_every=1",
        "trainer.batch_rows=399",  # the last batch has one row, of which the second process has nothing
        f"optimizer={optimizer}",
        *further,
    )
    one = here(*settings, "logger=none", "hydra.run.dir=one", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    two = cli(
        "-m", *settings, "strategy=ddp", "trainer.devices=2", f"seed={seeds}", "hydra.sweep.dir=two", cwd=tmp_path
    )
    assert two.returncode == 0, two.stderr
    single = json.loads((tmp_path / "one" / "metrics.json").read_text())
    double = json.loads((tmp_path / "two" / f"0_synthetic_sasrec_ce_{optimizer}_seed0" / "metrics.json").read_text())
    assert double["train"]["processes"] == 2
    assert double["test"]["users"] == single["test"]["users"]  # each user ranked once
    for part in ("valid", "test"):
        for name, value in single[part].items():
            assert abs(double[part][name] - value) <= 1e-4 * max(1.0, abs(value)), name
    for seed in seeds.split(","):  # the first cell's processes leave nothing in the way of the next one's
        cell = tmp_path / "two" / f"{seed}_synthetic_sasrec_ce_{optimizer}_seed{seed}"
        assert json.loads((cell / "metrics.json").read_text())["seed"] == int(seed)


def test_what_is_done_in_a_sweep_folder_is_not_run_again(cli: Cli, here: Cli, tmp_path: Path) -> None:
    settings = ("-m", *TINY, "trainer.max_epochs=1", "logger=none", "hydra.sweep.dir=sweep")
    first = here(*settings, "seed=0", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    (run,) = (tmp_path / "sweep").glob("*/metrics.json")
    written = run.stat().st_mtime_ns
    # In another order, on other devices; and one that differs.
    again = cli(*settings, "seed=1,0", "trainer.num_workers=1", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"done in {run.parent.relative_to(tmp_path)}" in again.stdout.replace(f"{tmp_path}/", "")
    assert run.stat().st_mtime_ns == written
    seeds = sorted(json.loads(path.read_text())["seed"] for path in (tmp_path / "sweep").glob("*/metrics.json"))
    assert seeds == [0, 1]
    assert sorted(path.name[0] for path in (tmp_path / "sweep").glob("[!.]*/")) == ["0", "0"]
