"""Short runs of models, losses and optimizers, whose results are stored: a change of code must not change them.

``python -m tests.end_to_end.test_stored_results`` stores them anew, where a change is meant.
"""

import csv
import hashlib
import json
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from recsys_lt.native.library import kernels
from tests.end_to_end.conftest import Cli

STORED = Path(__file__).with_suffix(".json")
DATA = ("dataset=synthetic", "dataset.source.n_users=300", "dataset.source.n_items=200", "trainer.max_epochs=3",
        "trainer.batch_rows=64", "trainer.eval_every=1", "logger=none", "strategy=cpu")  # fmt: skip
RUNS = {
    "sasrec_ce_adam": (),
    "sasrec_sce_adamw": ("loss=sce", "optimizer=adamw"),
    "sasrec_ce_inverse_frequency_bf16": ("precision=bf16", "optimizer=inverse_frequency"),
    "sasrec_gbce_lazy_adam": ("loss=gbce", "loss.k=50", "dataset.source.n_items=1500", "optimizer=lazy_adam"),
    "sasrec_logit_adjusted_asam_two_pass": (
        "loss=ce_logit_adjusted", "optimizer=asam", "trainer.accumulate=2", "optimizer.accumulate=two_pass",
    ),
    "gru4rec_bce_adam": ("model=gru4rec", "loss=bce"),
    "gru4rec_one_pass_ce_eisam": ("model=gru4rec", "model.one_pass=true", "optimizer=eisam"),
    "caser_bpr_sam": ("model=caser", "loss=bpr", "optimizer=sam", "trainer.max_epochs=1"),
    "bsarec_nce_eisam_stale": (
        "model=bsarec", "loss=nce", "optimizer=eisam", "optimizer.form=stale", "trainer.max_epochs=1",
    ),
    "lrurec_ssm_eisam_rowwise": ("model=lrurec", "loss=ssm", "optimizer=eisam", "optimizer.form=rowwise"),
    "sasrec_sce_unseen_focal_sam": ("loss=sce", "loss.pool=unseen", "optimizer=focal_sam"),
    "e4srec": ("model=e4srec", "llm=tiny_random", "loss=ce", "trainer.max_epochs=1"),
}  # fmt: skip


def here_and_now() -> dict[str, Any]:
    """What the last bits of a result depend on beside the code."""
    return {
        "torch": torch.__version__,
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "kernels": kernels() is not None,
    }


def result(folder: Path) -> dict[str, Any]:
    metrics = json.loads((folder / "metrics.json").read_text())
    with (folder / "learning_curve.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    state = torch.load(folder / "best.ckpt", weights_only=True)["state_dict"]
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(state[name].contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return {
        "ndcg@10": metrics["test"]["ndcg@10"],
        "hr@10": metrics["test"]["hr@10"],
        "losses": losses,
        "weights": digest.hexdigest(),
    }


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", RUNS)
def test_a_run_ends_as_it_did(here: Cli, tmp_path: Path, name: str) -> None:
    done = here(*DATA, *RUNS[name], "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found, stored = result(tmp_path / "run"), json.loads(STORED.read_text())
    if stored["made_with"] == here_and_now():
        assert found == stored["runs"][name]
    else:  # another processor or torch rounds in another way; a user more or less may be hit
        known = stored["runs"][name]
        assert found["losses"] == pytest.approx(known["losses"], rel=1e-3)
        assert found["ndcg@10"] == pytest.approx(known["ndcg@10"], abs=0.02)


def store() -> None:
    """Do all runs and store what they end with."""
    import subprocess
    import sys

    from recsys_lt.system.atomic import write_text

    runs = {}
    for name, choices in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "recsys_lt", *DATA, *choices, f"hydra.run.dir={folder}/run"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            runs[name] = result(Path(folder, "run"))
    write_text(STORED, json.dumps({"made_with": here_and_now(), "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    store()
