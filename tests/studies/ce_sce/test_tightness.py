"""How often a loss bounds -log NDCG, and the items it covers, against the plain definitions."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from hydra import compose, initialize_config_dir

import recsys_lt
from recsys_lt import CONF
from recsys_lt.data.batch import Batch
from recsys_lt.data.loader import Share, TrainBatches
from recsys_lt.data.preparation import Preparation
from recsys_lt.data.sources.synthetic import Synthetic
from recsys_lt.errors import UserError
from recsys_lt.metrics.groups import ItemGroups
from recsys_lt.recommenders.sequential import SequentialRecommender
from recsys_lt.runs.reading import read_curve
from recsys_lt.training.build import Parts, build
from studies.ce_sce import tightness
from studies.ce_sce.choices import CHOICES
from studies.ce_sce.tightness import Tightness, bounds

DATA = Preparation(k_core=1)(Synthetic(n_users=60, n_items=50, mean_length=8).draw(), "made")[0]
CHOICES_FOLDER = Path(tightness.__file__).with_name("conf")


def parts_of(*choices: str) -> Parts:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return build(compose("config", ["dataset=synthetic", "strategy=cpu", "logger=none", *choices, CHOICES]))


def made(*choices: str) -> tuple[SequentialRecommender, list[Batch]]:
    torch.manual_seed(0)
    module = parts_of(*choices).recommender(DATA)
    assert isinstance(module, SequentialRecommender)
    with torch.no_grad():
        for p in module.parameters():
            p += 0.5 * torch.randn_like(p)  # scores that differ
    batches = TrainBatches(DATA, module.task, 16, 0, Share(), module.needs_seen)
    return module.train(), [batches[0, step] for step in range(len(batches))]


@pytest.mark.parametrize(
    "choices",
    [("loss=sce", "loss.k=5"), ("loss=ssm", "loss.k=3"), ("loss=bpr",), ("loss=sl", "loss.k=5"), ("loss=ce",)],
)
def test_bounded_is_what_it_says(choices) -> None:
    module, (batch, *_) = made(*choices)
    held, met = bounds(module, batch)
    losses = module.batch_losses(batch)[1]
    table = module.backbone.scorer()
    scores = table.block(module.backbone.states(batch), 0, table.n_items)
    ranks = (scores >= scores.gather(1, batch.targets.unsqueeze(1)) - 1e-6).sum(1)
    assert torch.equal(held, losses >= torch.log2(1.0 + ranks).log() - 1e-6)
    if choices[0] == "loss=ce":
        assert held.all()
        assert met.all()
    else:
        assert 0 < int(held.sum()) < len(held)


def test_the_items_that_a_loss_covers() -> None:
    module, (batch, *_) = made("loss=sce", "loss.k=4", "loss.share=batch")
    assert 1 <= int(bounds(module, batch)[1].sum()) <= 4  # one draw for the step
    module, (batch, *_) = made("loss=ce_eta", "loss.eta=0")
    table = module.backbone.output_table()
    scores = module.backbone.states(batch) @ table.weight.T
    own = scores.gather(1, batch.targets.unsqueeze(1))
    above = scores >= own - 1e-6
    above[torch.arange(len(above)), batch.targets] = False  # a target is no negative of its own
    assert torch.equal(bounds(module, batch)[1], above.any(0))
    with torch.no_grad():
        table.weight.zero_()  # all tie: each covers all others
    assert bounds(module, batch)[1].all()


def logged(watch: Tightness, module: SequentialRecommender, batches: list[Batch]) -> dict[str, float]:
    """What the callback logs of an epoch of these batches."""
    loader = SimpleNamespace(dataset=SimpleNamespace(data=DATA))
    watch.on_train_start(SimpleNamespace(train_dataloader=loader), module)
    watch.on_train_epoch_start(None, module)
    for step, batch in enumerate(batches):
        watch.on_train_batch_start(None, module, batch, step)
    row: dict[str, float] = {}
    with mock.patch.object(module, "log", lambda name, value: row.update({name: float(value)})):
        watch.on_train_epoch_end(None, module)
    return row


def test_an_epoch_is_of_its_first_targets_by_group() -> None:
    module, batches = made("loss=ssm", "loss.k=2")
    row = logged(Tightness(len(batches[0].targets) + 1), module, batches)
    held = torch.cat([bounds(module, batch)[0] for batch in batches[:2]])  # the second one completes the sample
    of = torch.from_numpy(ItemGroups(DATA.popularity).of).long()[torch.cat([b.targets for b in batches[:2]])]
    assert row["bound/ndcg"] == pytest.approx(float(held.float().mean()))
    for number, group in enumerate(("head", "mid", "tail")):
        if (of == number).any():
            assert row[f"bound/{group}/ndcg"] == pytest.approx(float(held[of == number].float().mean()))
    met = torch.stack([bounds(module, batch)[1] for batch in batches[:2]]).float().mean(1)
    assert row["bound/met"] == pytest.approx(float(met.mean()))
    empty = replace(batches[0], items=batches[0].items[:0], targets=batches[0].targets[:0])
    assert logged(Tightness(), module, [empty]) == {}  # a rank without a part of a last, small batch


def test_looking_changes_nothing() -> None:
    module, (batch, *_) = made("loss=bce")
    before, state = module.batch_losses(batch)[1], torch.get_rng_state()
    bounds(module, batch)
    assert torch.equal(module.batch_losses(batch)[1], before)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in module.parameters())


def test_what_means_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"callbacks\.tightness\.n_targets"):
        parts_of("+callbacks=tightness", "callbacks.tightness.n_targets=0")
    with pytest.raises(UserError, match="bounds no rank"):
        Tightness().on_train_start(None, torch.nn.Identity())


def test_a_watched_run_has_it_in_its_curve(tmp_path) -> None:
    small = ("dataset.source.n_users=60", "dataset.source.n_items=50", "trainer.max_epochs=2", "trainer.batch_rows=16")
    folder = recsys_lt.train(
        "dataset=synthetic", "strategy=cpu", "loss=ce_eta", "+callbacks=tightness", *small,
        config_dir=str(CHOICES_FOLDER), folder=tmp_path / "run",
    ).folder  # fmt: skip
    rows = [row for row in read_curve(folder / "learning_curve.csv") if row["epoch"]]
    assert [row["bound/ndcg"] for row in rows] == [1.0, 1.0]
    assert all(0 < row["bound/met"] <= 1 for row in rows)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["loss"] == "ce_eta"
