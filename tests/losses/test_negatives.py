from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import answer, assert_same, plain, random_case
from scipy.stats import chisquare

from recsys_lt.data.streams import key_of, keys_of
from recsys_lt.errors import UserError
from recsys_lt.losses.loss import Draw, Loss
from recsys_lt.losses.negatives import Negatives
from recsys_lt.losses.sampled import SampledLoss
from recsys_lt.losses.sampled_losses import SCE
from recsys_lt.training.instantiate import checked


def draw_of(rows, seen=(), key=1, step=5):
    """Targets in the given rows, whose seen sets are given."""
    rows = torch.tensor(rows)
    return Draw(
        keys=keys_of(key_of(key), torch.arange(len(rows))),
        step_key=key_of(9, step),
        rows=rows,
        seen_items=torch.tensor([item for items in seen for item in sorted(items)], dtype=torch.int64),
        seen_offsets=torch.tensor([0, *map(len, seen)]).cumsum(0),
    )


def assert_uniform(ids, items, n_items):
    """Drawn from exactly these items, all alike."""
    counts = torch.bincount(ids.flatten(), minlength=n_items)
    items = sorted(items)
    assert counts.sum() == counts[items].sum()
    assert (counts[items] > 0).all()
    assert len(items) == 1 or chisquare(counts[items].numpy()).pvalue > 1e-3


def test_all_is_uniform_over_the_catalogue():
    ids, forbidden = Negatives(40, "all", "position")(draw_of([0] * 500), torch.zeros(500).long(), 37)
    assert forbidden is None
    assert_uniform(ids, range(37), 37)
    # Neither do the k-th draws of all targets, nor all draws of a target, favour an item.
    for part in (ids[:, 0], ids[:, 39], ids[:, 7]):
        assert_uniform(part, range(37), 37)


@pytest.mark.parametrize("target", [0, 17, 36])
def test_non_target_is_uniform_over_all_others(target):
    targets = torch.full((200,), target)
    ids, _ = Negatives(40, "non_target", "position")(draw_of([0] * 200), targets, 37)
    assert_uniform(ids, set(range(37)) - {target}, 37)


def test_unseen_is_uniform_over_what_each_row_has_not_seen():
    seen = [set(), {0}, {36}, {0, 1, 2, 35, 36}, {3, 9, 10, 11, 30}, set(range(0, 37, 2))]
    seen += [set(range(37)) - {5}, set(range(37)) - {0, 36}]
    rows = [row for row in range(len(seen)) for _ in range(100)]
    draw = draw_of(rows, seen)
    ids, _ = Negatives(40, "unseen", "position")(draw, torch.zeros(len(rows)).long(), 37)
    for row, items in enumerate(seen):
        assert_uniform(ids[draw.rows == row], set(range(37)) - items, 37)


@st.composite
def problems(draw):
    n_items = draw(st.integers(2, 12))
    sets = st.sets(st.integers(0, n_items - 1), max_size=n_items - 1)
    seen = draw(st.lists(sets, min_size=1, max_size=6))
    rows = draw(st.lists(st.integers(0, len(seen) - 1), min_size=1, max_size=12))
    targets = draw(st.lists(st.integers(0, n_items - 1), min_size=len(rows), max_size=len(rows)).map(torch.tensor))
    return n_items, seen, rows, targets, draw(st.integers(0, 1000))


some = settings(deadline=None, max_examples=60)


@given(problem=problems(), k=st.integers(1, 12))
@some
def test_own_negatives_stay_in_their_pool(problem, k):
    n_items, seen, rows, targets, key = problem
    draw = draw_of(rows, seen, key)
    for pool in ("all", "unseen", "non_target"):
        ids, forbidden = Negatives(k, pool, "position")(draw, targets, n_items)
        assert forbidden is None
        assert ids.shape == (len(rows), k)
        assert ((ids >= 0) & (ids < n_items)).all()
        for row, target, own in zip(rows, targets.tolist(), ids.tolist(), strict=True):
            assert pool != "unseen" or not seen[row] & set(own)
            assert pool != "non_target" or target not in own


@given(problem=problems(), data=st.data())
@some
def test_a_target_draws_the_same_in_any_order_and_company(problem, data):
    n_items, seen, rows, targets, key = problem
    draw = draw_of(rows, seen, key)
    chosen = data.draw(st.lists(st.sampled_from(range(len(rows))), min_size=1, unique=True))
    some_of = Draw(draw.keys[chosen], draw.step_key + 1, draw.rows[chosen], draw.seen_items, draw.seen_offsets)
    for pool in ("all", "unseen", "non_target"):
        negatives = Negatives(5, pool, "position")
        together, _ = negatives(draw, targets, n_items)
        apart, _ = negatives(some_of, targets[chosen], n_items)
        assert torch.equal(apart, together[chosen])


@given(problem=problems(), k=st.integers(1, 12))
@some
def test_shared_negatives_and_what_is_forbidden(problem, k):
    n_items, seen, rows, targets, key = problem
    draw = draw_of(rows, seen, key)
    drawn = []
    for pool in ("all", "unseen", "non_target"):
        ids, forbidden = Negatives(k, pool, "batch")(draw, targets, n_items)
        assert ids.shape == (k,)
        assert ((ids >= 0) & (ids < n_items)).all()
        drawn.append(ids)
        if pool == "all":
            assert forbidden is None
            continue
        outside = [seen[row] if pool == "unseen" else {int(t)} for row, t in zip(rows, targets, strict=True)]
        assert forbidden.tolist() == [[item in items for item in ids.tolist()] for items in outside]
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])


def test_shared_negatives_belong_to_the_step_alone():
    negatives = Negatives(50, "all", "batch")
    one, _ = negatives(draw_of([0, 0, 1], key=1), torch.tensor([1, 2, 3]), 1000)
    same, _ = negatives(draw_of([0], key=2), torch.tensor([7]), 1000)
    other, _ = negatives(draw_of([0, 0, 1], key=1, step=6), torch.tensor([1, 2, 3]), 1000)
    assert torch.equal(one, same)
    assert (one == other).sum() <= 3
    steps = [negatives(draw_of([0], step=step), torch.tensor([0]), 37)[0] for step in range(400)]
    assert_uniform(torch.stack(steps), range(37), 37)


def test_no_one_has_seen_anything():
    draw = draw_of([0, 1, 0], [set(), set()])
    ids, _ = Negatives(2000, "unseen", "position")(draw, torch.tensor([1, 2, 3]), 20)
    assert_uniform(ids, range(20), 20)
    _, forbidden = Negatives(4, "unseen", "batch")(draw, torch.tensor([1, 2, 3]), 20)
    assert not forbidden.any()


def test_draws_of_different_epochs_and_targets_have_nothing_in_common():
    negatives = Negatives(100, "all", "position")
    one, _ = negatives(draw_of([0] * 50, key=1), torch.zeros(50).long(), 10_000)
    other, _ = negatives(draw_of([0] * 50, key=2), torch.zeros(50).long(), 10_000)
    assert (one == other).double().mean() < 2e-3
    assert (one[:-1] == one[1:]).double().mean() < 2e-3
    assert (one[:, :-1] == one[:, 1:]).double().mean() < 2e-3


def refusal(make, *words):
    with pytest.raises(UserError) as error:
        make()
    for word in words:
        assert word in str(error.value)


def test_more_negatives_than_items():
    loss = SCE(11, 100.0)
    loss.check(11)
    refusal(lambda: loss.check(10), "loss.k", "11", "10", "loss.k=10", "loss=ce")


@pytest.mark.parametrize("k", [0, -3])
def test_k_must_be_positive(k):
    node = {"_target_": "recsys_lt.losses.sampled_losses.SCE", "k": k, "alpha": 1.0}
    refusal(lambda: checked("loss", node, Loss), "loss.k", str(k), "greater than 0")


@pytest.mark.parametrize(
    ("key", "value", "choices"),
    [
        ("pool", "popular", "'all', 'unseen' or 'non_target'"),
        ("share", "user", "'position' or 'batch'"),
        ("k", 2.5, "a whole number"),
        ("k", "many", "a whole number"),
    ],
)
def test_what_a_configuration_may_not_say(key, value, choices):
    node = {"_target_": "recsys_lt.losses.sampled_losses.SCE", "k": 5, "alpha": 1.0} | {key: value}
    refusal(lambda: checked("loss", node, Loss), f"loss.{key}", repr(value), choices)


def test_a_user_who_has_seen_everything():
    draw = draw_of([0, 1], [{1}, {0, 1, 2}])
    negatives = Negatives(2, "unseen", "position")
    refusal(lambda: negatives(draw, torch.tensor([0, 1]), 3), "loss.pool=unseen", "non_target", "all")
    only_first = Draw(draw.keys[:1], 0, draw.rows[:1], draw.seen_items, draw.seen_offsets)
    negatives(only_first, torch.tensor([0]), 3)  # the other has no target here


def test_one_item_has_no_other():
    negatives = Negatives(1, "non_target", "position")
    refusal(lambda: negatives(draw_of([0]), torch.tensor([0]), 1), "loss.pool", "one item")


def test_unseen_without_seen_sets_is_a_programming_error():
    draw = Draw(torch.tensor([1]), 0, torch.tensor([0]))
    with pytest.raises(ValueError, match="seen_items"):
        Negatives(1, "unseen", "position")(draw, torch.tensor([0]), 3)


def test_settings_that_make_no_loss():
    nan = float("nan")
    for name, key, values, said in (
        ("SCE", "alpha", (0.0, -1.0, nan), "greater than 0"),
        ("GBCE", "t", (-0.1, 1.1, nan), "than or equal to"),
    ):
        for value in values:
            node = {"_target_": f"recsys_lt.losses.sampled_losses.{name}", "k": 5, key: value}
            refusal(lambda node=node: checked("loss", node, Loss), f"loss.{key}", str(value), said)


def test_a_new_sampled_loss_is_its_target_losses_alone():
    class Hinge(SampledLoss):
        def target_losses(self, positive, negative, n_items):
            return (1 + negative - positive.unsqueeze(1)).clamp(min=0).sum(1)

    case = random_case(3, n_weights=3)
    loss = Hinge(4, "all", "position")
    assert_same(answer(loss, case, True), answer(partial(plain, loss), case, True))
