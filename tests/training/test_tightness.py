"""How often a loss bounds -log NDCG, and what it is told from, against the plain definitions."""

from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_dir

from recsys_lt import CONF
from recsys_lt.data.batch import Batch
from recsys_lt.data.loader import Share, TrainBatches
from recsys_lt.data.preparation import Preparation
from recsys_lt.data.sources.synthetic import Synthetic
from recsys_lt.errors import UserError
from recsys_lt.metrics.groups import ItemGroups, popularity_groups
from recsys_lt.recommenders.sequential import SequentialRecommender
from recsys_lt.training.build import Parts, build
from recsys_lt.training.tightness import Tightness, bounds

DATA = Preparation(k_core=1)(Synthetic(n_users=60, n_items=50, mean_length=8).draw(), "made")[0]
GROUPS = ItemGroups(DATA.popularity, popularity_groups(DATA.popularity))


def parts_of(*choices: str) -> Parts:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return build(compose("config", ["dataset=synthetic", "strategy=cpu", "logger=none", *choices]))


def made(*choices: str) -> tuple[SequentialRecommender, list[Batch]]:
    torch.manual_seed(0)
    module = parts_of(*choices).recommender(DATA)
    assert isinstance(module, SequentialRecommender)
    with torch.no_grad():
        for p in module.parameters():
            p += 0.5 * torch.randn_like(p)  # scores that differ
    batches = TrainBatches(DATA, module.task, 16, 0, Share(), module.needs_seen)
    return module.train(), [batches[0, step] for step in range(len(batches))]


@pytest.mark.parametrize("choices", [("loss=sce", "loss.k=5"), ("loss=ssm", "loss.k=3"), ("loss=bpr",), ("loss=ce",)])
def test_bounded_is_what_it_says(choices) -> None:
    module, (batch, *_) = made(*choices)
    held, met = bounds(module, batch)
    losses = module.batch_losses(batch)[1]
    table = module.backbone.output_table()
    scores = module.backbone.states(batch) @ table.weight.T
    ranks = (scores >= scores.gather(1, batch.targets.unsqueeze(1)) - 1e-6).sum(1)
    assert torch.equal(held, losses >= torch.log2(1.0 + ranks).log() - 1e-6)
    if choices[0] == "loss=ce":
        assert held.all()
        assert met.all()
    else:
        assert 0 < int(held.sum()) < len(held)


def test_what_a_loss_is_told_from() -> None:
    module, (batch, *_) = made("loss=sce", "loss.k=4", "loss.share=batch")
    assert 1 <= int(bounds(module, batch)[1].sum()) <= 4  # one draw for the step
    module, (batch, *_) = made("loss=ce_eta", "loss.eta=0")
    table = module.backbone.output_table()
    scores = module.backbone.states(batch) @ table.weight.T
    own = scores.gather(1, batch.targets.unsqueeze(1))
    above = scores >= own - 1e-6
    above[torch.arange(len(above)), batch.targets] = False  # a target is not told from itself
    assert torch.equal(bounds(module, batch)[1], above.any(0))
    with torch.no_grad():
        table.weight.zero_()  # a batch alone: all tie, each is told from all others
    assert bounds(module, batch)[1].all()


def test_a_row_is_of_the_first_targets_by_group() -> None:
    module, batches = made("loss=ssm", "loss.k=2")
    watch = Tightness(len(batches[0].targets) + 1, GROUPS)
    assert watch.row() == {}
    watch.on_train_epoch_start(None, module)
    for step, batch in enumerate(batches):
        watch.on_train_batch_start(None, module, batch, step)
    row = watch.row()
    held = torch.cat([bounds(module, batch)[0] for batch in batches[:2]])  # the second one completes the sample
    of = torch.from_numpy(GROUPS.of).long()[torch.cat([batch.targets for batch in batches[:2]])]
    assert row["bound/ndcg"] == pytest.approx(float(held.float().mean()))
    for number, group in enumerate(("head", "mid", "tail")):
        if (of == number).any():
            assert row[f"bound/{group}/ndcg"] == pytest.approx(float(held[of == number].float().mean()))
    met = torch.stack([bounds(module, batch)[1] for batch in batches[:2]]).float().mean(1)
    assert row["bound/met"] == pytest.approx(float(met.mean()))
    empty = replace(batches[0], items=batches[0].items[:0], targets=batches[0].targets[:0])
    watch.on_train_epoch_start(None, module)
    watch.on_train_batch_start(None, module, empty, 0)  # a rank without a part of a last, small batch
    assert watch.row() == {}


def test_looking_changes_nothing() -> None:
    module, (batch, *_) = made("loss=bce")
    before, state = module.batch_losses(batch)[1], torch.get_rng_state()
    bounds(module, batch)
    assert torch.equal(module.batch_losses(batch)[1], before)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in module.parameters())


def test_what_means_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"metrics\.bound_targets"):
        parts_of("metrics.bound_targets=0")
    with pytest.raises(UserError, match="bounds no rank"):
        parts_of("model=bigrec", "llm=tiny_random", "metrics.bound_targets=10").check()
