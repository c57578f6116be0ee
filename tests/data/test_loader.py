import itertools
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_sequences import history, same_batch, sequences_of, split_sequences, training

from recsys_lt.data import streams
from recsys_lt.data.loader import RankBatches, Share, TrainBatches, rank_loader, train_loader, users_with_target
from recsys_lt.data.streams import key_of, keys_of, order_of
from recsys_lt.data.tasks.next_item import EveryPosition, OnePass, Prefixes
from recsys_lt.data.tasks.task import UserTask, packed, streams_of

some = settings(deadline=None, max_examples=60)
plans = st.sampled_from([EveryPosition(3), EveryPosition(50), Prefixes(4), Prefixes(3, recent=True), OnePass(3)])


def large(n_users=40, n_items=30, seed=0):
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 12, n_users)
    histories = [random.integers(0, n_items, n).tolist() for n in lengths]
    return sequences_of(histories, np.maximum(lengths - 1, 0), n_items=n_items)


def batches_of(data, plan, batch_rows=5, seed=0, rank=0, world=1, with_seen=True):
    return TrainBatches(data, plan, batch_rows, seed, Share(rank, world), with_seen)


def rows_of(batch):
    """Each row as (stream, user, inputs, targets, seen)."""
    targets = batch.targets.split(batch.rows_of_targets().bincount(minlength=len(batch)).tolist())
    seen = [None] * len(batch)
    if batch.seen is not None:
        seen = [part.tolist() for part in batch.seen.items.split(batch.seen.offsets.diff().tolist())]
    return [
        (int(key), int(user), items.tolist(), target.tolist(), own)
        for key, user, items, target, own in zip(
            batch.streams, batch.users, batch.items.split(batch.lengths), targets, seen, strict=True
        )
    ]


@given(data=split_sequences(), plan=plans, batch_rows=st.integers(1, 7))
@some
def test_an_epoch_holds_every_row_once_with_what_belongs_to_it(data, plan, batch_rows):
    n_examples = plan.n_examples(data)
    batches = batches_of(data, plan, batch_rows)
    assert len(batches) == -(-n_examples // batch_rows)
    found = []
    for step in range(len(batches)):
        batch = batches[3, step]
        assert len(batch) == min(batch_rows, n_examples - step * batch_rows)
        assert batch.offsets.tolist() == [0, *itertools.accumulate(batch.lengths)]
        assert batch.global_targets == len(batch.targets)
        found += rows_of(batch)
    whole = rows_of(plan.batch(data, np.arange(n_examples), key_of(2, 0, 3)))
    assert sorted(row[:4] for row in found) == sorted(row[:4] for row in whole)
    for _, user, _, _, seen in found:
        assert seen == sorted(set(training(data, user)))


@given(data=split_sequences(), plan=plans, batch_rows=st.integers(1, 9), world=st.integers(1, 4))
@some
def test_the_ranks_parts_are_the_single_process_s_batch(data, plan, batch_rows, world):
    whole = batches_of(data, plan, batch_rows)
    parts = [batches_of(data, plan, batch_rows, rank=rank, world=world) for rank in range(world)]
    for step in range(len(whole)):
        batch = whole[1, step]
        shares = [part[1, step] for part in parts]
        joined = [rows_of(share) for share in shares]
        assert max(map(len, joined)) - min(map(len, joined)) <= 1
        dealt = [row for row in itertools.chain(*itertools.zip_longest(*joined)) if row is not None]
        assert dealt == rows_of(batch)
        for share in shares:
            assert share.step_key == batch.step_key
            assert share.global_targets == batch.global_targets == len(batch.targets)
    assert {len(part) for part in parts} == {len(whole)}


def test_a_rank_without_a_part_of_the_last_batch():
    data = sequences_of([[0, 1, 2]] * 5, [3] * 5)
    batch = batches_of(data, EveryPosition(3), batch_rows=4, rank=3, world=4)[0, 1]
    assert len(batch) == len(batch.items) == len(batch.targets) == 0
    assert batch.offsets.tolist() == batch.seen.offsets.tolist() == [0]
    assert batch.global_targets == 2


def test_a_batch_is_a_function_of_epoch_and_step_alone():
    data = large()
    for plan in (EveryPosition(5), Prefixes(4)):
        one = batches_of(data, plan)
        asked = [(epoch, step) for epoch in (0, 1, 5) for step in range(len(one))]
        first = {index: one[index] for index in asked}
        torch.manual_seed(0)
        np.random.seed(0)
        for index in np.random.default_rng(0).permutation(asked).tolist():
            same_batch(one[tuple(index)], first[tuple(index)])
            same_batch(batches_of(data, plan)[tuple(index)], first[tuple(index)])


def test_orders_and_keys_of_epochs_steps_and_seeds_differ():
    data = large()
    orders, streams, step_keys = set(), set(), set()
    for seed in (0, 1):
        batches = batches_of(data, Prefixes(4), seed=seed)
        for epoch in range(4):
            orders.add(tuple(batches.order(epoch)[:].tolist()))
            streams |= {stream for step in range(len(batches)) for stream in batches[epoch, step].streams.tolist()}
            step_keys |= {batches[epoch, step].step_key for step in range(len(batches))}
    assert len(orders) == 8
    assert len(streams) == 8 * batches.n_examples
    assert len(step_keys) == 8 * len(batches)
    assert not streams & step_keys


def test_every_place_of_the_order_is_as_likely_for_a_row():
    data = sequences_of([[0, 1]] * 4, [2] * 4)
    batches = batches_of(data, EveryPosition(1))
    counts = np.zeros((4, 4))
    for epoch in range(2000):
        counts[np.arange(4), batches.order(epoch)[:]] += 1
    assert np.abs(counts / 2000 - 0.25).max() < 4 * (0.25 * 0.75 / 2000) ** 0.5


@contextmanager
def orders_by_formula():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "LISTED", 0)
        order_of.cache_clear()
        yield
    order_of.cache_clear()


@given(data=split_sequences(), plan=plans, accumulate=st.integers(1, 3))
@example(data=large(), plan=EveryPosition(3), accumulate=2)
@example(data=large(), plan=OnePass(3), accumulate=3)
@example(data=large(), plan=Prefixes(4), accumulate=3)
@some
def test_an_order_by_formula_changes_only_the_order(data, plan, accumulate):
    """Large data: a row is what it is where the order is listed."""

    def all_batches():
        batches = TrainBatches(data, plan, 4, 0, Share(), True, accumulate)
        return [batches[2, step] for step in range(len(batches))]

    listed = all_batches()
    with orders_by_formula():
        by_formula = all_batches()
    assert sorted(row for batch in by_formula for row in rows_of(batch)) == sorted(
        row for batch in listed for row in rows_of(batch)
    )
    for first in range(0, len(by_formula), accumulate):
        step = by_formula[first : first + accumulate]
        expected = sum(batch.global_targets for batch in step) if accumulate > 1 else None
        assert {batch.step_targets for batch in step} == {expected}


def test_orders_by_formula_differ_by_epoch_and_seed():
    data = large()
    asked = [(seed, epoch) for seed in (0, 1) for epoch in range(4)]
    with orders_by_formula():
        orders = {tuple(batches_of(data, Prefixes(4), seed=seed).order(epoch)[:].tolist()) for seed, epoch in asked}
    assert len(orders) == 8


class Pairs(UserTask):
    """A task of one's own: user-item pairs without a history, as for matrix factorisation."""

    def count(self, train_end):
        return train_end

    def batch(self, data, numbers, stream):
        user, place = self.located(data, numbers)
        nothing = np.zeros(0, dtype=np.int64)
        targets = data.items[data.offsets[user] + place]
        return packed(user, nothing, np.zeros_like(user), targets, streams_of(stream, numbers))


@given(data=split_sequences(), world=st.integers(1, 3), accumulate=st.integers(1, 3))
@some
def test_a_task_of_one_s_own(data, world, accumulate):
    """Two methods are all the loader needs."""
    parts = [TrainBatches(data, Pairs(), 4, 0, Share(rank, world), True, accumulate) for rank in range(world)]
    assert parts[0].n_targets == parts[0].n_rows == data.train_end.sum()
    found = []
    for step in range(len(parts[0])):
        batches = [part[2, step] for part in parts]
        assert {batch.global_targets for batch in batches} == {sum(len(batch.targets) for batch in batches)}
        found += [pair for batch in batches for pair in zip(batch.users.tolist(), batch.targets.tolist(), strict=True)]
    assert sorted(found) == sorted((user, item) for user in range(data.n_users) for item in training(data, user))


def test_seen_sets_come_only_where_asked():
    assert batches_of(large(), EveryPosition(5), with_seen=False)[0, 0].seen is None


def test_workers_change_nothing():
    batches = batches_of(large(), EveryPosition(5), batch_rows=8)
    alone, shared = train_loader(batches, 0), train_loader(batches, 2)
    for loader in (alone, shared):
        loader.sampler.set_epoch(2)
    assert len(alone) == len(shared) == len(batches)
    steps = 0
    for step, (one, other) in enumerate(zip(alone, shared, strict=True)):
        same_batch(one, other)
        same_batch(one, batches[2, step])
        steps += 1
    assert steps == len(batches)
    alone.sampler.set_epoch(3)
    same_batch(next(iter(alone)), batches[3, 0])


# Ranking


def ranked(data, users, stage, max_length, batch_rows, with_seen=True):
    batches = RankBatches(data, np.array(users, dtype=np.int64), stage, max_length, batch_rows, with_seen)
    loader = rank_loader(batches)
    assert len(batches) == len(loader) == -(-len(users) // batch_rows)
    return list(loader)


@pytest.mark.parametrize("stage", ["valid", "test", None])
@given(data=split_sequences(), max_length=st.integers(1, 14), batch_rows=st.integers(1, 5), order=st.randoms())
@some
def test_ranking_reads_what_came_before_the_target(stage, data, max_length, batch_rows, order):
    at = {"valid": data.valid_at, "test": data.test_at, None: np.diff(data.offsets)}[stage]
    users = [user for user in range(data.n_users) if at[user] >= 0]
    order.shuffle(users)
    asked = iter(users)
    for batch in ranked(data, users, stage, max_length, batch_rows):
        assert 0 < len(batch) <= batch_rows
        assert batch.offsets.tolist() == [0, *itertools.accumulate(batch.lengths)]
        assert torch.equal(batch.streams, keys_of(0, batch.users))
        seen = batch.seen.items.split(batch.seen.offsets.diff().tolist())
        assert len(seen) == len(batch)
        for place, items in enumerate(batch.items.split(batch.lengths)):
            user = next(asked)
            earlier = history(data, user)[: at[user]]
            assert batch.users[place] == user
            assert items.tolist() == earlier[-max_length:]
            assert seen[place].tolist() == sorted(set(earlier))
            if stage is not None:
                assert batch.targets[place] == history(data, user)[at[user]]
        assert len(batch.targets) == (0 if stage is None else len(batch))
    assert next(asked, None) is None


@pytest.mark.parametrize("stage", ["valid", "test"])
@given(data=split_sequences(), most=st.integers(1, 9))
@some
def test_users_with_a_target_are_found_in_order(stage, data, most):
    expected = [user for user in range(data.n_users) if data.targets_at(stage)[user] >= 1]
    assert users_with_target(data, stage).tolist() == expected
    drawn = users_with_target(data, stage, most).tolist()
    assert len(drawn) == min(most, len(expected))
    assert sorted(set(drawn) & set(expected)) == drawn == users_with_target(data, stage, most).tolist()


@given(data=split_sequences(), batch_rows=st.integers(1, 5), world=st.integers(1, 4))
@some
def test_each_rank_ranks_its_part(data, batch_rows, world):
    users = users_with_target(data, "test")
    expected = np.flatnonzero(data.test_at >= 1)
    for rank in range(world):
        batches = RankBatches(data, users, "test", 3, batch_rows, False, Share(rank, world))
        found = [batches[step].users.tolist() for step in range(len(batches))]
        assert list(itertools.chain(*found)) == expected[rank::world].tolist()
        assert all(len(part) == batch_rows for part in found[:-1])


def test_ranking_by_hand():
    """Validation reads the training events, the test reads the validation item too."""
    data = sequences_of([[0, 1, 2, 1, 3, 4], [5, 5, 6, 0]], [4, 2], [4, 2], [5, 3])
    (batch,) = ranked(data, [1, 0], "valid", 3, 8)
    assert batch.items.tolist() == [5, 5, 1, 2, 1]
    assert batch.targets.tolist() == [6, 3]
    assert batch.seen.items.tolist() == [5, 0, 1, 2]
    (batch,) = ranked(data, [1, 0], "test", 3, 8, with_seen=False)
    assert batch.items.tolist() == [5, 5, 6, 2, 1, 3]
    assert batch.targets.tolist() == [0, 4]
    assert batch.seen is None
    (batch,) = ranked(data, [0], None, 3, 8)
    assert batch.items.tolist() == [1, 3, 4]
    assert len(batch.targets) == 0
    assert ranked(data, [], "test", 3, 8) == []
