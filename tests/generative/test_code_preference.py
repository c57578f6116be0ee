"""Preference losses of generative recommenders, whose answers are the codes of items."""

import math
from pathlib import Path

import pytest
import torch

from recsys_lt.errors import UserError
from recsys_lt.losses.item_preference import NAPO, ItemPreference
from tests.end_to_end.conftest import Cli, environment, here
from tests.generative.test_generative_recommender import (
    MODELS,
    Made,
    data,
    digits,
    ids,
    made,
    ranking_batch,
    training_batch,
)

__all__ = ["data", "environment", "here", "made"]

PREFERRING = {"tiger": MODELS["tiger"], "p5": MODELS["p5"], "pod": (*MODELS["pod"], "model.top_n=0")}


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("model", PREFERRING)
def test_answers_equal_those_of_rows_of_their_own(made: Made, data, model: str, ragged: bool) -> None:
    """Values and gradients; the mean over an item's tokens is what its own objective costs."""
    module = made(*PREFERRING[model], of=digits() if model == "pod" else ids(ragged)).eval()
    batch = training_batch(data, module)
    items = torch.arange(24).view(6, 4) + batch.targets.unsqueeze(1)
    items = items % module.n_items
    answering = module.answering(batch)
    found = answering.scores(items)
    apart = []
    for place in range(4):
        codes = module.answers[items[:, place]]
        costs = module.network.losses(answering.reads, codes, batch.streams)
        apart.append(-costs * (codes >= 0).sum(1))
    expected = torch.stack(apart, 1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    trained = [p for p in module.network.parameters() if p.requires_grad]
    weights = torch.rand(6, 4)
    ours = torch.autograd.grad((found * weights).sum(), trained, allow_unused=True)
    theirs = torch.autograd.grad((expected * weights).sum(), trained, allow_unused=True)
    for one, other in zip(ours, theirs, strict=True):
        if other is not None:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_an_answer_s_dropout_does_not_depend_on_the_others(made: Made, data) -> None:
    module = made(*MODELS["tiger"])
    batch = training_batch(data, module)
    items = torch.stack([batch.targets, batch.targets], 1)
    found = module.answering(batch).scores(items)
    torch.testing.assert_close(found[:, :1], module.answering(batch).scores(items[:, :1]))
    assert (found[:, 0] - found[:, 1]).abs().max() > 1e-3  # each answer has its own


@pytest.mark.parametrize("mean_tokens", [False, True])
def test_the_loss_is_that_of_the_codes_log_probabilities(made: Made, data, mean_tokens: bool) -> None:
    module = made(*MODELS["tiger"], "loss=s_dpo", "loss.reference=false", "loss.k=2", f"loss.mean_tokens={mean_tokens}")
    module.eval()
    assert isinstance(module.loss, ItemPreference)
    batch = training_batch(data, module)
    totals, losses, items = module.batch_losses(batch)
    assert torch.equal(items, batch.targets)
    negatives, _ = module.loss.uniform(module._draw(batch), batch.targets, data.n_items)
    scores = module.answering(batch).scores(torch.cat([items.unsqueeze(1), negatives], 1)).tolist()
    expected = [math.log1p(sum(math.exp(other - own) for other in others)) for own, *others in scores]
    assert losses.tolist() == pytest.approx(expected, rel=1e-4)
    totals.sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in module.parameters())


def test_some_items_are_scored_by_their_codes(made: Made, data) -> None:
    module = made(*MODELS["p5"], "model.beams=40").eval()
    batch = ranking_batch(data, module, seen=False)
    with torch.no_grad():
        lists = module.rank(batch, 12)
        scores = module.item_scores(batch, lists.items)
    assert scores is not None
    lengths = (module.answers[lists.items] >= 0).sum(2)  # a beam's score is divided by them
    torch.testing.assert_close(scores / lengths, lists.scores, rtol=1e-4, atol=1e-4)
    adjusted = made(*MODELS["tiger"], "model.beams=40", "model.tau=1").eval()
    with torch.no_grad():
        lists = adjusted.rank(batch, 12)
        scores = adjusted.item_scores(batch, lists.items)
    torch.testing.assert_close(scores, lists.scores, rtol=1e-4, atol=1e-4)
    decoder = made(*MODELS["decoder"])
    assert decoder.item_scores(batch, lists.items) is None


def test_what_does_not_fit(made: Made, data) -> None:
    for model in (MODELS["decoder"], MODELS["pod"], (*MODELS["tiger"], "model.tau=1")):
        with pytest.raises(UserError, match="rows with one target"):
            made(*model, "loss=simpo")
    module = made(*MODELS["tiger"])
    loss = ItemPreference(1, 1.0)
    loss.prepare(torch.from_numpy(data.popularity), {"reference": made(*MODELS["tiger"], of=ids(ragged=True))})
    with pytest.raises(UserError, match="same item ids"):
        module.take_loss(loss)
    auxiliary = NAPO(1, 1.0)
    auxiliary.prepare(torch.from_numpy(data.popularity), {"reference": module, "auxiliary": module})
    with pytest.raises(UserError, match="no states"):
        module.take_loss(auxiliary)


def test_from_a_trained_run(here: Cli, tmp_path: Path) -> None:
    """Without dropout the loss starts at log(1 + K); candidates are ranked by the codes' probability."""
    run = (
        "dataset=synthetic", "dataset.source.n_users=40", "dataset.source.n_items=40", "logger=none", "strategy=cpu",
        "model=tiger", "item_ids=random", "model.max_length=4", "model.sizes.width=16", "model.sizes.inner=16",
        "model.sizes.blocks=1", "model.sizes.dropout=0", "trainer.max_epochs=1", "trainer.eval_every=1",
    )  # fmt: skip

    def done(*arguments: str) -> None:
        ended = here(*arguments, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr

    done(*run, "hydra.run.dir=first")
    done(*run, "hydra.run.dir=second", "model.start_from=first", "loss=s_dpo", "optimizer.lr=1e-9")
    header, row = (tmp_path / "second" / "learning_curve.csv").read_text().splitlines()[:2]
    found = dict(zip(header.split(","), row.split(","), strict=True))
    assert float(found["train/loss"]) == pytest.approx(math.log(4), rel=1e-3)
    done("candidates", "first", "second", "--others", "5")
