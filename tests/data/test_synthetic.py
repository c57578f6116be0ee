import numpy as np
import pytest

from recsys_lt.data.dataset import Dataset
from recsys_lt.data.preparation import Preparation
from recsys_lt.data.sources.synthetic import SHORTEST, Synthetic
from recsys_lt.errors import UserError


def test_same_seed_same_data():
    one, two, other = (Synthetic(n_users=100, n_items=30, seed=seed).draw() for seed in (3, 3, 4))
    assert (one.items == two.items).all()
    assert (one.users == two.users).all()
    assert (one.times == two.times).all()
    assert len(one) != len(other) or (one.items != other.items).any()


def test_the_draw_never_changes():
    """Published numbers hang on it: a change here must change the source's kind too."""
    events = Synthetic(n_users=3, n_items=10, mean_length=6, seed=1).draw()
    assert events.items.tolist() == [2, 0, 0, 0, 0, 3, 4, 4, 1, 0, 4, 4, 3, 0, 4, 7, 6, 5, 7, 1]
    assert events.times.tolist()[:6] == [6190418, 6231047, 6263955, 6365519, 6382515, 6426113]
    assert events.times.tolist()[-5:] == [7670042, 7756446, 7900059, 7936195, 8003980]


def test_sizes_lengths_times_and_titles():
    source = Synthetic(n_users=3_000, n_items=400, mean_length=15)
    events = source.draw()
    lengths = np.bincount(events.users, minlength=3_000)
    assert lengths.min() == SHORTEST
    assert abs(lengths.mean() - 15) < 1
    assert 0 <= events.items.min() <= events.items.max() < 400
    same_user = np.diff(events.users) == 0
    assert (np.diff(events.times)[same_user] > 0).all()
    assert events.times.min() >= 0


def test_popularity_has_a_head_and_a_tail():
    counts = np.sort(np.bincount(Synthetic().draw().items))[::-1]
    assert counts[:100].sum() > 0.5 * counts.sum()


def test_the_last_item_tells_more_than_popularity():
    data, _ = Preparation(k_core=1)(Synthetic().draw(), "made")
    follows = np.zeros((data.n_items, data.n_items))
    for user in range(data.n_users):
        train = data.items[data.offsets[user] :][: data.train_end[user]]
        np.add.at(follows, (train[:-1], train[1:]), 1)
    target_at = data.offsets[:-1] + data.test_at
    targets, last = data.items[target_at], data.items[target_at - 1]
    popularity = data.popularity / data.popularity.sum()

    def hits(scores: np.ndarray) -> float:
        return float(np.mean((scores >= scores[np.arange(len(targets)), targets, None]).sum(1) <= 10))

    by_popularity = hits(np.tile(popularity, (len(targets), 1)))
    by_last_item = hits(follows[last] + popularity)
    assert by_last_item > 1.5 * by_popularity


@pytest.mark.parametrize(
    "bad", [{"n_users": 0}, {"n_items": 1}, {"mean_length": 2}, {"exponent": -1}, {"follow": 2}, {"seed": -1}]
)
def test_bad_settings(tmp_path, bad):
    with pytest.raises(UserError, match=f"dataset.source.{next(iter(bad))}"):
        Dataset(Synthetic(**bad), name="made", cache_dir=str(tmp_path)).load(print)


def test_constant_length():
    events = Synthetic(n_users=7, n_items=5, mean_length=SHORTEST).draw()
    assert np.bincount(events.users).tolist() == [SHORTEST] * 7


def test_temporal_split_works_on_it():
    data, _ = Preparation(k_core=1, split="temporal")(Synthetic().draw(), "made")
    assert (data.valid_at >= 0).sum() > 100
    assert (data.test_at >= 0).sum() > 100
