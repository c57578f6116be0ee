"""What a backbone or loss from outside may compute, share within a step and return."""

import pytest
import torch
from torch import Tensor, nn

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.data.loader import RankBatches, Share, TrainBatches, users_with_target
from recsys_lt.data.preparation import Preparation
from recsys_lt.data.sources.synthetic import Synthetic
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.errors import UserError
from recsys_lt.losses.blocks import plain_means
from recsys_lt.losses.ce import CE
from recsys_lt.losses.loss import Loss
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.losses.sampled_losses import SCE
from recsys_lt.optim.rule import Plain
from recsys_lt.optim.sam import SAM
from recsys_lt.recommenders.full_ranking import rank_by_scores
from recsys_lt.recommenders.recommender import Terms
from recsys_lt.recommenders.sequential import SequentialRecommender
from recsys_lt.recommenders.step_closure import StepClosure

N_ITEMS = 30
DATA = Preparation(k_core=1)(Synthetic(n_users=40, n_items=N_ITEMS, mean_length=6).draw(), "made")[0]


class Projecting(Backbone):
    """Items are features through a projection, computed once a step and once a ranking."""

    def __init__(self, shared: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.task, self.max_length = Prefixes(4), 4
        self.register_buffer("features", torch.randn(N_ITEMS, 5))
        self.projection = nn.Linear(5, 8)
        self.shared, self.calls, self.table = shared, 0, None

    def project(self) -> Tensor:
        self.calls += 1
        return self.projection(self.features)

    def begin_step(self) -> None:
        self.table = self.project() if self.shared else None

    begin_ranking = begin_step

    def vectors(self) -> Tensor:
        return self.project() if self.table is None else self.table

    def states(self, batch):
        return self.vectors()[batch.items[batch.offsets[1:] - 1]]

    user_states = states

    def output_table(self):
        return OutputTable(self.vectors())


class Distances:
    """Scores by negative squared distance plus a bias: no dot product."""

    def __init__(self, items: Tensor, bias: Tensor) -> None:
        self.items, self.bias = items, bias

    @property
    def n_items(self) -> int:
        return len(self.items)

    def block(self, states: Tensor, start: int, stop: int) -> Tensor:
        return self.bias[start:stop] - (states.unsqueeze(1) - self.items[start:stop]).square().sum(2)

    def lower_bounds(self, states: Tensor, items: Tensor) -> Tensor:
        score = self.bias[items] - (states - self.items[items]).square().sum(1)
        return score - 1e-6 * score.abs()


class Metric(Projecting):
    def output_table(self):
        return Distances(self.vectors(), self.features[:, 0])


def adam() -> Plain:
    return Plain(torch.optim.Adam, 0.01)


def sam(accumulate: str) -> SAM:
    return SAM(torch.optim.Adam, 0.01, rho=0.3, accumulate=accumulate)


def made(backbone, loss=None, rule=None, **terms):
    module = SequentialRecommender(backbone, loss or CE(), rule or adam(), Terms(**terms))
    module.rule.prepare(dict(module.named_parameters()), module.item_tables(), torch.from_numpy(DATA.popularity))
    return module


def batches_of(module, n=2):
    batches = TrainBatches(DATA, module.task, 16, 0, Share(), module.needs_seen)
    return [batches[0, step] for step in range(n)]


def ranking_batch(module):
    return RankBatches(DATA, users_with_target(DATA, "test"), "test", module.max_length, 12, with_seen=True)[0]


@pytest.mark.parametrize(("rule", "evaluations"), [(adam, 1), (lambda: sam("two_pass"), 2)])
def test_what_batches_share_is_computed_once_an_evaluation_of_the_step(rule, evaluations) -> None:
    """For all batches of the step, and anew where a rule has moved the parameters; gradients stay the same."""
    found = []
    for shared in (True, False):
        module = made(Projecting(shared), rule=rule())
        module.backbone.calls = 0
        closure = StepClosure(module, list(module.parameters()), batches_of(module))
        found.append(module.rule.gradients(closure))
        assert module.backbone.calls == (evaluations if shared else evaluations * 2 * 2)
    torch.testing.assert_close(found[0][0], found[1][0])
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other)


def test_a_ranking_shares_it_too_and_sees_the_parameters_of_now() -> None:
    module = made(Projecting()).eval()
    batch = ranking_batch(module)
    with torch.no_grad():
        module.begin_ranking()
        module.backbone.calls = 0
        before, again = (module.rank(batch, 5).items for _ in range(2))
        assert torch.equal(before, again)
        assert module.backbone.calls == 0
        module.backbone.projection.weight.neg_()
        module.begin_ranking()
        assert not torch.equal(module.rank(batch, 5).items, before)


def test_scores_that_are_no_products_are_ranked_as_a_sort_does_and_trained_by_ce() -> None:
    module = made(Metric())
    batch = ranking_batch(module)
    with torch.no_grad():
        module.begin_ranking()
        scores = module.backbone.output_table().block(module.backbone.user_states(batch), 0, N_ITEMS)
        seen = batch.seen
        for row, (start, stop) in enumerate(zip(seen.offsets[:-1], seen.offsets[1:], strict=True)):
            scores[row, seen.items[start:stop]] = -torch.inf
        found = module.rank(batch, 5)
    own = scores.gather(1, batch.targets.unsqueeze(1))
    expected = torch.where(own[:, 0] == -torch.inf, N_ITEMS, (scores >= own).sum(1))
    assert torch.equal(found.target_rank, expected)
    assert torch.equal(found.items, scores.sort(dim=1, descending=True, stable=True).indices[:, :5])
    batch = batches_of(module, 1)[0]
    module.begin_step()
    weights = torch.rand(2, N_ITEMS)
    totals, losses, _ = module.batch_losses(batch, weights)
    logits = module.backbone.output_table().block(module.backbone.states(batch), 0, N_ITEMS)
    plain = nn.functional.cross_entropy(logits, batch.targets, reduction="none")
    torch.testing.assert_close(losses, plain.detach())
    torch.testing.assert_close(totals, (weights[:, batch.targets] * plain).mean(1))
    parameters = list(module.parameters())
    by_totals = torch.autograd.grad(totals[1], parameters, retain_graph=True)
    for one, other in zip(
        by_totals, torch.autograd.grad((weights[1, batch.targets] * plain).mean(), parameters), strict=True
    ):
        torch.testing.assert_close(one, other)
    with pytest.raises(UserError, match=r"loss: SCE needs items that are scored by their vectors.*loss=ce"):
        made(Metric(), SCE(5, 2.0)).batch_losses(batch)


def test_a_scorer_is_asked_for_blocks(monkeypatch) -> None:
    generator = torch.Generator().manual_seed(0)
    scorer = Distances(torch.randn(N_ITEMS, 3, generator=generator), torch.zeros(N_ITEMS))
    states, targets = torch.randn(4, 3, generator=generator), torch.tensor([0, 7, 29, 7])
    whole = rank_by_scores(states, scorer, targets, None, 6)
    monkeypatch.setattr("recsys_lt.recommenders.full_ranking._BLOCK", 4 * 7)
    blocks = rank_by_scores(states, scorer, targets, None, 6)
    assert torch.equal(whole.target_rank, blocks.target_rank)
    assert torch.equal(whole.items, blocks.items)


class FlatStates(Projecting):
    def states(self, batch):
        return super().states(batch)[:, 0]

    user_states = states


class WholeStates(Projecting):
    def states(self, batch):
        return super().states(batch).long()


class Scalar(Loss):
    def __call__(self, states, targets, table, weights=None, draw=None):
        loss = nn.functional.cross_entropy(states @ table.weight.T, targets)
        return loss, loss.detach()


class OneNumber(Scalar):
    def __call__(self, *given, **named):
        return super().__call__(*given, **named)[0]


class ScalarMeans(Scalar):
    def __call__(self, states, targets, table, weights=None, draw=None):
        return plain_means(super().__call__(states, targets, table)[0], weights)


class LossesAlone(Loss):
    def __call__(self, states, targets, table, weights=None, draw=None):
        return nn.functional.cross_entropy(states @ table.weight.T, targets, reduction="none")


class NoTensors(Loss):
    def __call__(self, states, targets, table, weights=None, draw=None):
        return None, None


@pytest.mark.parametrize(
    ("backbone", "loss", "said"),
    [
        (FlatStates, CE, r"model: FlatStates\.states gave float32 of shape \[16\], not floats of shape \[16, d\]"),
        (WholeStates, CE, r"model: WholeStates\.states gave int64 of shape \[16, 8\]"),
        (Projecting, Scalar, r"loss: Scalar gave totals of float32 of shape \[\], not of shape \[1\]"),
        (
            Projecting,
            OneNumber,
            r"loss: OneNumber returned float32 of shape \[\], not two .*plain_means\(losses, weights",
        ),
        (Projecting, LossesAlone, r"loss: LossesAlone returned float32 of shape \[16\], not two tensors"),
        (Projecting, ScalarMeans, r"loss: plain_means was given a tensor of shape \[\], .*reduction=\"none\""),
        (Projecting, NoTensors, r"loss: NoTensors gave totals of NoneType"),
    ],
)
def test_other_shapes_are_refused_in_one_line(backbone, loss, said) -> None:
    module = made(backbone(), loss())
    with pytest.raises(UserError, match=said) as caught:
        module.batch_losses(batches_of(module, 1)[0])
    assert "\n" not in str(caught.value)


def test_states_of_users_are_checked_too() -> None:
    module = made(FlatStates())
    with pytest.raises(UserError, match=r"FlatStates\.user_states gave .* for each user"):
        module.rank(ranking_batch(module), 3)
