"""Preference losses from a trained run: what they are compared with, resuming, update rules, and refusals."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from recsys_lt.losses.item_preference import ItemPreference
from recsys_lt.recommenders.sequential import SequentialRecommender
from recsys_lt.training.collapse import Collapse
from recsys_lt.training.trained import Run
from tests.end_to_end.conftest import Cli, environment, forked_ranks, here

__all__ = ["environment", "forked_ranks", "here"]

RUN = (
    "dataset=synthetic", "dataset.source.n_users=60", "dataset.source.n_items=40", "logger=none", "strategy=cpu",
    "trainer.batch_rows=32", "trainer.eval_every=1", "trainer.max_epochs=1", "model.width=8", "model.blocks=1",
)  # fmt: skip
FROM = (*RUN, "model.start_from=first")


@pytest.fixture(scope="module")
def place(here: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained SASRec, ``first``, and a GRU4Rec of the same items, ``other``."""
    folder = tmp_path_factory.mktemp("preference")
    done(here, folder, *RUN, "trainer.max_epochs=2", "hydra.run.dir=first")
    done(here, folder, *RUN[:-2], "model=gru4rec", "model.width=8", "hydra.run.dir=other")
    return folder


def done(here: Cli, place: Path, *arguments: str) -> str:
    ended = here(*arguments, cwd=place)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def refusal(here: Cli, place: Path, *arguments: str) -> str:
    ended = here(*arguments, cwd=place)
    assert (ended.returncode, len(ended.stderr.strip().splitlines())) == (2, 1), ended.stderr
    return ended.stderr


def test_at_the_start_the_policy_is_the_reference(
    here: Cli, place: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loss is then log(1 + K), its reference is no part of it, and the reference does not move."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done(here, place, *FROM, "loss=s_dpo", "trainer.max_epochs=0", "hydra.run.dir=still")
    module = Run(place / "still").model
    assert isinstance(module, SequentialRecommender)
    assert isinstance(module.loss, ItemPreference)
    first = Run(place / "first").model
    assert module.state_dict().keys() == first.state_dict().keys()
    batch = _batch(module, Run(place / "still"))
    totals, losses, items = module.batch_losses(batch)
    torch.testing.assert_close(losses, torch.full((len(items),), 4.0).log())
    totals.sum().backward()
    reference = module.loss.compared["reference"]
    assert isinstance(reference, torch.nn.Module)
    assert not any(p.requires_grad or p.grad is not None for p in reference.parameters())
    assert not {id(p) for p in reference.parameters()} & {id(p) for p in module.parameters()}
    found = module.health(batch)
    torch.testing.assert_close(found["chosen_log_probability"], found["reference_log_probability"])
    assert abs(found["kl_to_reference"].item()) < 1e-6


def _batch(module, run):
    from recsys_lt.data.loader import Share, TrainBatches

    return TrainBatches(run.data, module.task, 16, 0, Share(), module.needs_seen)[0, 0]


@pytest.mark.parametrize("loss", ["s_dpo", "napo loss.auxiliary=first"])
def test_it_trains_and_a_stopped_run_ends_as_one_that_was_not(here: Cli, place: Path, loss: str) -> None:
    name = loss.partition(" ")[0]
    given = (*FROM, *f"loss={loss}".split(), "optimizer=eisam", "optimizer.lr=0.01")
    done(here, place, *given, "trainer.max_epochs=2", f"hydra.run.dir={name}_whole")
    done(here, place, *given, f"hydra.run.dir={name}_part")
    done(here, place, "resume", f"{name}_part", "trainer.max_epochs=2")
    whole, part = (json.loads((place / f"{name}_{how}/metrics.json").read_text()) for how in ("whole", "part"))
    assert whole["test"] == part["test"]
    curves = [pd.read_csv(place / f"{name}_{how}/learning_curve.csv") for how in ("whole", "part")]
    columns = [column for column in curves[0] if column.startswith("train/")]
    assert curves[0][columns].equals(curves[1][columns])
    assert {"train/loss", "train/chosen_log_probability", "train/preference_accuracy"} <= set(columns)
    assert {"train/reference_log_probability", "train/kl_to_reference"}.isdisjoint(columns) is (name == "napo")
    assert ("train/shared_false" in columns) is (name == "napo")
    trained = curves[0][curves[0]["epoch"] > 0]
    assert (trained["train/rejected_items"] > (3 if name == "napo" else 2.99)).all()
    assert trained["train/loss"].iloc[1] < trained["train/loss"].iloc[0]


def test_the_auxiliary_model_is_trained_first_where_none_is_given(here: Cli, place: Path) -> None:
    said = done(here, place, *RUN, "loss=napo", "hydra.run.dir=alone")
    assert "sasrec_ce is made first" in said
    assert (place / "alone" / "needs" / "loss.auxiliary" / "metrics.json").is_file()


@pytest.mark.parametrize("model", ["caser", "bert4rec", "lrurec"])
def test_other_models_have_references_too(here: Cli, place: Path, model: str) -> None:
    of = (*RUN[:-2], f"model={model}", "trainer.max_epochs=1")
    done(here, place, *of, f"hydra.run.dir={model}")
    loss = ("loss=dynamic_po", "loss.negatives=popular", f"model.start_from={model}")
    done(here, place, *of, *loss, f"hydra.run.dir={model}_preference")


@pytest.mark.usefixtures("forked_ranks")
def test_two_processes(here: Cli, place: Path) -> None:
    several = [one for one in FROM if one != "strategy=cpu"] + [
        "strategy=ddp", "strategy.accelerator=cpu", "trainer.devices=2",
    ]  # fmt: skip
    done(here, place, *several, "loss=s_dpo", "hydra.run.dir=two")
    done(here, place, *FROM, "loss=s_dpo", "hydra.run.dir=one")
    two, one = (pd.read_csv(place / name / "learning_curve.csv")["train/loss"] for name in ("two", "one"))
    assert two.iloc[-1] == pytest.approx(one.iloc[-1], rel=1e-5)
    done(here, place, *several, "loss=napo", "loss.auxiliary=first", "hydra.run.dir=two_napo")


def test_what_does_not_fit_is_one_line(here: Cli, place: Path) -> None:
    assert "model.start_from" in refusal(here, place, *RUN, "loss=dpo")
    other_items = (*FROM, "dataset.source.n_items=39", "loss=dpo")
    assert "other items" in refusal(here, place, *other_items)
    said = refusal(here, place, *RUN[:-1], "loss=dpo", "model.start_from=other")
    assert "GRU4Rec" in said
    assert "loss.reference" in said
    assert "Name a run of the same model" in refusal(here, place, *FROM, "loss=dpo", "model.blocks=2")
    assert "loss.auxiliary" in refusal(here, place, *FROM, "loss=napo", "loss.auxiliary=nowhere")
    assert "GRU4Rec" in refusal(here, place, *FROM, "loss=napo", "loss.auxiliary=other")
    assert "39 negatives" in refusal(here, place, *FROM, "loss=s_dpo", "loss.k=39")
    done(here, place, *FROM, "loss=dpo", "hydra.run.dir=itself")
    text = (place / "itself" / "config.yaml").read_text()
    (place / "itself" / "config.yaml").write_text(text.replace(str(place / "first"), str(place / "itself")))
    assert "the run itself" in refusal(here, place, "resume", "itself", "trainer.max_epochs=2")


def test_a_collapse_is_said_once() -> None:
    said: list[str] = []
    journal = SimpleNamespace(history=[{"epoch": 0}])
    callback = Collapse(journal, said.append)  # type: ignore[arg-type]
    trainer = SimpleNamespace(is_global_zero=True)

    def epoch(log: float, accuracy: float, **more: float) -> None:
        row = {
            "epoch": len(journal.history),
            "train/chosen_log_probability": log,
            "train/preference_accuracy": accuracy,
        }
        journal.history.append(row | more)
        callback.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]

    epoch(-4.0, 0.5)
    epoch(-5.1, 0.9)  # not 30 %
    epoch(-5.3, 0.4)  # accuracy falls too: training fails in another way
    assert not said
    epoch(-5.3, 0.9)
    epoch(-6.0, 0.9)
    (line,) = said
    assert "epoch 4" in line
    assert "-4.00 to -5.30" in line
    callback = Collapse(journal, said.append)  # type: ignore[arg-type]
    epoch(-6.0, 0.9, **{"train/reference_log_probability": -5.9})
    assert len(said) == 1
    epoch(-8.0, 0.9, **{"train/reference_log_probability": -5.9})
    assert "-5.90 to -8.00" in said[1]
