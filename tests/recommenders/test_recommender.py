"""The training step: clipped whatever rule made it, and gradients by rows equal to whole ones."""

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir

from recsys_lt import CONF
from recsys_lt.data.loader import Share, TrainBatches, train_loader
from recsys_lt.data.preparation import Preparation
from recsys_lt.data.sources.synthetic import Synthetic
from recsys_lt.errors import UserError
from recsys_lt.recommenders.step_closure import StepClosure
from recsys_lt.training.build import build


class Norms(pl.Callback):
    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        gradients = [p.grad.to_dense() for p in module.parameters() if p.grad is not None]
        self.seen.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))


@pytest.mark.parametrize(
    "rule", ["adam", "lazy_adam", "inverse_frequency", "sam", "eisam", "eisam optimizer.form=stale", "focal_sam"]
)
def test_every_rules_step_is_clipped(rule):
    data = Preparation(k_core=1)(Synthetic(n_users=60, n_items=80, mean_length=8).draw(), "made")[0]
    norms = []
    for clip in ("null", "0.05"):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose(
                "config",
                ["dataset=synthetic", "loss=sce", "loss.k=20", "loss.share=batch", "strategy=cpu", "logger=none",
                 f"trainer.clip={clip}", *f"optimizer={rule}".split()],
            )  # fmt: skip
        torch.manual_seed(0)
        module = build(config).recommender(data)
        watching = Norms()
        trainer = pl.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[watching], use_distributed_sampler=False,
        )  # fmt: skip
        batches = TrainBatches(data, module.task, 16, 0, Share(), module.needs_seen)
        trainer.fit(module, train_loader(batches, 0, epoch=0))
        norms.append(watching.seen)
    free, clipped = norms
    assert len(clipped) == len(free) > 2
    assert min(free) > 0.06
    assert all(norm == pytest.approx(0.05, rel=1e-4) for norm in clipped)


N_ITEMS = 1500
LOSSES = {
    "shared": ("loss=sce", "loss.k=20", "loss.share=batch"),
    "own": ("loss=bce",),
    "ce": ("loss=ce",),
}
# The parameters as large as the catalogue.
TABLES = {
    "sasrec": {"items.weight"},
    "gsasrec": {"items.weight", "output.weight"},
    "causal_linrec": {"items.weight"},
    "hstu": set(),  # scores are of normalised vectors, so every row has a gradient
    "gru4rec": {"items.weight"},
    "lrurec": {"items.weight", "out_bias"},
    "fmlp_rec": {"items.weight"},
    "bsarec": {"items.weight"},
    "caser": {"items.weight", "out_weight", "out_bias"},
}


@pytest.fixture(scope="module")
def data():
    return Preparation(k_core=1)(Synthetic(n_users=50, n_items=N_ITEMS, mean_length=7).draw(), "made")[0]


def parts_of(*choices):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return build(compose("config", ["dataset=synthetic", "strategy=cpu", "logger=none", *choices]))


def gradients(data, choices, optimizer):
    """Of two batches added up."""
    torch.manual_seed(0)
    module = parts_of(*choices, f"optimizer={optimizer}").recommender(data).train()
    batches = TrainBatches(data, module.task, 16, 0, Share(), module.loss.needs_seen)
    names, parameters = zip(*module.backbone.named_parameters(), strict=True)
    _, found = module.rule.gradients(StepClosure(module, parameters, [batches[0, 0], batches[0, 1]]))
    return {name: gradient for name, gradient in zip(names, found, strict=True) if gradient is not None}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", TABLES)
def test_the_gradients_are_adams(data, model, loss):
    choices = (f"model={model}", *LOSSES[loss])
    whole, rows = gradients(data, choices, "adam"), gradients(data, choices, "lazy_adam")
    assert set(whole) == set(rows)
    by_rows = {name for name, gradient in rows.items() if gradient.is_sparse}
    if loss == "ce":
        # These look their items up in a table of their own: that one CE does not touch as a whole.
        assert by_rows == ({"items.weight"} if model in ("caser", "gsasrec") else set())
    else:
        assert by_rows == TABLES[model]
    for name, gradient in whole.items():
        assert not gradient.is_sparse
        found = rows[name].to_dense() if rows[name].is_sparse else rows[name]
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)


def test_a_small_catalogue_is_updated_whole(data):
    few = Preparation(k_core=1)(Synthetic(n_users=50, n_items=900, mean_length=7).draw(), "made")[0]
    choices = ("model=sasrec", *LOSSES["shared"])
    assert not any(gradient.is_sparse for gradient in gradients(few, choices, "lazy_adam").values())


def test_two_processes_are_refused_in_one_line():
    with pytest.raises(UserError, match="lazy_adam") as caught:
        parts_of("strategy=ddp", "strategy.accelerator=cpu", "optimizer=lazy_adam")
    assert "\n" not in str(caught.value)
    parts_of("strategy=ddp", "strategy.accelerator=cpu")
    parts_of("optimizer=lazy_adam")
