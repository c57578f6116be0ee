from dataclasses import replace

import numpy as np
import pytest
from small_sequences import history, sequences_of

from recsys_lt.data.loader import RankBatches
from recsys_lt.errors import UserError

DATA = sequences_of([[0, 1, 2], [3, 0]], [2, 2], [-1, -1], [2, -1])


def test_the_item_fingerprint_is_of_the_ids_in_order():
    same = replace(DATA, items=DATA.items[::-1], user_ids=DATA.user_ids[::-1], fingerprint="other")
    assert same.item_fingerprint == DATA.item_fingerprint
    wider = replace(DATA, item_ids=DATA.item_ids.astype("<U99"))
    assert wider.item_fingerprint == DATA.item_fingerprint
    for ids in (DATA.item_ids[::-1], np.array(["i0", "i1", "i2", "x"]), np.array(["i", "0i1", "i2", "i3"])):
        assert replace(DATA, item_ids=ids).item_fingerprint != DATA.item_fingerprint


def test_histories_of_other_users_over_the_same_items():
    made, unknown = DATA.of_histories({"new": ["i3", "gone", "i1", "i3"], "u0": ["i2"]})
    assert unknown == 1
    assert [history(made, user) for user in (0, 1)] == [[3, 1, 3], [2]]
    assert made.items.dtype == DATA.items.dtype
    assert made.user_ids.tolist() == ["new", "u0"]
    assert made.item_fingerprint == DATA.item_fingerprint
    assert made.fingerprint not in (DATA.fingerprint, DATA.of_histories({"new": ["i3"]})[0].fingerprint)
    assert made.popularity.tolist() == DATA.popularity.tolist() == [2, 1, 0, 1]
    batch = RankBatches(made, np.arange(2), None, 2, 2, with_seen=True)[0]
    assert batch.items.tolist() == [1, 3, 2]
    assert batch.seen.items.tolist() == [1, 3, 2]


@pytest.mark.parametrize("histories", [{}, {"a": ["i1"], "b": ["gone"]}, {"b": []}])
def test_a_history_without_a_known_item_is_refused(histories):
    with pytest.raises(UserError, match=r"histories: (no event of user b is of a known item|there are no histories)"):
        DATA.of_histories(histories)
