import numpy as np
import pytest

from recsys_lt.errors import UserError
from recsys_lt.metrics.groups import HEAD, MID, TAIL
from recsys_lt.training.settings import GroupSettings
from tests.data.small_sequences import sequences_of


@pytest.mark.parametrize("shares", [[0.5, 0.6, 0.2], [0.5, 0.5], [0.2, 0.8, 0.0], [1.2, -0.4, 0.2]])
def test_what_is_no_shares(shares):
    with pytest.raises(UserError, match=r"metrics\.groups\.shares"):
        GroupSettings(shares)


@pytest.mark.parametrize("window", ["90", 90, "0d", "d", "-5d", "1.5w", "90days", "90D", ""])
def test_what_is_no_window(window):
    with pytest.raises(UserError, match=r"metrics\.groups\.window.*90d"):
        GroupSettings(window=window)


@pytest.mark.parametrize(("window", "counted"), [("1h", [1, 0, 0]), ("2d", [1, 1, 0]), ("1w", [1, 1, 2])])
def test_a_window_counts_what_happened_in_it(window, counted):
    data = sequences_of([[2, 2, 1, 0]], [4])
    object.__setattr__(data, "times", np.array([1.0, 2.0, 6.0, 7.0]) * 86_400)
    groups = GroupSettings([0.4, 0.3, 0.3], window).of(data)
    assert groups.popularity.tolist() == counted
    assert groups.words == f"training interactions of the last {window} ({sum(counted)} of 4)"
    assert groups.order.tolist() == [0, 1, 2] if window == "2d" else [2, 0, 1] if window == "1w" else [0, 2, 1]
    if window == "1h":  # what had none of late is tail, wherever the shares would put it
        assert groups.of.tolist() == [HEAD, TAIL, TAIL]
    if window == "1w":
        assert groups.of.tolist() == [MID, TAIL, HEAD]


def test_without_a_window_all_training_interactions_count():
    groups = GroupSettings().of(sequences_of([[2, 2, 1, 0]], [3]))
    assert groups.popularity.tolist() == [0, 1, 2]
    assert groups.words == "training interactions"


def test_a_window_needs_times():
    with pytest.raises(UserError, match=r"metrics\.groups\.window: small does not say when.*timestamps"):
        GroupSettings(window="90d").of(sequences_of([[0, 1]], [2]))
