"""Runs of generative recommenders: resumed, on two processes, and what they recommend and report."""

import json
from pathlib import Path

import pytest
import torch

from recsys_lt.errors import UserError
from recsys_lt.runs.checkpoints import load
from recsys_lt.training.sharing import new_folder, pack, unpack
from recsys_lt.training.trained import Run
from tests.end_to_end.conftest import environment, forked_ranks, here, start

pytest.importorskip("transformers", reason="transformers is not installed: pip install 'recsys_lt[llm]'")

__all__ = ["environment", "forked_ranks", "here", "start"]
MADE = (
    "dataset=synthetic", "dataset.source.n_users=60", "dataset.source.n_items=40", "logger=none", "strategy=cpu",
    "schedule=constant", "trainer.batch_rows=16", "trainer.rank_rows=16", "trainer.eval_every=1", "model.max_length=5",
    "model.sizes.width=16", "model.sizes.inner=24", "model.sizes.heads=2", "model.sizes.blocks=1", "optimizer.lr=0.01",
)  # fmt: skip
POD = ("model=pod", "model.candidates=5", "model.prompt_vectors=2")
TIGER = ("model=tiger", "item_ids.levels=2", "item_ids.size=8", "item_ids.vectors.width=8")


def test_a_run_goes_on_where_it_was_and_says_what_it_wrote(here, tmp_path: Path) -> None:
    run = (*MADE, *POD, "trainer.max_train_rows=64")
    first = here(*run, "hydra.run.dir=run", "trainer.max_epochs=1", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "RandomNumbers is made first" in first.stdout
    again = here("resume", "run", "trainer.max_epochs=2", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    whole = here(*run, "hydra.run.dir=whole", "trainer.max_epochs=2", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    one, other = (json.loads((tmp_path / f"{name}/metrics.json").read_text()) for name in ("run", "whole"))
    assert one["test"] == other["test"]
    kept = [
        load(tmp_path / n / "last.ckpt", events=one["protocol"]["fingerprint"])["state_dict"] for n in ("run", "whole")
    ]
    assert all(torch.equal(tensor, kept[1][name]) for name, tensor in kept[0].items())
    # Both protocols; the beam is as deep as the longest k.
    assert one["test"]["ndcg@20"] is not None
    assert one["test"]["unmasked/ndcg@10"] is not None
    assert 0 <= one["test"]["first_code/distance@10"] <= 1
    assert one["protocol"]["ranking"] == "the first 20 of 40 items"
    assert one["notes"]["weights"] == "random initialisation"
    assert one["notes"]["item_ids"]["leaks"] is False
    assert 0 < one["notes"]["valid_strings"] <= 1
    assert one["train"]["tokens_per_second"] > 0
    (told,) = Run(tmp_path / "run").lists(["u0"], k=3)
    assert [item.rank for item in told.items] == [1, 2, 3]
    report = here("report", "run", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    history = {"": [str(item) for item in Run(tmp_path / "run").data.item_ids[:4]]}
    with pytest.raises(UserError, match="only for the users it was trained on"):  # users' numbers are read
        Run(tmp_path / "run").recommend(histories=history, k=3)


@pytest.mark.usefixtures("forked_ranks")
@pytest.mark.parametrize("choices", [TIGER, (*TIGER, "model.arch=decoder")], ids=["encoder_decoder", "decoder"])
def test_two_processes_learn_what_one_does(start, tmp_path: Path, choices: tuple[str, ...]) -> None:
    learnt, metrics = {}, {}
    for devices in (1, 2):
        folder = tmp_path / f"on{devices}"
        run = start(
            *MADE, *choices, "strategy=ddp", "strategy.accelerator=cpu", f"trainer.devices={devices}",
            "trainer.max_epochs=1", "trainer.max_train_rows=40", "optimizer=eisam", "optimizer.rho=0.3",
            f"hydra.run.dir={folder}", cwd=tmp_path,
        )  # fmt: skip
        assert run.ended() == 0, run.said()
        metrics[devices] = json.loads((folder / "metrics.json").read_text())
        assert metrics[devices]["train"]["processes"] == devices
        learnt[devices] = load(folder / "last.ckpt", events=metrics[devices]["protocol"]["fingerprint"])["state_dict"]
    assert metrics[1]["test"] == pytest.approx(metrics[2]["test"], abs=1e-6)
    for name, tensor in learnt[1].items():
        torch.testing.assert_close(learnt[2][name], tensor, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_a_run_of_codes_recommends_for_new_histories(here, tmp_path: Path) -> None:
    run = here(*MADE, *TIGER, "hydra.run.dir=run", "trainer.max_epochs=1", "trainer.max_train_rows=32", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    history = {"": [str(item) for item in Run(tmp_path / "run").data.item_ids[:4]]}
    known = Run(tmp_path / "run").recommend(histories=history, k=5)
    assert len(set(known["item"]) - set(history[""])) == 5
    with new_folder(tmp_path / "shared") as shared:  # with its item ids
        pack(tmp_path / "run", shared)
    with new_folder(tmp_path / "theirs") as theirs:
        unpack(tmp_path / "shared", theirs)
    assert Run(tmp_path / "theirs").recommend(histories=history, k=5).equals(known)
