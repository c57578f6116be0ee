"""A loss of cosines: the model is trained, ranked, explained, blended and exported by the same scores."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recsys_lt.backbones.lrurec import LRURec
from recsys_lt.backbones.pop import Pop
from recsys_lt.backbones.sasrec import SASRec
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.loader import RankBatches, Share, TrainBatches, users_with_target
from recsys_lt.data.preparation import Preparation
from recsys_lt.data.sources.synthetic import Synthetic
from recsys_lt.losses.sampled_losses import SSM
from recsys_lt.losses.softmax_losses import DSL, SL
from recsys_lt.optim.eisam import EISAM
from recsys_lt.optim.lazy_adam import LazyAdam
from recsys_lt.optim.rule import Plain
from recsys_lt.optim.sam import SAM
from recsys_lt.recommenders.blend import _all_scores
from recsys_lt.recommenders.onnx_file import _Scores
from recsys_lt.recommenders.reasons import _relative
from recsys_lt.recommenders.recommender import Terms
from recsys_lt.recommenders.sequential import SequentialRecommender
from recsys_lt.recommenders.step_closure import StepClosure

N_ITEMS = 30
DATA = Preparation(k_core=1)(Synthetic(n_users=40, n_items=N_ITEMS, mean_length=6).draw(), "made")[0]
FACTS = DataFacts(40, N_ITEMS, torch.from_numpy(DATA.popularity))


def made(backbone=None, loss=None, rule=None):
    torch.manual_seed(0)
    backbone = backbone or SASRec(FACTS, width=8, blocks=1, heads=2, max_length=6, dropout=0.0)
    module = SequentialRecommender(backbone, loss or SL(5, 0.2), rule or Plain(torch.optim.Adam, 0.01), Terms())
    module.rule.prepare(dict(module.named_parameters()), module.item_tables(), FACTS.popularity)
    # Lengths and biases that would decide a ranking by dot products.
    with torch.no_grad():
        backbone.items.weight.mul_(torch.linspace(0.1, 9.0, N_ITEMS).unsqueeze(1))
    return module


def lrurec():
    torch.manual_seed(0)
    model = LRURec(FACTS, width=8, blocks=1, max_length=6, dropout=0.0)
    with torch.no_grad():
        model.out_bias.copy_(torch.linspace(-3, 3, N_ITEMS))
    return model


def ranking_batch(module):
    return RankBatches(DATA, users_with_target(DATA, "test"), "test", module.max_length, 12, with_seen=True)[0]


def training_batch(module):
    return TrainBatches(DATA, module.task, 16, 0, Share(), module.needs_seen)[0, 0]


@pytest.mark.parametrize("backbone", [lambda: None, lrurec])
def test_every_score_of_a_model_is_the_cosine_it_was_trained_on(backbone):
    module = made(backbone()).eval()
    model = module.backbone
    batch = ranking_batch(module)
    with torch.no_grad():
        states = model.user_states(batch)
        cosines = torch.cosine_similarity(states.unsqueeze(1), model.items.weight.unsqueeze(0), dim=2)
        table = model.output_table()
        dots = F.linear(states, table.weight, table.bias)
        assert not torch.equal(cosines.argmax(1), dots.argmax(1))
        ranking = module.rank(batch, N_ITEMS)
        torch.testing.assert_close(_all_scores(model, batch), cosines)
        histories = np.split(batch.items.numpy(), batch.offsets[1:-1].numpy())
        relative = _relative(module, batch.users.numpy(), histories)
        window = torch.full((len(batch), model.max_length), -1)
        for row, history in zip(window, histories, strict=True):
            row[model.max_length - len(history) :] = torch.from_numpy(history)
        torch.testing.assert_close(_Scores(model)(window), cosines)
    torch.testing.assert_close(relative, cosines - cosines.mean(1, keepdim=True))
    listed = ranking.items[0][ranking.items[0] >= 0]
    torch.testing.assert_close(ranking.scores[0, : len(listed)], cosines[0, listed])
    hidden = cosines.clone()
    hidden[batch.seen.rows(), batch.seen.items] = -torch.inf
    own = hidden.gather(1, batch.targets.unsqueeze(1))
    expected = torch.where(own[:, 0] == -torch.inf, N_ITEMS, (hidden >= own - 1e-6).sum(1))
    assert torch.equal(ranking.target_rank, expected)


def test_the_loss_is_of_the_same_cosines():
    module = made()
    batch = training_batch(module)
    module.begin_step()
    _, losses, targets = module.batch_losses(batch)
    ids, _ = module.loss.negatives(module._draw(batch), targets, N_ITEMS)
    cosines = torch.cosine_similarity(module.backbone.states(batch).unsqueeze(1), module.backbone.items.weight, dim=2)
    expected = torch.logsumexp(cosines.gather(1, ids) / 0.2, 1) - cosines.gather(1, targets.unsqueeze(1))[:, 0] / 0.2
    torch.testing.assert_close(losses, expected.detach())


def test_popularity_is_no_vector():
    module = SequentialRecommender(Pop(FACTS), SL(5), Plain(torch.optim.Adam, 0.01), Terms())
    batch = ranking_batch(module)
    with torch.no_grad():
        listed = module.rank(batch, 1).items[:, 0]
    unseen = FACTS.popularity.repeat(len(batch), 1).float()
    unseen[batch.seen.rows(), batch.seen.items] = -1
    assert torch.equal(FACTS.popularity[listed], unseen.amax(1).long())


def test_dot_products_where_the_loss_says_so():
    module = made(lrurec(), DSL(5, 1.0, 0.0, 0.0, 0.0, cosine=False))
    batch = training_batch(module)
    other = made(lrurec(), SSM(5, "non_target"))
    torch.testing.assert_close(module.batch_losses(batch)[1], other.batch_losses(batch)[1])
    assert module.backbone.scorer().bias is module.backbone.out_bias


RULES = {
    "adam": lambda: Plain(torch.optim.Adam, 0.01),
    "lazy_adam": lambda: Plain(LazyAdam, 0.01),
    "sam": lambda: SAM(torch.optim.Adam, 0.01, rho=0.1),
    "eisam": lambda: EISAM(torch.optim.Adam, 0.01, rho=0.1),
    "eisam by rows": lambda: EISAM(
        torch.optim.Adam, 0.01, rho=0.1, form="rowwise", scale="tensor", perturb="table", rows="all"
    ),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("loss", [SL, DSL])
def test_every_rule_trains_a_model_whose_bias_takes_no_part(loss, rule, monkeypatch):
    for module in ("backbones.backbone", "recommenders.sequential"):
        monkeypatch.setattr(f"recsys_lt.{module}.LARGE_TABLE", 1)  # look-ups give sparse gradients to lazy_adam
    module = made(lrurec(), loss(5, 0.2), RULES[rule]())
    batch = training_batch(module)
    parameters = list(module.parameters())
    optimizer = module.rule.build(parameters)
    totals = []
    for _ in range(15):
        total, gradients = module.rule.gradients(StepClosure(module, parameters, [batch]))
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient
        optimizer.step()
        totals.append(float(total))
    assert totals[-1] < totals[0] - 0.1
    assert torch.equal(module.backbone.out_bias, torch.linspace(-3, 3, N_ITEMS))
