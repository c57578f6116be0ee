"""Fewer bits, scaled gradients and schedules through a trainer, on a processor."""

from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir

import recsys_lt
from recsys_lt import CONF
from recsys_lt.data.loader import Share, TrainBatches, train_loader
from recsys_lt.data.preparation import Preparation
from recsys_lt.data.sources.synthetic import Synthetic
from recsys_lt.optim.schedules import Cosine
from recsys_lt.recommenders.recommender import FLOAT32, PRECISIONS, Precision
from recsys_lt.recommenders.step_closure import StepClosure
from recsys_lt.training.build import build

SCALED = replace(FLOAT32, scaled=True)  # what a GPU's fp16 adds, in float32
RULES = {
    "adam": ("optimizer=adam",),
    "eisam": ("optimizer=eisam", "optimizer.rho=0.3"),
    "stale": ("optimizer=eisam", "optimizer.rho=0.3", "optimizer.form=stale"),
    "two_pass": ("optimizer=sam", "optimizer.rho=0.3", "optimizer.accumulate=two_pass", "trainer.accumulate=2"),
}


@pytest.fixture(scope="module")
def data():
    return Preparation(k_core=1)(Synthetic(n_users=60, n_items=80, mean_length=8).draw(), "made")[0]


def module_of(data, *choices, precision=FLOAT32):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        parts = build(compose("config", ["dataset=synthetic", "strategy=cpu", "logger=none", *choices]))
    torch.manual_seed(0)
    module = parts.recommender(data)
    module.precision = precision
    return module


def batches_of(data, module):
    return TrainBatches(data, module.task, 16, 0, Share(), module.loss.needs_seen)


class Rates(pl.Callback):
    def __init__(self, kept):
        self.seen, self.kept = [], kept

    def on_train_epoch_end(self, trainer, module):
        if self.kept and trainer.current_epoch == 0:
            trainer.save_checkpoint(self.kept)

    def on_train_batch_start(self, trainer, module, batch, step):
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def trained(data, *choices, precision=FLOAT32, epochs=2, before=None, kept=None, after=None):
    module = module_of(data, *choices, precision=precision)
    rates = Rates(kept)
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[rates], use_distributed_sampler=False,
    )  # fmt: skip
    if before is not None:
        before(module)
    loader = train_loader(batches_of(data, module), 0, epoch=0 if after is None else 1)
    trainer.fit(module, loader, ckpt_path=after, weights_only=True)
    return module, rates.seen


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("rule", RULES)
def test_scaling_changes_nothing(data, rule):
    # Dividing by a power of two is exact; the radius of a ball does not depend on the size of the gradient.
    plain, _ = trained(data, *RULES[rule])
    scaled, _ = trained(data, *RULES[rule], precision=SCALED)
    assert scaled.scaler.get_scale() > 1
    for a, b in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


# Three calls for the first step, two for the next; after a step that overflows the direction is found anew.
@pytest.mark.parametrize("exploding", [(0,), (1,), (2,), (3, 4), (4,)])
def test_a_step_that_overflows_is_not_taken(data, exploding):
    def explode(module):
        backward, calls = module._backward, iter(range(10**6))
        module._backward = lambda total, **how: backward(total * (torch.inf if next(calls) in exploding else 1), **how)

    module, _ = trained(data, *RULES["stale"], precision=SCALED, epochs=1, before=explode)
    assert module.scaler.get_scale() == 2.0**16 / 2
    assert all(torch.isfinite(p).all() for p in module.parameters())
    assert all(torch.isfinite(g).all() for g in module.rule.state_dict()["ascent"])
    unhurt, _ = trained(data, *RULES["stale"], precision=SCALED, epochs=1)
    assert not same(module, unhurt)


def test_the_scale_goes_on_where_it_was(data, tmp_path):
    def explode(module):
        backward, calls = module._backward, iter(range(10**6))
        module._backward = lambda total, **how: backward(total * (torch.inf if next(calls) == 0 else 1), **how)

    kept = tmp_path / "last.ckpt"
    first, _ = trained(data, *RULES["adam"], precision=SCALED, epochs=1, before=explode, kept=kept)
    second, _ = trained(data, *RULES["adam"], precision=SCALED, epochs=2, after=kept)
    assert second.trainer.current_epoch == 2
    assert second.scaler.get_scale() == first.scaler.get_scale() == 2.0**15


def losses_and_gradients(module, batch):
    parameters = list(module.parameters())
    totals, (found,) = StepClosure(module, parameters, [batch])(None)
    return totals, found


@pytest.mark.parametrize(
    "model", ["sasrec", "gru4rec", "lrurec", "caser", "fmlp_rec", "bsarec", "causal_linrec", "hstu"]
)
@pytest.mark.parametrize("loss", [("loss=ce",), ("loss=sce", "loss.k=20")])
def test_bf16_mixed_is_near_float32(data, model, loss):
    module = module_of(data, f"model={model}", *loss).train()
    batch = batches_of(data, module)[0, 0]
    totals, gradients = losses_and_gradients(module, batch)
    module.precision = PRECISIONS["bf16-mixed"]
    half_totals, half = losses_and_gradients(module, batch)
    assert not torch.equal(totals, half_totals)
    torch.testing.assert_close(half_totals, totals, rtol=1e-2, atol=1e-2)
    for p, one, other in zip(module.parameters(), gradients, half, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert other.dtype == p.dtype == torch.float32
            assert (one - other).norm() <= 0.1 * one.norm() + 1e-4
    assert not torch.is_autocast_enabled("cpu")


def test_fp16_wants_a_gpu():
    PRECISIONS["fp16-mixed"].check(torch.device("cuda"))
    with pytest.raises(Exception, match="precision: a CPU"):
        PRECISIONS["fp16-mixed"].check(torch.device("cpu"))
    Precision().check(torch.device("cpu"))


@pytest.mark.parametrize("rule", ["adam", "two_pass"])
def test_a_schedule_goes_on_where_it_was(data, tmp_path, rule):
    choices = (*RULES[rule], "schedule=cosine", "precision=bf16-mixed")
    whole, rates = trained(data, *choices, kept=tmp_path / "last.ckpt")
    parts, later = trained(data, *choices, after=tmp_path / "last.ckpt")
    assert later == rates[len(rates) // 2 :]
    assert same(whole, parts)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_rate_of_each_step_is_the_schedules(data, accumulate):
    _, seen = trained(
        data, "schedule=cosine", "schedule.warmup=0.25", "optimizer.lr=0.01", f"trainer.accumulate={accumulate}"
    )
    batches = len(seen) // 2
    steps = 2 * -(-batches // accumulate)
    of_batch = [epoch * -(-batches // accumulate) + b // accumulate for epoch in range(2) for b in range(batches)]
    assert seen == pytest.approx([0.01 * Cosine(0.25)(step, steps) for step in of_batch])


@pytest.mark.parametrize(
    ("fast", "choice", "said"),
    [(False, "precision=bf16-mixed", True), (False, "precision=float32", False), (True, "precision=bf16-mixed", False)],
)
def test_a_run_says_where_bfloat16_is_slow(monkeypatch, tmp_path, capsys, fast, choice, said):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: fast, raising=False)
    small = ("dataset=synthetic", "dataset.source.n_users=80", "dataset.source.n_items=60", "model.width=8")
    recsys_lt.train(*small, choice, "trainer.max_epochs=1", "strategy=cpu", "logger=none", folder=tmp_path / "run")
    assert ("no fast products in bfloat16" in capsys.readouterr().out) == said
