"""What a GPU computes is what the processor does: `make test-gpu` on a machine with one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir

from recsys_lt import CONF
from recsys_lt.backbones.sasrec import SASRec
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.loader import RankBatches, Share, TrainBatches, users_with_target
from recsys_lt.data.streams import integers, keys_of, lanes
from recsys_lt.generative.item_ids import RandomNumbers
from recsys_lt.native import cosine_attention
from recsys_lt.recommenders.recommender import FLOAT32
from recsys_lt.training.build import build

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="no GPU that torch can use"
    if os.environ.get("RECSYS_LT_TEST_GPU") == "1"
    else "the tests' GPU is hidden; make test-gpu shows it",
)
DEVICE = "cuda"
SMALL = ("dataset=synthetic", "dataset.source.n_users=200", "dataset.source.n_items=300", "trainer.batch_rows=64")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def parts_of(*choices):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [*SMALL, *choices])
    parts = build(config)
    data = parts.dataset.load(lambda _line: None)
    torch.manual_seed(0)
    facts = DataFacts(data.n_users, data.n_items, torch.from_numpy(data.popularity))
    first = SASRec(facts, width=16, blocks=1, heads=1, max_length=10, dropout=0.0).requires_grad_(False)
    needs = {f"model.{name}": first for name in ("item_vectors", "retriever")}
    ids = {} if parts.item_ids is None else {"model.item_ids": RandomNumbers().map(data, {}, np.random.default_rng(0))}
    torch.manual_seed(0)
    return config, data, parts.recommender(data, needs | ids)


def losses_and_gradients(module, batch):
    module.zero_grad()
    totals, losses, _ = module.batch_losses(batch)
    totals.sum().backward()
    return losses, {name: p.grad.to_dense() for name, p in module.named_parameters() if p.grad is not None}


def test_random_streams_are_the_same_numbers():
    keys = keys_of(5, torch.arange(100))
    assert torch.equal(integers(keys.to(DEVICE), 17, 12_101).cpu(), integers(keys, 17, 12_101))
    assert torch.equal(lanes(keys.to(DEVICE), 65).cpu(), lanes(keys, 65))


@pytest.mark.parametrize(
    "model",
    ["sasrec", "esasrec", "gru4rec", "gru4rec model.one_pass=true", "lrurec", "caser", "fmlp_rec", "bsarec",
     "bert4rec", "cotten4rec", "linrec", "causal_linrec", "hstu"],
)  # fmt: skip
@pytest.mark.parametrize("loss", ["ce", "sce", "sce loss.share=batch", "sce optimizer=lazy_adam", "bce", "nce", "gbce"])
def test_a_step_and_a_ranking(model, loss):
    few = () if loss.split()[0] in ("ce", "bce", "gbce") else ("loss.k=20",)
    same_on_both(f"model={model.split()[0]}", *model.split()[1:], f"loss={loss.split()[0]}", *loss.split()[1:], *few)


@pytest.mark.parametrize(
    "model",
    [
        "e4srec model.max_length=6",
        "e4srec model.max_length=6 model.supervise=last",
        "llamarec model.max_length=3 model.title_tokens=8 model.candidates=6",
        "bigrec model.max_length=3 model.title_tokens=6 model.beams=2",
        "title_likelihood model.max_length=3 model.title_tokens=6 model.train=true",
    ],
)
def test_a_step_and_a_ranking_of_a_language_model(model):
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'recsys_lt[llm]'")
    pytest.importorskip("peft", reason="peft is not installed: pip install 'recsys_lt[llm]'")
    same_on_both("llm=tiny_random", "trainer.batch_rows=8", f"model={model.split()[0]}", *model.split()[1:])


@pytest.mark.parametrize("model", ["tiger", "tiger model.arch=decoder model.tau=1", "p5", "pod model.top_n=0.5"])
def test_a_step_and_a_ranking_of_a_generative_model(model):
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'recsys_lt[llm]'")
    small = ("model.sizes.width=16", "model.sizes.inner=24", "model.sizes.heads=2", "model.sizes.blocks=1")
    same_on_both(f"model={model.split()[0]}", *model.split()[1:], "item_ids=random", "model.max_length=6", *small)


def same_on_both(*choices):
    """Losses, gradients and ranks are the processor's."""
    config, data, module = parts_of(*choices)
    batch = TrainBatches(data, module.task, config.trainer.batch_rows, 1, Share(), module.needs_seen)[1, 0]
    ranking = RankBatches(data, users_with_target(data, "test"), "test", module.max_length, 64, with_seen=True)[0]
    answers = []
    for device in ("cpu", DEVICE):
        module.to(device).train()
        found = losses_and_gradients(module, batch.to(device))
        with torch.inference_mode():
            module.eval().begin_ranking()
            ranks = module.rank(ranking.to(device), 10).target_rank
        answers.append((*found, ranks))
    (losses, gradients, ranks), (on_device, by_device, ranks_there) = answers
    torch.testing.assert_close(on_device.cpu(), losses, rtol=1e-4, atol=1e-4)
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            by_device[name].cpu(), gradient, rtol=1e-2, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert ((ranks - ranks_there.cpu()).abs() <= 1).float().mean() > 0.98  # scores a rounding apart may swap


def test_the_kernel_of_cosine_attention_is_the_plain_form():
    torch.manual_seed(0)
    lengths = torch.tensor([3, 200, 0, 64, 1])
    offsets = F.pad(lengths.cumsum(0), (1, 0)).to(DEVICE)
    given = [torch.randn(int(offsets[-1]), 2, 32, device=DEVICE, requires_grad=True) for _ in range(3)]
    exponents = torch.tensor([0.6, 0.3], device=DEVICE, requires_grad=True)
    assert cosine_attention.usable(*given)

    def plain(*heads):
        rows = zip(*(x.split(lengths.tolist()) for x in heads), lengths.tolist(), strict=True)
        found = []
        for q, k, v, n in rows:
            weights = torch.einsum("thc,shc->hts", F.normalize(q, dim=2), F.normalize(k, dim=2))
            found.append(torch.einsum("hts,she->the", weights, v) * max(n, 1) ** -exponents[:, None])
        return torch.cat(found)

    results = []
    for answers in (cosine_attention.CosineAttention.apply(*given, exponents, offsets), plain(*given)):
        weighted = (answers * torch.linspace(-1, 1, answers.numel(), device=DEVICE).view_as(answers)).sum()
        results.append((answers, *torch.autograd.grad(weighted, [*given, exponents])))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_bfloat16_logits_are_near_float32():
    _, data, module = parts_of("loss=ce", "precision=bf16")
    batch = TrainBatches(data, module.task, 64, 1, Share(), False)[1, 0].to(DEVICE)
    module.to(DEVICE)
    half = losses_and_gradients(module, batch)[0]
    module.precision = FLOAT32
    torch.testing.assert_close(half, losses_and_gradients(module, batch)[0], rtol=2e-2, atol=2e-2)


def reached(folder, *arguments):
    """Test NDCG@10 of a run that ends in the folder."""
    command = [sys.executable, "-m", "recsys_lt", *arguments]
    environment = dict(os.environ) | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(command, env=environment, cwd=folder.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "metrics.json").read_text())["test"]["ndcg@10"]


def test_a_run_ends_where_the_processor_does(tmp_path):
    found = [
        reached(tmp_path / strategy, *SMALL, "trainer.max_epochs=5", "logger=none", f"strategy={strategy}",
                f"hydra.run.dir={tmp_path / strategy}")
        for strategy in ("cpu", "gpu")
    ]  # fmt: skip
    assert found[1] == pytest.approx(found[0], rel=0.1)


@pytest.mark.parametrize("precision", ["float32", "bf16-mixed", "fp16-mixed"])
@pytest.mark.parametrize(
    "rule", ["sam", "eisam", "eisam optimizer.form=stale", "eisam optimizer.form=rowwise", "inverse_frequency"]
)
def test_a_rule_goes_on_where_it_was(tmp_path, rule, precision):
    settings = (*SMALL, "strategy=gpu", "logger=none", f"precision={precision}", *f"optimizer={rule}".split())
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = reached(whole, *settings, "trainer.max_epochs=4", f"hydra.run.dir={whole}")
    reached(parts, *settings, "trainer.max_epochs=2", f"hydra.run.dir={parts}")
    assert reached(parts, "resume", str(parts), "trainer.max_epochs=4") == pytest.approx(expected, rel=0.05)
