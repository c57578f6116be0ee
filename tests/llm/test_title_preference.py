"""Preference losses of models that answer with titles."""

import json
import math
from pathlib import Path

import pytest
import torch

from recsys_lt.data.streams import keys_of
from recsys_lt.errors import UserError
from recsys_lt.llm.prompt import TitleModel
from recsys_lt.losses.item_preference import ItemPreference
from tests.end_to_end.conftest import Cli, environment, here
from tests.llm.conftest import training_batch
from tests.llm.test_titles import log_likelihood

__all__ = ["environment", "here"]

TUNED = ("model=title_likelihood", "model.max_length=3", "model.title_tokens=9", "model.train=true")


def model_of(made, *choices: str) -> TitleModel:
    module = made(*TUNED, *choices)
    assert isinstance(module, TitleModel)
    return module


def batch_of(data, module: TitleModel, rows: int = 3):
    return training_batch(data, module, rows=rows)


@pytest.mark.parametrize("pack_tokens", [60, 1024])
@pytest.mark.parametrize("training", [False, True])
def test_branches_equal_answers_read_in_rows_of_their_own(made, data, pack_tokens, training) -> None:
    """Values and gradients; in training with dropout, whose masks both forms are given."""
    module = model_of(made, f"llm.pack_tokens={pack_tokens}", "llm.lora.dropout=0.0").train(training)
    language = module.language
    prompt = [*module.opening.tolist(), *batch_prompts(module, data)[0]]
    answers = [*module.titles[:4], module.titles[5][:1]]
    keys = keys_of(3, torch.arange(5))
    sums, lengths = language.answers_after(prompt, answers, keys, 1)
    assert lengths.tolist() == [len(answer) + 1 for answer in answers]
    apart = [language.answer_losses(module.opening[:0], [prompt], [one], keys[:1], 1)[0] for one in answers]
    torch.testing.assert_close(-sums / lengths, torch.stack(apart), rtol=1e-4, atol=1e-4)
    trained = [p for p in module.parameters() if p.requires_grad]
    found = torch.autograd.grad((-sums / lengths).sum(), trained)
    expected = torch.autograd.grad(torch.stack(apart).sum(), trained)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def batch_prompts(module: TitleModel, data) -> list[list[int]]:
    return module._prompts(batch_of(data, module))


@pytest.mark.parametrize("mean_tokens", [False, True])
def test_the_loss_is_that_of_the_titles_log_probabilities(made, data, mean_tokens) -> None:
    choice = ["loss=s_dpo", "loss.reference=false", "loss.k=2", "loss.beta=0.5"]
    module = model_of(made, *choice, f"loss.mean_tokens={str(mean_tokens).lower()}").eval()
    assert isinstance(module.loss, ItemPreference)
    batch = batch_of(data, module)
    totals, losses, items = module.batch_losses(batch)
    assert torch.equal(items, batch.targets)
    ids, _ = module.loss.uniform(module._draw(batch), batch.targets, data.n_items)
    for row, prompt in enumerate(module._prompts(batch)):
        whole = [*module.opening.tolist(), *prompt]
        logs = []
        for item in (int(batch.targets[row]), *ids[row].tolist()):
            ended = [*module.titles[item], module.language.end]
            logs.append(log_likelihood(module.language, whole, ended) * (1 if mean_tokens else len(ended)))
        expected = math.log1p(sum(math.exp(0.5 * (log - logs[0])) for log in logs[1:]))
        assert losses[row].item() == pytest.approx(expected, rel=1e-3, abs=1e-4)
    torch.testing.assert_close(totals.detach(), losses.mean(0, keepdim=True))
    weights = torch.rand(2, data.n_items)
    totals, again, _ = module.batch_losses(batch, weights)
    assert torch.equal(losses, again)
    torch.testing.assert_close(totals, (weights[:, batch.targets] @ losses) / len(losses))
    totals[1].backward()
    assert any(p.grad is not None and p.grad.any() for p in module.parameters())


def test_the_prompt_is_read_once(made, data) -> None:
    module = model_of(made, *["loss=simpo", "loss.k=4"]).eval()
    batch = batch_of(data, module)
    module.language.tokens_read = 0
    module.batch_losses(batch)
    prompts = sum(map(len, module._prompts(batch))) + len(batch) * len(module.opening)
    ids, _ = module.loss.uniform(module._draw(batch), batch.targets, data.n_items)  # type: ignore[attr-defined]
    items = torch.cat([batch.targets, ids.flatten()]).tolist()
    assert module.language.tokens_read == prompts - len(batch) + sum(len(module.titles[item]) + 1 for item in items)


def test_an_auxiliary_model_of_items_goes_with_titles(made, data, first_stage) -> None:
    module = model_of(made, *["loss=simpo"])
    napo = _napo()
    napo.prepare(torch.from_numpy(data.popularity), {"auxiliary": first_stage})
    module.take_loss(napo)
    batch = batch_of(data, module, rows=4)
    losses = module.batch_losses(batch)[1]
    assert losses.isfinite().all()
    found = module.health(batch)
    assert float(found["rejected_items"]) > 2


def _napo():
    from recsys_lt.losses.item_preference import NAPO

    return NAPO(2, 1.0, reference=False, margin=1.0, group=4, share=1.0)


def test_what_does_not_fit(made, data, first_stage) -> None:
    module = model_of(made)
    loss = ItemPreference(1, 1.0)
    loss.prepare(torch.from_numpy(data.popularity), {"reference": first_stage})
    with pytest.raises(UserError, match="does not answer with titles"):
        module.take_loss(loss)
    with pytest.raises(UserError, match="trains nothing"):
        made(*TUNED[:3], "loss=simpo")
    other = model_of(made)
    loss = ItemPreference(1, 1.0, negatives="hard")
    loss.prepare(torch.from_numpy(data.popularity), {"reference": other})
    with pytest.raises(UserError, match="hard negatives need a model that scores all items"):
        module.take_loss(loss)
    with pytest.raises(UserError, match="objective of its own"):
        made("model=llamarec", "loss=simpo")


def test_from_a_tuned_run(here: Cli, tmp_path: Path) -> None:
    """At the start the loss is log(1 + K); it trains, and a stopped run goes on."""
    run = (
        "dataset=synthetic", "dataset.source.n_users=12", "dataset.source.n_items=20", "logger=none", "strategy=cpu",
        "llm=tiny_random", *TUNED, "trainer.max_epochs=1", "trainer.max_train_rows=16", "metrics.max_users=4",
    )  # fmt: skip

    def done(*arguments: str) -> None:
        ended = here(*run, *arguments, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr

    done("hydra.run.dir=first")
    more = ("model.start_from=first", "loss=s_dpo", "optimizer.lr=1e-9")
    done(*more, "hydra.run.dir=second")
    (row,) = (row for row in _curve(tmp_path / "second") if row["epoch"] == "1")
    assert float(row["train/loss"]) == pytest.approx(math.log(4), rel=1e-3)
    chosen, reference = (float(row[f"train/{name}_log_probability"]) for name in ("chosen", "reference"))
    assert chosen == pytest.approx(reference, rel=1e-2)
    ended = here("resume", "second", "trainer.max_epochs=2", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert json.loads((tmp_path / "second" / "metrics.json").read_text())["epochs"] == 2


def _curve(folder: Path) -> list[dict[str, str]]:
    import csv

    with (folder / "learning_curve.csv").open() as file:
        return list(csv.DictReader(file))
