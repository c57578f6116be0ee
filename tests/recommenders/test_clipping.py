"""What a step is taken on is clipped, whatever rule made it."""

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir

from recsys_lt import CONF
from recsys_lt.data.loader import Share, TrainBatches, train_loader
from recsys_lt.data.preparation import Preparation
from recsys_lt.data.sources.synthetic import Synthetic
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
