"""What counting reaches, by loops; and the card's words and page."""

import json
from collections import defaultdict
from math import log2
from statistics import mean

import numpy as np
import pytest

from recsys_lt.errors import UserError
from recsys_lt.graphs.scores import GraphSettings
from recsys_lt.metrics.groups import ItemGroups
from recsys_lt.results.dataset_card import measures
from recsys_lt.results.dataset_card.baselines import baselines
from recsys_lt.results.dataset_card.card import measured, page, sections
from tests.data.small_sequences import sequences_of, training
from tests.results.dataset_card.test_measures import DATA, USERS, before_the_target, target


def gain(metric, rank):
    return 0.0 if rank > 10 else 1.0 if metric == "hr" else 1 / log2(1 + rank)


def rank(scores, user, mask):
    seen = set(before_the_target(user))
    if mask == "published" and target(user) in seen:
        return DATA.n_items
    hidden = set() if mask == "none" else seen - {target(user)}
    least = scores[target(user)] * (1 - 1e-6)
    return sum(score >= least for item, score in enumerate(scores) if item not in hidden)


def graph_scores(user, events):
    """Transitions with decay and both directions, normalised by rows and columns; popularity where nothing follows."""
    s = GraphSettings()
    counts = defaultdict(float)
    for each in range(DATA.n_users):
        own = training(DATA, each)
        for i, first in enumerate(own):
            for j in range(i + 1, len(own)):
                if first != own[j]:
                    counts[first, own[j]] += s.decay ** (j - i - 1)
                    counts[own[j], first] += s.backward * s.decay ** (j - i - 1)
    rows, columns = defaultdict(float), defaultdict(float)
    for (i, j), count in counts.items():
        rows[i] += count
        columns[j] += count
    scores = [0.0] * DATA.n_items
    for age, item in enumerate(reversed(before_the_target(user)[-events:])):
        for (i, j), count in counts.items():
            if i == item:
                scores[j] += s.history**age * count / rows[i] ** s.row / columns[j] ** s.column
    return [score or s.popularity * DATA.popularity[item] for item, score in enumerate(scores)]


@pytest.mark.parametrize("mask", ["published", "keep_target", "none"])
def test_what_counting_reaches(mask):
    found = baselines(DATA, USERS, None, mask)
    assert [(row["scorer"], row["events"], row["text"]) for row in found] == [
        ("popularity", None, False),
        ("item graph", 1, False),
        ("item graph", 50, False),
    ]
    popular = {user: DATA.popularity.tolist() for user in USERS}
    graphs = [{user: graph_scores(user, events) for user in USERS} for events in (1, 50)]
    for row, scores in zip(found, (popular, *graphs), strict=True):
        for metric in ("ndcg", "hr"):
            assert row[f"{metric}@10"] == pytest.approx(
                mean(gain(metric, rank(scores[user], user, mask)) for user in USERS)
            )
    assert len({row["ndcg@10"] for row in found}) == 3


def test_texts_add_two_rows_with_other_numbers():
    found = baselines(DATA, USERS, measures.texts(DATA), "none")
    assert [(row["events"], row["text"]) for row in found[3:]] == [(1, True), (50, True)]
    assert found[4]["ndcg@10"] != found[2]["ndcg@10"]


def test_every_number_is_in_the_words_and_on_the_page():
    numbers = measured(DATA, ItemGroups(DATA.popularity), "published")
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers
    said = {name: value for section in sections(numbers) for name, value in section.facts}
    near = numbers["next_item"]
    assert said["neighbour of the last item"] == f"{100 * near['neighbour_of_last']:.1f}\N{NO-BREAK SPACE}%"
    assert said["sparsity"] == f"{100 * numbers['counts']['sparsity']:.2f} %"
    html = page(numbers)
    for section in sections(numbers):
        for _, value in section.facts:
            assert value.replace("&", "&amp;") in html
    assert html.count("<svg") == 4
    for row in numbers["baselines"]:
        assert f"{row['ndcg@10']:.4f}" in html


def test_titles_are_no_markup():
    data = sequences_of([[0, 1, 2, 0]] * 6, [2] * 6, [2] * 6, [3] * 6)
    object.__setattr__(data, "item_data", {"title": np.array(["<b>x</b>", "<B>x</b> 1", "y"])})
    html = page(measured(data, ItemGroups(data.popularity), "none"))
    assert "&lt;b&gt;x&lt;/b&gt; | &lt;B&gt;x&lt;/b&gt; 1" in html
    assert "<b>x" not in html


def test_data_without_targets_are_refused():
    data = sequences_of([[0, 1]] * 3, [2] * 3)
    with pytest.raises(UserError, match="no user has a test target"):
        measured(data, ItemGroups(data.popularity), "published")


def test_data_without_text_times_or_neighbours():
    # One training event each: nobody's item follows another.
    data = sequences_of([[0, 1, 2], [1, 2, 0]], [1, 1], [1, 1], [2, 2])
    numbers = measured(data, ItemGroups(data.popularity), "none")
    assert numbers["text"] is None
    assert numbers["next_item"]["median_degree"] is None
    assert numbers["next_item"]["within_two_hops"] == 0
    assert page(numbers)
