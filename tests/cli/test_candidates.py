"""Candidate lists and the models' ranks in them, against plain loops."""

import json
import shutil

import numpy as np
import pytest
import torch

from recsys_lt.cli import candidates
from recsys_lt.data.loader import RankBatches, users_with_target
from recsys_lt.recommenders.recommender import Recommender
from recsys_lt.recommenders.shortlists import shortlists
from recsys_lt.training.trained import Run
from tests.cli.conftest import SIZES


@pytest.fixture(scope="module")
def folders(tmp_path_factory, train):
    root = tmp_path_factory.mktemp("candidates")
    for seed in range(2):
        (root / "sasrec").mkdir(exist_ok=True)
        train(root / "sasrec" / str(seed), *SIZES, "model.width=8", f"seed={seed}")
    train(root / "popular", *SIZES, "model=pop")
    return root


def lines(path):
    return [line.split("\t") for line in path.read_text().splitlines()]


def test_lists_hold_the_target_once_and_unseen_items(folders, command, tmp_path):
    """The same for every model; the ranks are those of a loop over the scores of the whole catalogue."""
    lists, ranks = tmp_path / "lists.tsv", tmp_path / "ranks.tsv"
    run = Run(folders / "sasrec" / "0")
    data, model = run.data, run.model
    arguments = ("--others", 7, "--lists", lists, "--ranks", ranks)
    code, out, err = command(candidates, folders / "sasrec" / "0", folders / "popular", *arguments)
    assert (code, err) == (0, "")
    assert "of 8" in out
    users = users_with_target(data, "test")
    header, *rows = lines(lists)
    assert header[:2] == ["user", "position"]
    assert len(rows) == len(users)
    found = {(cell, user): (int(rank), first) for cell, _, user, rank, first, _ in lines(ranks)[1:]}
    (cell,) = {cell for cell, _ in found if cell.startswith("sasrec")}
    assert len({cell for cell, _ in found}) == 2
    model.begin_ranking()
    batch = RankBatches(data, users, "test", model.max_length, len(users), with_seen=True)[0]
    states, scorer = model.scored(batch)
    scores = scorer.block(states, 0, data.n_items).detach()
    places = []
    for row, (name, position, *items) in enumerate(rows):
        user = users[row]
        assert name == str(data.user_ids[user])
        numbers = data.item_index.get_indexer(items)
        target = int(data.targets(users[row : row + 1], "test")[0])
        seen = set(data.items[data.offsets[user] : data.offsets[user] + data.test_at[user]].tolist())
        assert len(set(items)) == 8
        assert not (set(numbers) - {target}) & seen
        assert numbers[int(position) - 1] == target
        own = scores[row, torch.from_numpy(numbers)]
        expected = int((own >= own[int(position) - 1]).sum())
        assert found[cell, name] == (expected, items[int(own.argmax())])
        places.append(int(position))
    assert set(places) == set(range(1, 9))


def test_a_users_list_depends_on_seed_and_user_alone(folders):
    run = Run(folders / "sasrec" / "0")
    users = users_with_target(run.data, "test")
    whole = shortlists(run.model, run.data, users, 9, 0, "test", 64)
    part = shortlists(run.model, run.data, users[5:9], 9, 0, "test", 1)
    other = shortlists(run.model, run.data, users, 9, 1, "test", 64)
    assert whole is not None
    assert part is not None
    assert other is not None
    for name in ("items", "places", "ranks", "first"):
        np.testing.assert_array_equal(getattr(whole, name)[5:9], getattr(part, name))
    assert (whole.items != other.items).any()
    assert (whole.places != other.places).any()
    np.testing.assert_array_equal(whole.targets, run.data.targets(users, "test"))


def test_seeds_are_one_row_and_hr_is_tested(folders, command, tmp_path):
    numbers, table = tmp_path / "numbers.json", tmp_path / "table.md"
    more = ("--others", 9, "--against", "pop", "--json", numbers, "--markdown", table)
    code, out, err = command(candidates, folders, *more)
    assert (code, err) == (0, "")
    assert "no full ranking" in out
    assert "HR@1" in out
    found = json.loads(numbers.read_text())
    assert [(each["cell"].split("/")[0], each["seed"]) for each in found].count(("sasrec", 1)) == 1
    assert len(found) == 3
    assert all("hr@1_of_10" in each and "ndcg@10" not in each for each in found)
    values = [each["hr@1_of_10"] for each in found if each["cell"].startswith("sasrec")]
    assert f"{np.mean(values):.4f}" in table.read_text()
    code, _, _ = command(candidates, folders, "--others", 9, "--stage", "valid", "--users", 10, "--json", numbers)
    assert code == 0
    assert {each["users"] for each in json.loads(numbers.read_text())} == {10}


def test_what_cannot_be_ranked_is_refused(folders, refused, monkeypatch, tmp_path):
    assert "unseen items beside the target" in refused(candidates, folders / "popular", "--others", 59)
    assert "at least 1" in refused(candidates, folders / "popular", "--others", 0)
    assert "no finished cell is called 'gru4rec'" in refused(
        candidates, folders / "popular", "--others", 5, "--against", "gru4rec"
    )
    assert "holds no metrics.json" in refused(candidates, tmp_path)
    shutil.copytree(folders / "popular", tmp_path / "run")
    (tmp_path / "run" / "best.ckpt").unlink()
    assert "best.ckpt" in refused(candidates, tmp_path / "run", "--others", 5)
    # A run of several that cannot be ranked is refused after one user of those before it.
    ranked = []
    monkeypatch.setattr(
        "recsys_lt.recommenders.shortlists.shortlists",
        lambda module, data, users, *rest: ranked.append(len(users)) or shortlists(module, data, users, *rest),
    )
    shutil.copytree(folders / "sasrec" / "0", tmp_path / "unfinished")
    (tmp_path / "unfinished" / "best.ckpt").unlink()
    assert "best.ckpt" in refused(candidates, folders / "popular", tmp_path / "unfinished", "--others", 5)
    assert ranked == [1]
    shutil.copytree(folders / "popular", tmp_path / "other")
    metrics = tmp_path / "other" / "metrics.json"
    metrics.write_text(metrics.read_text().replace('"synthetic"', '"another"'))
    assert candidates._tsv([["a\tb", "c\nd", "e"]]) == '"a\tb"\t"c\nd"\te\n'
    assert "synthetic, another" in refused(candidates, folders / "popular", tmp_path / "other")
    monkeypatch.setattr("recsys_lt.recommenders.sequential.SequentialRecommender.scored", Recommender.scored)
    ranked.clear()
    assert "no score of an item" in refused(candidates, folders / "popular", folders / "sasrec" / "0", "--others", 5)
    assert ranked == [1]
