"""Preference losses of items: which negatives they draw, what they compare, and the losses they are equal to."""

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from loss_cases import Answer, Case, answer, assert_same, random_case
from scipy.stats import chisquare

from recsys_lt.data.streams import key_of, keys_of
from recsys_lt.errors import UserError
from recsys_lt.losses.answering import Scored
from recsys_lt.losses.ce import CE
from recsys_lt.losses.item_preference import NAPO, ItemPreference, Rejected
from recsys_lt.losses.loss import Draw, Loss
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.losses.preference import Answers, Preference, confident_margin, popularity_margins
from recsys_lt.losses.sampled_losses import BPR, SSM
from recsys_lt.training.instantiate import checked


def other_model(seed: int, n: int, n_items: int, d: int = 3) -> Scored:
    generator = torch.Generator().manual_seed(seed)
    states, weight = (torch.randn(size, d, generator=generator, dtype=torch.float64) for size in (n, n_items))
    return Scored(states, OutputTable(weight))


def compared(case: Case, *names: str) -> Case:
    """The case with frozen models in its draw."""
    frozen = {name: other_model(10 + len(name), len(case.targets), case.n_items) for name in names}
    return replace(case, draw=replace(case.draw, frozen=frozen))


def said(loss, case: Case) -> Answer:
    return answer(loss, case, True)


CASE = partial(random_case, n=20, n_items=30, n_weights=3)
CLOSE = {"rtol": 1e-6, "atol": 1e-7}


@pytest.mark.parametrize("k", [1, 4, 20])
@pytest.mark.parametrize("bias", [False, True])
def test_s_dpo_without_reference_is_sampled_softmax(k, bias):
    """With the same negatives, those of ``SSM``: -log sigma(-log sum exp(s_k - s)) = log(1 + sum exp(s_k - s))."""
    case = CASE(1, bias=bias)
    loss = ItemPreference(k, 1.0, reference=False, pool="non_target")
    assert_same(said(loss, case), said(SSM(k, "non_target"), case))


def test_dpo_without_reference_is_bpr():
    case = CASE(2)
    loss = ItemPreference(1, 1.0, reference=False, pool="non_target")
    assert_same(said(loss, case), said(BPR(1, "non_target"), case))


def test_a_reference_that_agrees_leaves_the_number_of_answers():
    case = CASE(3)
    case.draw = replace(case.draw, frozen={"reference": Scored(case.states, case.table)})
    losses = ItemPreference(4, 0.7, pool="non_target")(case.states, case.targets, case.table, None, case.draw)[1]
    torch.testing.assert_close(losses, torch.full((20,), math.log(5), dtype=torch.float64))


def test_leads_are_less_those_of_the_reference():
    case = compared(CASE(4), "reference")
    loss = ItemPreference(3, 0.7, margin=0.2, combine="mean", tau=0.5, pool="non_target")
    counts = torch.arange(30)
    loss.prepare(counts)
    losses = loss(case.states, case.targets, case.table, None, case.draw)[1]
    ids, _ = loss.uniform(case.draw, case.targets, 30)
    theirs = case.draw.frozen["reference"]
    ours, others = case.scores(), theirs.states @ theirs.table.weight.T
    for row, target in enumerate(case.targets.tolist()):
        leads = [
            0.7 * (ours[row, target] - ours[row, k] - others[row, target] + others[row, k])
            + 0.5 * math.log(max(target, 1) / max(k, 1))
            for k in ids[row].tolist()
        ]
        expected = math.log1p(math.exp(-float(sum(leads)) / 3 + 0.2))
        assert losses[row].item() == pytest.approx(expected, rel=1e-6)


def test_a_negative_that_is_the_target_does_not_count():
    case = CASE(5)
    case.targets = torch.zeros(20, dtype=torch.int64)
    case.weight, case.bias = case.weight[:2], case.bias[:2]
    loss = ItemPreference(2, 1.0, reference=False, pool="all")
    case.draw = replace(case.draw, seen_items=None, seen_offsets=None)
    ids, _ = loss.uniform(case.draw, case.targets, 2)
    number = (ids == 1).sum(1)
    assert set(number.tolist()) == {0, 1, 2}
    gap = case.scores()[:, 0] - case.scores()[:, 1]
    losses = loss(case.states, case.targets, case.table, None, case.draw)[1]
    torch.testing.assert_close(losses, torch.log1p(number * torch.exp(-gap)))
    assert not losses[number == 0].any()


def test_the_cross_entropy_is_added():
    case = CASE(6)
    plain, ce = ItemPreference(2, 1.0, reference=False), CE()
    found = said(ItemPreference(2, 1.0, reference=False, sft_weight=0.5), case)
    alone, added = said(plain, case), answer(ce, case, False)
    for name in ("totals", "losses", "by_states", "by_weight", "by_bias"):
        whole = getattr(alone, name) + 0.5 * getattr(added, name)
        torch.testing.assert_close(getattr(found, name), whole, rtol=1e-5, atol=1e-5)  # CE by blocks is in float32


@pytest.mark.parametrize("name", ["plain", "hard", "popular", "dynamic", "napo"])
def test_asking_twice_is_the_same_and_weights_are_of_a_mean(name):
    case = compared(CASE(7), "reference", "auxiliary")
    loss = {
        "plain": lambda: ItemPreference(3, 1.0),
        "hard": lambda: ItemPreference(3, 1.0, negatives="hard", top=6),
        "popular": lambda: ItemPreference(3, 1.0, negatives="popular"),
        "dynamic": lambda: ItemPreference(5, 1.0, combine="mean", dynamic=True),
        "napo": lambda: NAPO(3, 1.0, reference=False, margin=1.0, group=4),
    }[name]()
    loss.prepare(torch.arange(30))
    before = torch.get_rng_state()
    first, second = said(loss, case), said(loss, case)
    assert torch.equal(before, torch.get_rng_state())
    for each in ("totals", "losses", "by_states", "by_weight", "by_bias"):
        assert torch.equal(getattr(first, each), getattr(second, each))
    torch.testing.assert_close(first.totals, case.weights @ first.losses / 20)
    assert first.by_states.any()
    with torch.no_grad():
        assert torch.equal(loss(case.states, case.targets, case.table, case.weights, case.draw)[0], first.totals)


def test_popular_negatives_are_drawn_by_a_power_of_popularity_from_the_pool():
    counts = torch.tensor([0, 1, 8, 27, 1000, 64])
    n = 3000
    draw = Draw(keys_of(key_of(3), torch.arange(n)), 1, torch.zeros(n, dtype=torch.int64), torch.tensor([4]),
                torch.tensor([0, 1]))  # fmt: skip
    loss = ItemPreference(4, 1.0, reference=False, negatives="popular", eta=1 / 3)
    loss.prepare(counts)
    targets = torch.full((n,), 4)
    ids = loss.popular(draw, targets, 6)
    found = torch.bincount(ids.flatten(), minlength=6)
    assert found[4] == 0
    share = (
        torch.tensor([1, 1, 2, 3, 4]).double() / 11
    )  # of a row without item 4; what was drawn again is a share of these
    assert chisquare(found[[0, 1, 2, 3, 5]].numpy(), (share * found.sum()).numpy()).pvalue > 1e-3
    assert torch.equal(ids[7:9], loss.popular(replace(draw, keys=draw.keys[7:9], rows=draw.rows[7:9]), targets[:2], 6))


@pytest.mark.parametrize("pool", ["all", "unseen"])
def test_hard_negatives_are_those_the_reference_ranks_first(pool):
    case = compared(CASE(8), "reference")
    loss = ItemPreference(6, 1.0, negatives="hard", top=5, pool=pool)
    found = loss._rejected(case.n_items, case.targets, case.draw)
    theirs = case.draw.frozen["reference"]
    ranking = (theirs.states @ theirs.table.weight.T).argsort(1, descending=True).tolist()
    drawn = set()
    for row, target in enumerate(case.targets.tolist()):
        start, stop = case.draw.seen_offsets[case.draw.rows[row] : case.draw.rows[row] + 2]
        left_out = {target} | (set(case.draw.seen_items[start:stop].tolist()) if pool == "unseen" else set())
        first = [item for item in ranking[row] if item not in left_out][:5]
        counted = found.ids[row][found.allowed[row]].tolist()
        assert set(counted) <= set(first)
        assert len(counted) == 6 or len(first) < 5
        drawn |= {first.index(item) for item in counted}
    assert drawn == {0, 1, 2, 3, 4}


def test_hard_negatives_that_the_pool_lacks_do_not_count():
    case = compared(random_case(9, n=30, n_items=6), "reference")
    loss = ItemPreference(8, 1.0, negatives="hard", top=50)
    found = loss._rejected(case.n_items, case.targets, case.draw)
    outside = loss.pool.outside(case.draw, case.targets, found.ids, 6) | (found.ids == case.targets.unsqueeze(1))
    assert outside.any()
    assert torch.equal(found.allowed, ~outside)


# NAPO.


def test_napo_that_shares_nothing_and_has_no_margin_is_s_dpo_without_reference():
    case = compared(CASE(11), "auxiliary")
    napo = NAPO(3, 1.0, reference=False, margin=0.0, share=0.0, confidence=0.0)
    assert_same(said(napo, case), said(ItemPreference(3, 1.0, reference=False), case))


def of_two(share_gradients: bool) -> tuple[Case, NAPO]:
    """Two users who have seen nothing: they have the same pool, of all items but the target."""
    case = compared(random_case(12, n=2, n_items=12, n_weights=2), "auxiliary")
    case.targets = torch.tensor([0, 1])
    none = torch.zeros(0, dtype=torch.int64)
    case.draw = replace(case.draw, rows=torch.tensor([0, 1]), seen_items=none, seen_offsets=torch.zeros(3).long())
    case.weights = torch.tensor([[1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    loss = NAPO(3, 1.0, reference=False, margin=1.0, group=2, share=1.0, share_gradients=share_gradients)
    return case, loss


@pytest.mark.parametrize("share_gradients", [False, True])
def test_two_users_share_their_negatives(share_gradients):
    case, loss = of_two(share_gradients)
    ids, _ = loss.uniform(case.draw, case.targets, 12)
    states, weight, bias = (x.clone().requires_grad_() for x in (case.states, case.weight, case.bias))
    totals, losses = loss(states, case.targets, OutputTable(weight, bias), case.weights, case.draw)
    theirs = case.draw.frozen["auxiliary"]
    auxiliary = theirs.states @ theirs.table.weight.T
    every = [[*ids[row].tolist(), *ids[1 - row].tolist()] for row in (0, 1)]
    # A user's own target does not count for the other either.
    counted = torch.tensor([[item != (row if n < 3 else 1 - row) and item != row for n, item in enumerate(every[row])]
                            for row in (0, 1)])  # fmt: skip
    sure = confident_margin(torch.stack([auxiliary[row, every[row]] for row in (0, 1)]).float(), counted, 1.0, 0.3)
    leaves = [x.clone().requires_grad_() for x in (case.states, case.weight, case.bias)]
    logs = (leaves[0] @ leaves[1].T + leaves[2]).log_softmax(1)
    expected = []
    for row in (0, 1):
        shared = logs[1 - row, ids[1 - row]]
        lps = torch.cat([logs[row, ids[row]], shared if share_gradients else shared.detach()])
        lead = -torch.logsumexp((lps - logs[row, row])[counted[row]], 0)
        expected.append(torch.nn.functional.softplus(sure[row] - lead))
    torch.testing.assert_close(losses, torch.stack(expected).detach(), **CLOSE)
    wanted = torch.autograd.grad(sum(expected) / 2, leaves)
    for one, other in zip(
        torch.autograd.grad(totals[0], (states, weight, bias), retain_graph=True), wanted, strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    totals[1].backward()  # the second user has weight 0: only what is shared moves its state
    assert bool(states.grad[0].any())
    assert bool(states.grad[1].any()) is share_gradients


def test_a_shared_negative_that_the_user_has_seen_does_not_count():
    case, loss = of_two(False)
    ids, _ = loss.uniform(case.draw, case.targets, 12)
    seen = int(ids[1, 0])
    case.draw = replace(case.draw, seen_items=torch.tensor([seen]), seen_offsets=torch.tensor([0, 1, 1]))
    found = loss._rejected(case.n_items, case.targets, case.draw)
    shared = found.ids[0, 3:]
    assert seen in shared
    assert torch.equal(found.allowed[0, 3:], (shared != 0) & (shared != 1) & (shared != seen))
    assert found.allowed[0, 3:].any()
    given = int(found.allowed[:, :3].sum())  # each of the two is given the other's
    assert float(found.false) == pytest.approx(1 - int(found.allowed[:, 3:].sum()) / given)
    assert float(found.false) > 0


def test_groups_take_every_target_once_and_the_most_similar_others():
    case = compared(CASE(13), "auxiliary")
    loss = NAPO(3, 1.0, reference=False, margin=1.0, group=8, share=0.5)
    found = loss._rejected(case.n_items, case.targets, case.draw)
    assert found.ids.shape == (20, 3 + 3 * 3)
    groups = [{row, *found.rows[row].tolist()} for row in range(20)]
    states = case.draw.frozen["auxiliary"].states
    order = keys_of(key_of(key_of(22), case.draw.step_key), torch.arange(20)).argsort().tolist()
    for start in (0, 8, 16):
        members = order[start : start + 8]
        for row in members:
            others = sorted((one for one in members if one != row), key=lambda one, row=row: -states[row] @ states[one])
            assert groups[row] & set(members) == {row, *others[:3]}
    torch.testing.assert_close(found.ids[:, :3], loss.uniform(case.draw, case.targets, 30)[0])
    assert torch.equal(found.ids[:, 3:], found.ids[found.rows, :3].flatten(1))


def test_autocast_changes_neither_who_is_similar_nor_the_margins():
    """A language model's answers are computed in it."""
    loss, case = NAPO(3, 1.0, reference=False, margin=1.0), CASE(12)
    auxiliary = other_model(13, 20, 30, d=64)
    auxiliary = Scored(auxiliary.states.float(), OutputTable(auxiliary.table.weight.float()))
    draw = replace(case.draw, frozen={"auxiliary": auxiliary})
    plain = loss._rejected(30, case.targets, draw)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss._rejected(30, case.targets, draw)
    assert torch.equal(found.rows, plain.rows)
    assert torch.equal(found.margin, plain.margin)


def test_shared_answers_are_log_probabilities_for_the_user_they_were_drawn_for():
    model = other_model(1, 3, 7)
    targets, ids = torch.tensor([0, 1, 2]), torch.tensor([[3, 4], [5, 6], [0, 1]])
    rows = torch.tensor([[1], [2], [0]])
    every = torch.cat([ids, ids[rows].flatten(1)], 1)
    loss = NAPO(2, 1.0, reference=False)
    found = loss._with_shared(model, targets, Rejected(every, torch.ones(3, 4, dtype=torch.bool), rows), False)
    logs = (model.states @ model.table.weight.T).log_softmax(1)
    expected = torch.cat([logs.gather(1, ids), logs[[1, 2, 0]].gather(1, ids[[1, 2, 0]])], 1)
    torch.testing.assert_close(found.rejected, expected, **CLOSE)
    torch.testing.assert_close(found.chosen.double(), logs[:, :3].diagonal(), **CLOSE)
    alone = model.answers(targets, ids)
    torch.testing.assert_close(found.gaps()[:, :2], alone.gaps(), **CLOSE)


# Health, and what is refused.


def test_health_of_a_case_by_hand():
    weight = torch.eye(3)
    states = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    case = Case(states, torch.tensor([0, 1]), weight, None, None, Draw(
        keys_of(1, torch.arange(2)), 1, torch.arange(2), torch.tensor([0, 1, 0, 1]), torch.tensor([0, 2, 4])
    ))  # fmt: skip
    zero = Scored(torch.zeros(2, 3), case.table)
    case.draw = replace(case.draw, frozen={"reference": zero})
    loss = ItemPreference(2, 0.5)  # both targets' negatives are the third item
    found = {name: float(value) for name, value in loss.health(states, case.targets, case.table, case.draw).items()}
    logs = states.log_softmax(1)
    assert found == pytest.approx({
        "chosen_log_probability": float(logs[0, 0] + logs[1, 1]) / 2,
        "rejected_log_probability": float(logs[0, 2] + logs[1, 2]) / 2,
        "reference_log_probability": -math.log(3),
        "preference_margin": 0.5 * (3 - 1) / 2,
        "preference_accuracy": 0.5,
        "rejected_above": 0.5,
        "rejected_items": 2.0,
        "kl_to_reference": sum(
            sum(p * math.log(3 * p) for p in torch.tensor(scores).softmax(0).tolist())
            for scores in ([3.0, 0.0, 0.0], [1.0, 2.0, 2.0])
        ) / 2,
    })  # fmt: skip


def test_a_reference_whose_scores_are_cosines_is_refused():
    """The model that starts from its weights scores by dot products: the two would differ before the first step."""
    counts, needs = torch.ones(9, dtype=torch.int64), {"reference": SimpleNamespace(cosine=True)}
    with pytest.raises(UserError, match=r"model\.start_from: its scores are cosines"):
        ItemPreference(3, 1.0).prepare(counts, needs)
    ItemPreference(3, 1.0, reference=False, negatives="hard").prepare(counts, needs)


def test_what_a_catalogue_is_too_small_for():
    with pytest.raises(UserError, match="9 negatives cannot be drawn from a catalogue of 10"):
        ItemPreference(9, 1.0).check(10)
    ItemPreference(8, 1.0).check(10)


@pytest.mark.parametrize(
    ("key", "value"),
    [("beta", 0.0), ("margin", -1.0), ("smoothing", 0.6), ("share", 1.1), ("group", 1), ("confidence", -0.1)],
)
def test_settings_that_make_no_loss(key, value):
    node = {"_target_": "recsys_lt.losses.item_preference.NAPO", "k": 5, "beta": 1.0, key: value}
    with pytest.raises(UserError, match=f"loss.{key}"):
        checked("loss", node, Loss)


def test_the_form_is_that_of_the_settings():
    loss = ItemPreference(2, 0.3, margin=0.1, combine="mean", squared=True, smoothing=0.2, dynamic=True)
    assert loss.form == Preference(0.3, 0.1, "mean", True, 0.2, True)
    policy = Answers(torch.zeros(1), torch.zeros(1, 2))
    assert popularity_margins(torch.tensor([1, 2]), torch.tensor([1]), torch.tensor([[0, 1]]), 1.0).shape == (1, 2)
    assert loss.form(policy, torch.ones(1, 2, dtype=torch.bool)).shape == (1,)
