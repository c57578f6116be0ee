"""The protocols of a run side by side, against the run's own numbers and its ranking under other masks."""

import json
import shutil

import numpy as np
import pytest
import torch

from recsys_lt.cli import protocols
from recsys_lt.data.loader import RankBatches, users_with_target
from recsys_lt.metrics.ranking import gains
from recsys_lt.recommenders.recommender import Recommender
from recsys_lt.training.trained import Run


@pytest.fixture(scope="module")
def folders(tmp_path_factory, train):
    """Two seeds of a model on a log with repeated targets, and a model of popularity, whose scores tie."""
    root = tmp_path_factory.mktemp("protocols")
    (root / "sweep").mkdir()
    rows = []
    for user in range(60):
        items = [(user * 7 + n * n) % 25 for n in range(8)]
        items[-1] = items[0] if user % 3 == 0 else items[-1]
        rows += [f"u{user},i{item},{n}" for n, item in enumerate(items)]
    (root / "log.csv").write_text("user,item,timestamp\n" + "\n".join(rows) + "\n")
    data = ("dataset=file", f"dataset.path={root / 'log.csv'}", "dataset.k_core=1")
    for name, *choices in (
        ("sweep/0", "model.width=8", "seed=0"),
        ("sweep/1", "model.width=8", "seed=1"),
        ("popular", "model=pop"),
    ):
        train(root / name, *data, *choices)
    return root


def table(command, path, *arguments):
    code, out, err = command(protocols, *arguments, "--json", path)
    assert (code, err) == (0, "")
    return json.loads(path.read_text()), out


def value(card, among, mask, ties, metric="ndcg@10"):
    (row,) = (row for row in card["protocols"] if (row["among"], row["mask_seen"], row["ties"]) == (among, mask, ties))
    return row[metric]["mean"]


@pytest.mark.parametrize("name", ["sweep/0", "popular"])
def test_full_rankings_are_those_of_the_run(name, folders, command, tmp_path):
    (card,), _ = table(command, tmp_path / "card.json", folders / name)
    run = Run(folders / name)
    for metric in ("ndcg@10", "hr@10"):
        assert value(card, "all", "published", "against", metric) == pytest.approx(run.metrics["test"][metric])
    users = users_with_target(run.data, "test")
    for mask in ("published", "keep_target", "none"):
        run.model.mask_seen = mask
        with torch.inference_mode():
            run.model.begin_ranking()
            batches = RankBatches(run.data, users, "test", run.model.max_length, 512, with_seen=mask != "none")
            ranks = [run.model.rank(batch, 0).target_rank.numpy() for batch in batches]
        assert value(card, "all", mask, "against") == pytest.approx(gains("ndcg", np.concatenate(ranks), 10).mean())
    assert value(card, "all", "published", "against") < value(card, "all", "keep_target", "against")
    assert card["repeated_targets"] == pytest.approx(1 / 3)


def test_ties_of_popularity_by_a_loop(folders, command, tmp_path):
    (card,), _ = table(command, tmp_path / "card.json", folders / "popular")
    data = Run(folders / "popular").data
    found = {"against": [], "mean": [], "with": []}
    for user in range(data.n_users):
        own = data.items[data.offsets[user] : data.offsets[user + 1]].tolist()
        seen, target = set(own[:-1]), own[-1]
        rivals = [data.popularity[item] for item in range(data.n_items) if item not in seen | {target}]
        above = sum(count > data.popularity[target] for count in rivals)
        equal = sum(count == data.popularity[target] for count in rivals)
        places = np.arange(above + 1, above + equal + 2)
        for ties, some in (("against", places[-1:]), ("mean", places), ("with", places[:1])):
            found[ties].append(gains("ndcg", some, 10).mean())
    for ties, values in found.items():
        assert value(card, "all", "keep_target", ties) == pytest.approx(np.mean(values))
    assert card["tied_targets"] > 0
    assert np.mean(found["against"]) < np.mean(found["mean"]) < np.mean(found["with"])


def test_seeds_of_a_sweep_are_one_table_with_spread(folders, command, tmp_path):
    (card,), out = table(command, tmp_path / "both.json", folders / "sweep", "--markdown", tmp_path / "both.md")
    alone = [table(command, tmp_path / f"{n}.json", folders / "sweep" / str(n))[0][0] for n in range(2)]
    assert card["seeds"] == [0, 1]
    for among in ("all", 100):
        values = [value(one, among, "none", "mean") for one in alone]
        (row,) = (
            row for row in card["protocols"] if (row["among"], row["mask_seen"], row["ties"]) == (among, "none", "mean")
        )
        assert row["ndcg@10"]["values"] == values
        assert row["ndcg@10"]["std"] == pytest.approx(np.std(values, ddof=1))
    shown = f"{np.mean([value(one, 'all', 'published', 'against') for one in alone]):.4f}"
    assert f"*{shown}" in out
    assert f"**{shown} ±" in (tmp_path / "both.md").read_text()


def test_another_draw_of_random_items_is_another_number(folders, command, tmp_path):
    first = folders / "sweep" / "0"
    # A catalogue of 25 items has no more than 24 rivals: all of them are drawn, whatever the seed.
    (one,), _ = table(command, tmp_path / "a.json", first)
    (other,), _ = table(command, tmp_path / "b.json", first, "--seed", 1)
    assert one == other
    assert value(one, 100, "none", "against") == value(one, "all", "none", "against")


def test_a_model_that_only_lists_is_refused(folders, refused, monkeypatch):
    monkeypatch.setattr("recsys_lt.recommenders.sequential.SequentialRecommender.scored", Recommender.scored)
    said = refused(protocols, folders / "popular")
    assert "gives a list of items, and no score of every item" in said
    assert "popular" in said


def test_a_run_without_its_checkpoint_is_refused(folders, refused, tmp_path):
    shutil.copytree(folders / "popular", tmp_path / "run")
    (tmp_path / "run" / "best.ckpt").unlink()
    assert "best.ckpt" in refused(protocols, tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.json"
    metrics.write_text(metrics.read_text().replace('"finished": true', '"finished": false'))
    assert "no run has finished" in refused(protocols, tmp_path / "run")
