"""The item graph: its scores, what texts are worth to it, and the choice of its numbers."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys_lt.data.features import tfidf
from recsys_lt.data.loader import RankBatches, users_with_target
from recsys_lt.data.neighbours import normalised, text_neighbours, transitions
from recsys_lt.errors import UserError
from recsys_lt.graphs.making import ItemMatrices, Maker, validated
from recsys_lt.graphs.scores import GraphSettings
from tests.data.small_sequences import sequences_of

N_ITEMS, THEMES = 420, 30
TUNED = ItemMatrices(GraphSettings(), None, None, tuned=60, max_length=50, mask_seen="published")


def made(seed: int = 0, n_users: int = 60):
    """Users who stay with a theme, whose items are many: few pairs of items are ever seen twice."""
    random = np.random.default_rng(seed)
    histories = [
        random.permutation(N_ITEMS // THEMES)[:8] * THEMES + random.integers(0, THEMES) for _ in range(n_users)
    ]
    lengths = np.array([len(history) for history in histories])
    data = sequences_of([list(map(int, h)) for h in histories], lengths - 2, lengths - 2, lengths - 1, N_ITEMS)
    titles = np.array([f"theme{item % THEMES} thing{item // THEMES}" for item in range(N_ITEMS)])
    return replace(data, item_data={"title": titles})


def batch_of(data, rows=50):
    return RankBatches(data, users_with_target(data, "test"), "test", 50, rows, with_seen=True)[0]


def test_scores_are_those_of_dense_products():
    data = made()
    settings = GraphSettings(kept=N_ITEMS, history=0.5, similar=0.3, from_similar=0.7, to_similar=0.4, neighbours=20)
    texts = tfidf(list(data.item_data["title"]))
    batch = batch_of(data)
    popularity = torch.from_numpy(data.popularity)
    found = Maker(data, texts)(settings).scores(batch, popularity)
    after = normalised(transitions(data, 0.6, 50, 0.5), 0.6, 0.1).toarray()
    similar = text_neighbours(texts, 20)
    shares = normalised(similar, 1, 0).toarray()
    for row, events in enumerate(batch.items.split(batch.lengths)):
        h, h_similar = np.zeros(N_ITEMS), np.zeros(N_ITEMS)
        for age, item in enumerate(reversed(events.tolist())):
            h[item] += 0.5**age
            h_similar[item] += 0.8**age
        expected = (
            h @ after + 0.3 * h_similar @ similar.toarray().T + 0.7 * h @ shares @ after + 0.4 * h @ after @ shares
        )
        without = expected == 0
        assert 0 < without.sum() < N_ITEMS
        expected[without] = data.popularity[without] * 1e-9
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-12)


def test_without_texts_it_is_transitions_alone():
    data = made()
    settings, popularity = GraphSettings(), torch.from_numpy(data.popularity)
    alone = Maker(data, None)(settings)
    assert alone.similar is None
    weightless = Maker(data, tfidf(list(data.item_data["title"])))(
        replace(settings, similar=0.0, from_similar=0.0, to_similar=0.0)
    )
    batch = batch_of(data)
    assert torch.equal(alone.scores(batch, popularity), weightless.scores(batch, popularity))


def test_an_event_s_weight_falls_with_the_events_after_it():
    data = sequences_of([[0, 1], [2, 3], [0, 2, 5, 4]], [2, 2, 2], [-1, -1, 2], [-1, -1, 3], n_items=6)
    settings = GraphSettings(row=0, column=0, backward=0, history=0.5)
    scores = Maker(data, None)(settings).scores(batch_of(data, 1), torch.zeros(6))
    # The history is 0, 2, 5: item 5 is never followed, 2 was by 3, and 0 by 1 and, in the user's own events, by 2.
    assert scores.tolist() == [[0, 0.25, 0.25, 0.5, 0, 0]]


def test_meaningful_texts_raise_accuracy_and_shuffled_ones_do_not():
    data = made()
    titles = data.item_data["title"]
    shuffled = np.random.default_rng(0).permutation(titles)
    ids, text, noise = (
        validated(Maker(data, texts)(GraphSettings()), data, 200, 50, "published").overall
        for texts in (None, tfidf(list(titles)), tfidf(list(shuffled)))
    )
    assert text > 1.3 * ids
    assert noise < 1.05 * ids


def test_numbers_are_chosen_by_validation_targets_alone(tmp_path):
    data = made()
    test_targets = data.offsets[:-1] + data.test_at
    items = data.items.copy()
    items[test_targets] = np.random.default_rng(1).integers(0, N_ITEMS, len(test_targets))
    others = replace(data, items=items)
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder, each in zip(folders, (data, others), strict=True):
        folder.mkdir()
        TUNED.make(each, {}, folder)
    one, other = (TUNED.load(folder) for folder in folders)
    assert one.settings == other.settings
    assert (folders[0] / "trials.json").read_text() == (folders[1] / "trials.json").read_text()
    trials = json.loads((folders[0] / "trials.json").read_text())
    found = [(trial.pop("valid/ndcg@10"), trial.pop("valid/nonhead/ndcg@10")) for trial in trials]
    # The record is what a ranking of the validation users gives, and the best of it was taken.
    assert trials[found.index(max(found))] == vars(one.settings)
    assert max(found) == validated(one, data, 60, 50, "published")
    assert max(found)[0] > validated(Maker(data, None)(GraphSettings()), data, 60, 50, "published")[0]


def test_what_is_read_is_what_was_made(tmp_path):
    data = made()
    matrices = replace(TUNED, tuned=0)
    matrices.make(data, {}, tmp_path)
    found = matrices.load(tmp_path)
    expected = Maker(data, tfidf(list(data.item_data["title"])))(GraphSettings())
    assert found.settings == expected.settings
    for name in ("following", "similar"):
        assert (getattr(found, name) != getattr(expected, name)).nnz == 0


def test_texts_that_are_wanted_must_be_there(tmp_path):
    data = replace(made(), item_data={})
    with pytest.raises(UserError, match="no item of small has a text"):
        replace(TUNED, tuned=0, text=True).make(data, {}, tmp_path)
    with pytest.raises(UserError, match=r"'brand'.*small lacks"):
        replace(TUNED, tuned=0, columns=("brand",)).make(data, {}, tmp_path)
    replace(TUNED, tuned=0).make(data, {}, tmp_path)
    assert TUNED.load(tmp_path).similar is None


@pytest.mark.parametrize(("key", "value"), [("kept", 0), ("decay", 1.5), ("row", -1.0), ("history", 2.0)])
def test_numbers_without_a_meaning_are_refused(key, value):
    with pytest.raises(UserError, match=f"model.graph.{key}"):
        GraphSettings(**{key: value})
