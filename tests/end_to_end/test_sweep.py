"""Sweeps: one failing cell, the table, several processes."""

import json
from pathlib import Path

import pytest

from tests.end_to_end.conftest import TINY, Cli


def test_a_failing_cell_does_not_stop_a_sweep_and_the_table_shows_it(here: Cli, tmp_path: Path) -> None:
    done = here(
        "-m", *TINY, "loss=ce,sce", "loss.k=10", "seed=0,1", "trainer.max_epochs=1", "logger=none",
        "hydra.sweep.dir=multirun/grid", cwd=tmp_path,
    )  # fmt: skip
    # CE has no k: half of the grid cannot be composed, so nothing is run and the line says why.
    assert done.returncode == 2
    assert "loss.k" in done.stderr
    done = here(
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
    table = here("table", "multirun/grid", cwd=tmp_path)
    assert table.returncode == 0, table.stderr
    for word in ("sasrec", "ce", "±", "2_synthetic_sasrec_ce_adam_seed0"):
        assert word in table.stdout


@pytest.mark.usefixtures("forked_ranks")
@pytest.mark.parametrize(
    ("optimizer", "forms"),
    [
        (("optimizer=adam",), ()),
        # The first cell's processes leave nothing in the way of the next one's.
        (("optimizer=eisam", "optimizer.rho=0.3"), ("rowwise", "stale")),
    ],
)
def test_two_processes_give_the_metrics_of_one_also_in_a_sweep(
    here: Cli, tmp_path: Path, optimizer: tuple[str, ...], forms: tuple[str, ...]
) -> None:
    settings = (
        "-m",
        *TINY,
        "trainer.max_epochs=2",
        "trainer.eval_every=1",
        "trainer.batch_rows=399",  # the last batch has one row, of which the second process has nothing
        *optimizer,
        *([f"optimizer.form={','.join(forms)}"] if forms else []),
    )
    one = here(*settings, "logger=none", "hydra.sweep.dir=one", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    two = here(*settings, "strategy=ddp", "trainer.devices=2", "hydra.sweep.dir=two", cwd=tmp_path)
    assert two.returncode == 0, two.stderr
    written = sorted((tmp_path / "one").glob("*/metrics.json"))
    assert len(written) == max(1, len(forms))
    for path in written:
        single = json.loads(path.read_text())
        double = json.loads((tmp_path / "two" / path.relative_to(tmp_path / "one")).read_text())
        assert double["train"]["processes"] == 2
        assert double["test"]["users"] == single["test"]["users"]  # each user ranked once
        for part in ("valid", "test"):
            for name, value in single[part].items():
                assert abs(double[part][name] - value) <= 1e-4 * max(1.0, abs(value)), name


def test_what_is_done_in_a_sweep_folder_is_not_run_again(here: Cli, tmp_path: Path) -> None:
    settings = ("-m", *TINY, "trainer.max_epochs=1", "logger=none", "hydra.sweep.dir=sweep")
    first = here(*settings, "seed=0", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    (run,) = (tmp_path / "sweep").glob("*/metrics.json")
    written = run.stat().st_mtime_ns
    # In another order, on other devices; and one that differs.
    again = here(*settings, "seed=1,0", "trainer.num_workers=1", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"done in {run.parent.relative_to(tmp_path)}" in again.stdout.replace(f"{tmp_path}/", "")
    assert run.stat().st_mtime_ns == written
    seeds = sorted(json.loads(path.read_text())["seed"] for path in (tmp_path / "sweep").glob("*/metrics.json"))
    assert seeds == [0, 1]
    assert sorted(path.name[0] for path in (tmp_path / "sweep").glob("[!.]*/")) == ["0", "0"]
