"""Every number of a dataset card by plain loops over a toy log."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from statistics import mean, median

import numpy as np
import pytest

from recsys_lt.data.features import tfidf
from recsys_lt.data.loader import users_with_target
from recsys_lt.data.streams import key_of
from recsys_lt.metrics.groups import ItemGroups
from recsys_lt.results.dataset_card import measures
from tests.data.small_sequences import history, sequences_of, training

WORDS = ("red", "blue", "old", "new", "lamp", "chair", "table")


def log(users=40, items=45):
    """A log with repeats, items never trained, users without targets, and times of which many are equal."""
    histories = [[key_of(user, n) % items for n in range(1 + key_of(user) % 9)] for user in range(users)]
    for own in histories[:6]:
        own[-1] = own[0]  # a repeat, of the last item too where there are two
    histories[7].append(items)  # a target that is never trained
    split = [len(own) >= 3 for own in histories]
    train_end = [len(own) - 2 if cut else len(own) for own, cut in zip(histories, split, strict=True)]
    valid_at = [len(own) - 2 if cut else -1 for own, cut in zip(histories, split, strict=True)]
    test_at = [len(own) - 1 if cut else -1 for own, cut in zip(histories, split, strict=True)]
    data = sequences_of(histories, train_end, valid_at, test_at, n_items=items + 3)
    titles = [f"{WORDS[item % 7]} {WORDS[item % 5]} {item % 3}" if item % 4 else "" for item in range(items + 3)]
    times = np.concatenate(
        [np.sort([key_of(user, n, 1) % 4 for n in range(len(own))]) for user, own in enumerate(histories)]
    )
    return replace(data, times=times.astype(np.float64), item_data={"title": np.array(titles)})


DATA = log()
USERS = users_with_target(DATA, "test")


def before_the_target(user):
    return history(DATA, user)[: DATA.test_at[user]]


def target(user):
    return history(DATA, user)[DATA.test_at[user]]


def links():
    return {(a, b) for user in range(DATA.n_users) for a, b in pairwise(training(DATA, user)) if a != b}


def neighbours():
    near = {item: set() for item in range(DATA.n_items)}
    for a, b in links():
        near[a].add(b)
        near[b].add(a)
    return near


def test_counts():
    found = measures.counts(DATA)
    events = [history(DATA, user) for user in range(DATA.n_users)]
    times = np.split(DATA.times, DATA.offsets[1:-1])
    pairs = [a == b for own in times for a, b in pairwise(own.tolist())]
    assert found == {
        "users": 40,
        "items": 48,
        "events": sum(map(len, events)),
        "sparsity": pytest.approx(1 - sum(len(set(own)) for own in events) / (40 * 48)),
        "training_events": sum(len(training(DATA, user)) for user in range(DATA.n_users)),
        "validation_targets": len(USERS),
        "test_targets": len(USERS),
        "first_time": min(map(min, times)),
        "last_time": max(map(max, times)),
        "equal_times": pytest.approx(mean(pairs)),
    }
    assert 0 < mean(pairs) < 1
    assert measures.counts(replace(DATA, times=None))["equal_times"] is None


def test_history_lengths():
    found = measures.history_lengths(DATA)
    lengths = [len(history(DATA, user)) for user in range(DATA.n_users)]
    assert (found["mean"], found["median"]) == (pytest.approx(mean(lengths)), median(lengths))
    assert (found["least"], found["most"]) == (min(lengths), max(lengths))
    assert sum(each["users"] for each in found["bins"]) == DATA.n_users
    for each in found["bins"]:
        assert each["users"] == sum(each["shortest"] <= n <= each["longest"] for n in lengths)


def test_popularity():
    groups = ItemGroups(DATA.popularity)
    found = measures.popularity(DATA, groups)
    trained = Counter(item for user in range(DATA.n_users) for item in training(DATA, user))
    of_items = [trained[item] for item in range(DATA.n_items)]
    ordered = sorted(of_items, reverse=True)
    targets = [target(user) for user in USERS]
    assert (found["mean"], found["most"]) == (pytest.approx(mean(of_items)), max(of_items))
    pairs = sum(abs(a - b) for a in of_items for b in of_items)
    assert found["gini"] == pytest.approx(pairs / (2 * len(of_items) * sum(of_items)))
    assert found["untrained_items"] == of_items.count(0) > 0
    assert found["share_of_top_1_percent"] == pytest.approx(ordered[0] / sum(of_items))
    assert all(ordered[point["place"] - 1] == point["interactions"] for point in found["curve"])
    assert {found["curve"][0]["place"], found["curve"][-1]["place"]} == {1, DATA.n_items}
    for number, name in enumerate(("head", "mid", "tail")):
        items = [item for item in range(DATA.n_items) if groups.of[item] == number]
        assert found["groups"][name] == {
            "items": len(items),
            "least": min(of_items[item] for item in items),
            "most": max(of_items[item] for item in items),
            "interactions": pytest.approx(sum(of_items[item] for item in items) / sum(of_items)),
            "targets": pytest.approx(sum(item in items for item in targets) / len(targets)),
        }
    assert [part["items"] for part in found["tenths"]] == [5, 5, 5, 5, 5, 5, 5, 5, 4, 4]
    assert sum(part["targets"] for part in found["tenths"]) == pytest.approx(1)
    assert found["tenths"][0]["interactions"] == pytest.approx(sum(ordered[:5]) / sum(of_items))


def test_repeats():
    found = measures.repeats(DATA)
    again = [item in own[:n] for own in (history(DATA, u) for u in range(DATA.n_users)) for n, item in enumerate(own)]
    trained = {item for user in range(DATA.n_users) for item in training(DATA, user)}
    assert found == {
        "events": pytest.approx(mean(again)),
        "targets": pytest.approx(mean(target(user) in before_the_target(user) for user in USERS)),
        "targets_never_trained": pytest.approx(mean(target(user) not in trained for user in USERS)),
    }
    assert min(found.values()) > 0


def test_consecutive_training_events():
    found = list(zip(*(part.tolist() for part in measures.consecutive(DATA)), strict=True))
    assert found == [(a, b) for user in range(DATA.n_users) for a, b in pairwise(training(DATA, user)) if a != b]


@pytest.mark.parametrize("rows", [1, 256])
def test_neighbourhood(rows, monkeypatch):
    monkeypatch.setattr(measures, "_ROWS", rows)
    found = measures.neighbourhood(DATA, USERS)
    near, follows = neighbours(), links()
    two_hops = {}
    for item, close in near.items():
        two_hops[item] = (close | {other for one in close for other in near[one]}) - {item}
    last = {user: before_the_target(user)[-1] for user in USERS}
    assert found == {
        "last_again": pytest.approx(mean(last[user] == target(user) for user in USERS)),
        "successor_of_last": pytest.approx(mean((last[user], target(user)) in follows for user in USERS)),
        "neighbour_of_last": pytest.approx(mean(target(user) in near[last[user]] for user in USERS)),
        "within_two_hops": pytest.approx(mean(target(user) in two_hops[last[user]] for user in USERS)),
        "median_two_hops": median(len(two_hops[last[user]]) for user in USERS),
        "neighbour_of_any": pytest.approx(
            mean(any(target(user) in near[item] for item in before_the_target(user)) for user in USERS)
        ),
        "median_degree": median(len(close) for close in near.values() if close),
        "edges": len({frozenset(link) for link in follows}),
    }
    assert 0 < found["successor_of_last"] < found["neighbour_of_last"] < found["within_two_hops"] < 1


def test_text_similarity():
    vectors = tfidf(DATA.titles.tolist())
    found = measures.text_similarity(DATA, vectors)
    dense = vectors.toarray().astype(np.float64)
    known = {item for item in range(DATA.n_items) if DATA.titles[item]}
    close = [dense[a] @ dense[b] for a, b in zip(*measures.consecutive(DATA), strict=True) if {a, b} <= known]
    events = [item for user in range(DATA.n_users) for item in training(DATA, user) if item in known]
    random = [dense[a] @ dense[b] for a in events for b in events if a != b]
    assert found["consecutive"] == pytest.approx(mean(close), rel=1e-5)
    assert found["random"] == pytest.approx(mean(random), rel=1e-5)
    assert (found["pairs"], found["items_with_text"]) == (len(close), len(known))
    assert len(known) < DATA.n_items


def test_without_texts_nothing_is_compared():
    assert measures.texts(replace(DATA, item_data={})) is None
    assert measures.texts(replace(DATA, item_data={"title": np.array([""] * DATA.n_items)})) is None
    assert measures.texts(DATA).shape[0] == DATA.n_items


def test_alike_titles():
    titles = [
        "Red Lamp",
        "red  LAMP",
        "Lamp, red (2)",
        "Red lamp 3",
        "Blue chair",
        "blue chair",
        "Chair",
        "",
        "",
        "300",
    ]
    assert measures.alike_titles(titles) == {
        "items_with_title": 8,
        "same": 4,
        "alike": 6,
        "examples": [{"items": 4, "titles": ["Red Lamp", "red  LAMP", "Lamp, red (2)"]}],
    }
