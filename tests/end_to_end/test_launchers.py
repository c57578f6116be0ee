"""Cells of a sweep side by side: joblib, submitit on this machine, and SLURM as far as it goes without one."""

import importlib.util
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from recsys_lt import CONF
from tests.end_to_end.conftest import TINY, Cli, Start
from tests.end_to_end.test_survival import result, wait_for_epoch


def needs(package: str, extra: str) -> pytest.MarkDecorator:
    absent = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(absent, reason=f"{package} is not installed: pip install 'recsys_lt[{extra}]'")


joblib, submitit = needs("joblib", "sweep"), needs("submitit", "slurm")


@pytest.mark.parametrize(
    "launcher", [pytest.param("joblib", marks=joblib), pytest.param("submitit_local", marks=submitit)]
)
def test_cells_side_by_side(
    cli: Cli, here: Cli, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    beside = [f"hydra/launcher={launcher}"]
    if launcher == "joblib":
        monkeypatch.delitem(environment, "OMP_NUM_THREADS", raising=False)
        beside.append(f"hydra.launcher.n_jobs={max(2, os.cpu_count() or 2)}")  # a thread for each, whatever the machine
    settings = (*TINY, "trainer.max_epochs=1", "logger=none")
    done = cli("-m", *settings, "optimizer.lr=0.001,-1", "hydra.sweep.dir=sweep", *beside, cwd=tmp_path)
    # The failure of one cell comes home; the other is done, and the table ends the sweep.
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "1_synthetic_sasrec_ce_adam_seed0: optimizer.lr: it is -1" in done.stderr
    good, bad = (tmp_path / f"sweep/{number}_synthetic_sasrec_ce_adam_seed0" for number in (0, 1))
    assert "optimizer.lr: it is -1" in json.loads((bad / "failed.json").read_text())["error"]
    metrics = json.loads((good / "metrics.json").read_text())
    assert metrics["train"]["threads"] == 1
    assert "Failed or unfinished: 1_synthetic_sasrec_ce_adam_seed0" in done.stdout
    assert f"{metrics['test']['ndcg@10']:.4f}" in done.stdout
    # What a cell prints is in its folder, not on the terminal.
    assert "protocol: split" in (good / "output.txt").read_text()
    assert "protocol: split" not in done.stdout
    # Nothing is run twice, whoever ran it; and beside others the numbers are those of a run on its own.
    again = here("-m", *settings, "optimizer.lr=0.001", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "done in" in again.stdout
    if launcher == "joblib":
        alone = here(*settings, "optimizer.lr=0.001", "hydra.run.dir=alone", cwd=tmp_path)
        assert alone.returncode == 0, alone.stderr
        assert result(tmp_path / "alone") == result(good)


@joblib
def test_processes_of_a_cell_beside_others(cli: Cli, tmp_path: Path) -> None:
    done = cli(
        "-m", *TINY, "trainer.max_epochs=1", "strategy=ddp", "strategy.accelerator=cpu", "trainer.devices=2",
        "logger=none", "hydra.sweep.dir=sweep", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "sweep").glob("*/metrics.json")
    assert json.loads(path.read_text())["train"]["processes"] == 2


def test_a_sweep_that_was_killed_goes_on_where_it_was(here: Cli, start: Start, tmp_path: Path) -> None:
    sweep = ("-m", *TINY, "trainer.max_epochs=12", "trainer.eval_every=6", "logger=none", "hydra.sweep.dir=sweep")
    folder = tmp_path / "sweep" / "0_synthetic_sasrec_ce_adam_seed0"
    process = start(*sweep, "seed=0", cwd=tmp_path)
    wait_for_epoch(process, folder, 3)
    process.signal(signal.SIGKILL)
    process.ended()
    begun = (folder / "learning_curve.csv").read_text().splitlines()[:4]
    done = here(*sweep, "seed=1,0", "hydra.sweeper.max_batch_size=1", cwd=tmp_path)  # another number than before
    assert done.returncode == 0, done.stderr
    assert "cell 2 of 2, about " in done.stdout
    assert f"left: 1_synthetic_sasrec_ce_adam_seed0\ngoes on in {folder}" in done.stdout
    assert [path.name for path in (tmp_path / "sweep").glob("*_seed0*")] == [folder.name]
    curve = (folder / "learning_curve.csv").read_text().splitlines()
    assert curve[:4] == begun  # with their seconds: these epochs were not run again
    assert json.loads((folder / "metrics.json").read_text())["epochs"] == 12


@submitit
@pytest.mark.parametrize("launcher", ["slurm", "submitit_slurm", "submitit_local"])
def test_cluster_launchers_compose_and_build(launcher: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[f"hydra/launcher={launcher}"], return_hydra_config=True)
    config.hydra.launcher.submitit_folder = "jobs"  # as given, it asks Hydra where the sweep is
    config.hydra.launcher.name = "recsys_lt"
    built = instantiate(config.hydra.launcher)
    assert type(built).__name__ == ("LocalLauncher" if launcher == "submitit_local" else "SlurmLauncher")
    if launcher == "slurm":
        assert built.params["max_num_timeout"] == 3
        assert built.params["setup"] == ["export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK"]


# What submitit asks of SLURM, done here: the job's script is run as an array, with the variables a cluster sets.
# As sbatch does, it takes a copy of the script: submitit moves its own away, at times before bash has opened it.
SBATCH = """#!/bin/bash
script=$CLUSTER/script.sh
cp "${@: -1}" "$script"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$script")
for task in $(seq 0 "$last"); do
  {
    SLURM_JOB_ID=$((900 + task)) SLURM_ARRAY_JOB_ID=99 SLURM_ARRAY_TASK_ID=$task SLURM_JOB_NAME=recsys_lt \\
      SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=here \\
      SLURM_CPUS_PER_TASK=1 bash "$script" && touch "$CLUSTER/$task.COMPLETED" || touch "$CLUSTER/$task.FAILED"
  } > "$CLUSTER/job_$task.log" 2>&1 &
done
echo "Submitted batch job 99"
"""
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do if [[ "$1" == --unbuffered ]]; then shift; else shift 2; fi; done
exec "$@"
"""
# The truth, so that a job that died without a word is not waited for.
SACCT = """#!/bin/bash
echo "JobID|State|NodeList"
for task in 0 1; do
  state=RUNNING
  for ended in COMPLETED FAILED; do if [[ -e "$CLUSTER/$task.$ended" ]]; then state=$ended; fi; done
  echo "99_$task|$state|here"
done
"""


@submitit
def test_slurm_with_a_scheduler_of_three_shell_scripts(
    cli: Cli, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = tmp_path / "cluster"
    cluster.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT)):
        (cluster / name).write_text(text)
        (cluster / name).chmod(0o755)
    monkeypatch.setitem(environment, "PATH", f"{cluster}:{environment['PATH']}")
    monkeypatch.setitem(environment, "CLUSTER", str(cluster))
    try:
        done = cli(
            "-m", *TINY, "trainer.max_epochs=1", "logger=none", "strategy=ddp", "strategy.accelerator=cpu",
            "trainer.devices=2", "optimizer.lr=0.001,-1", "hydra.sweep.dir=sweep", "hydra/launcher=slurm",
            "hydra.launcher.partition=short", cwd=tmp_path,
        )  # fmt: skip
    finally:  # pytest shows it where the test fails
        for log in (*sorted(cluster.glob("*.log")), *sorted(tmp_path.glob("sweep/*/output.txt"))):
            print(f"{log}:\n{log.read_text()}")
    script = (cluster / "script.sh").read_text()
    for line in ("--partition=short", "--array=0-1%2", "--time=480", "--gpus-per-node=1", "--mem=32GB"):
        assert f"#SBATCH {line}" in script
    assert done.returncode == 2, done.stderr
    assert "1_synthetic_sasrec_ce_adam_seed0: optimizer.lr: it is -1" in done.stderr
    good = json.loads((tmp_path / "sweep/0_synthetic_sasrec_ce_adam_seed0/metrics.json").read_text())
    assert good["train"]["processes"] == 2
    assert f"{good['test']['ndcg@10']:.4f}" in done.stdout


@submitit
@pytest.mark.skipif(shutil.which("srun") is not None, reason="this machine has SLURM")
def test_slurm_where_there_is_none_is_one_line(cli: Cli, tmp_path: Path) -> None:
    done = cli("-m", *TINY, "logger=none", "hydra/launcher=slurm", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "there is no SLURM here" in line


@pytest.mark.parametrize(
    ("launcher", "extra"),
    [("joblib", "sweep"), ("slurm", "slurm"), ("submitit_local", "slurm"), ("submitit_slurm", "slurm")],
)
def test_without_the_extra_one_line_says_what_to_install(
    cli: Cli, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, launcher: str, extra: str
) -> None:
    # Hydra finds launchers in the namespace package hydra_plugins: this one hides them.
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "__init__.py").touch()
    monkeypatch.setitem(environment, "PYTHONPATH", f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}")
    done = cli("-m", *TINY, f"hydra/launcher={launcher}", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"it is not installed. Install it with: pip install 'recsys_lt[{extra}]'" in line


def test_a_launcher_nobody_knows(cli: Cli, tmp_path: Path) -> None:
    done = cli("-m", *TINY, "hydra/launcher=job_lib", cwd=tmp_path)
    assert done.returncode == 2
    assert "Choose from basic, joblib, slurm" in done.stderr
