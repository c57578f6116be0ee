import numpy as np
import pytest

from recsys_lt.errors import UserError
from recsys_lt.metrics.choice import Quality, check_keep, chosen

TRIALS = [
    ("whole", Quality(1.0, 0.2)),
    ("equal", Quality(1.0, 0.3)),
    ("near", Quality(0.9, 0.5)),
    ("far", Quality(0.5, 1)),
]


def test_quality_is_ndcg_of_all_and_of_rare_targets():
    found = Quality.of(np.array([1, 11, 3, 0]), np.array([False, False, True, True]))
    assert found == pytest.approx((1.5 / 4, 0.5 / 2))
    assert Quality.of(np.array([1]), np.array([False])).nonhead == 0


@pytest.mark.parametrize(("keep", "name"), [(1.0, "equal"), (0.95, "equal"), (0.9, "near"), (0.4, "far")])
def test_the_best_rare_one_that_keeps_the_whole(keep, name):
    assert chosen(TRIALS, keep)[0] == name


def test_a_top_of_before_raises_the_floor_but_never_leaves_nothing():
    assert chosen(TRIALS, 0.9, top=1.2)[0] == "equal"


@pytest.mark.parametrize("keep", [0.0, -1.0, 1.01, float("nan")])
def test_a_share_outside_its_range_is_refused(keep):
    with pytest.raises(UserError, match=r"model\.keep"):
        check_keep(keep)
