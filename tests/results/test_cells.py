"""Which runs make a row, and what tells rows apart."""

import json

import numpy as np
import pytest

from recsys_lt.results.cells import cells_of
from recsys_lt.results.comparison import compare
from recsys_lt.runs.listing import find_runs
from tests.results.made import config_text, csv_rows, make_run, row_of, run


def test_mean_std_best_and_failed(tmp_path, capsys):
    for seed, value in enumerate((0.050, 0.054, 0.052)):
        make_run(tmp_path / f"{seed}", value, seed=seed, config=config_text(seed=seed))
    make_run(tmp_path / "3", 0.06, loss="sce", config=config_text(loss="sce"))
    lost = tmp_path / "4"
    lost.mkdir()
    (lost / "config.yaml").write_text(config_text(loss="bpr"))
    again = tmp_path / "5"
    again.mkdir()
    (again / "config.yaml").write_text(config_text(loss="sce", seed=1))
    (again / "wandb" / "run-1" / "files").mkdir(parents=True)
    (again / "wandb" / "run-1" / "files" / "config.yaml").write_text("x: 1")

    code, out, err = run(capsys, tmp_path, "--csv", tmp_path / "out" / "t.csv")
    assert (code, err) == (0, "")
    ce = row_of(out, "sasrec", "ce")
    assert ce[3:5] == ["0.0520", "±0.0020"]
    assert "*0.0600" in row_of(out, "sasrec", "sce")
    assert row_of(out, "sasrec", "sce")[-5:-2] == ["1", "+1", "failed"]
    assert "failed" in row_of(out, "sasrec", "bpr")
    assert "4 (seed 0)" in out
    assert "5 (seed 1)" in out
    rows = csv_rows(tmp_path / "out" / "t.csv")
    assert [row["loss"] for row in rows] == ["ce", "sce", "bpr"]
    assert float(rows[0]["ndcg@10 mean"]) == pytest.approx(0.052)
    assert float(rows[0]["ndcg@10 std"]) == pytest.approx(np.std([0.050, 0.054, 0.052], ddof=1))
    assert rows[0]["seeds"] == "0 1 2"
    assert rows[0]["tail/ndcg@10 mean"] == ""
    assert rows[2]["failed"] == "1"


def test_runs_that_start_from_the_run_of_their_seed_are_one_cell(tmp_path):
    for seed in range(2):
        for start in ("ce", "sce"):
            started = config_text(seed=seed, start_from=f"/somewhere/{start}/seed{seed}")
            make_run(tmp_path / start / str(seed), seed=seed, config=started)
    make_run(tmp_path / "other", seed=2, config=config_text(seed=2, start_from="/somewhere/ce/seed1"))
    cells = cells_of(list(find_runs(tmp_path)))
    assert sorted((cell.settings["start_from"], cell.seeds) for cell in cells) == [
        ("/somewhere/ce/seed", (0, 1)), ("/somewhere/ce/seed1", (2,)), ("/somewhere/sce/seed", (0, 1)),
    ]  # fmt: skip


def test_a_failed_run_goes_by_what_was_chosen(tmp_path, capsys):
    make_run(tmp_path / "0")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "config.yaml").write_text(
        "choices: {dataset: beauty, model: sasrec, loss: bpr, optimizer: adam}\nloss: {_target_: losses.BPR}\nseed: 4"
    )
    out = run(capsys, tmp_path)[1]
    assert "failed" in row_of(out, "sasrec", "bpr", "adam")
    assert "1 (seed 4)" in out
    assert "dataset" not in out.splitlines()[1]  # one dataset, not two


def test_an_interrupted_run_is_no_result(tmp_path, capsys):
    make_run(tmp_path / "0", 0.06, config=config_text())
    make_run(tmp_path / "1", 0.01, seed=1, config=config_text(seed=1))
    path = tmp_path / "1" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"finished": False}))
    out = run(capsys, tmp_path)[1]
    assert "0.0600" in out
    assert "0.0350" not in out
    assert "1 (seed 1)" in out


def test_settings_that_tell_cells_apart_become_columns(tmp_path, capsys):
    for job, (lr, seed) in enumerate((lr, seed) for lr in ("5e-4", "1e-3") for seed in (0, 1)):
        own = {"logger": f"{{run: {job}}}", "output": f"multirun/{tmp_path.name}/{job}"}
        make_run(tmp_path / f"{job}", 0.05, seed=seed, config=config_text(seed=seed, lr=lr, **own))
    # Another model's own learning rate is no axis of the sweep, but it has one.
    make_run(tmp_path / "10", 0.05, model="caser", config=config_text("caser", lr="0.005"))
    _, out, _ = run(capsys, tmp_path, "--csv", tmp_path / "t.csv")
    assert "lr" in out
    rows = csv_rows(tmp_path / "t.csv")
    assert [(row["model"], row["lr"], row["n"]) for row in rows] == [
        ("sasrec", "0.0005", "2"), ("sasrec", "0.001", "2"), ("caser", "0.005", "1"),
    ]  # fmt: skip
    assert "output" not in rows[0]


def test_a_key_of_a_later_version_tells_no_cells_apart(tmp_path, capsys):
    make_run(tmp_path / "a", config=config_text())
    make_run(tmp_path / "b", seed=1, config=config_text(seed=1, trainer="{novelty: true}"))
    run(capsys, tmp_path, "--csv", tmp_path / "t.csv")
    (row,) = csv_rows(tmp_path / "t.csv")
    assert (row["n"], "novelty" in row) == ("2", False)


def test_a_callback_tells_cells_apart(tmp_path, capsys):
    make_run(tmp_path / "0", config=config_text(callbacks="{ema: {_target_: mylab.EMA}}"))
    make_run(tmp_path / "1", seed=1, config=config_text(seed=1))
    run(capsys, tmp_path, "--csv", tmp_path / "t.csv")
    assert [(row["callbacks"], row["n"]) for row in csv_rows(tmp_path / "t.csv")] == [("ema", "1"), ("none", "1")]


def test_item_features_tell_cells_apart(tmp_path, capsys):
    encoder = "{encoder: {_target_: recsys_lt.data.features.TfIdf, width: 8}, mode: add}"
    make_run(tmp_path / "0", config=config_text(features=encoder))
    make_run(tmp_path / "1", config=config_text())
    run(capsys, tmp_path, "--csv", tmp_path / "t.csv")
    assert [(row["features"], row["n"]) for row in csv_rows(tmp_path / "t.csv")] == [("TfIdf", "1"), ("none", "1")]


def test_where_a_class_of_ours_lies_tells_no_cells_apart_and_which_it_is_does(tmp_path, capsys):
    for job, target in enumerate(("recsys_lt.old.Plain", "recsys_lt.new.Plain", "recsys_lt.new.Other", "mine.Plain")):
        make_run(tmp_path / f"{job}", seed=job, config=config_text(seed=job, llm=f"{{_target_: {target}}}"))
    run(capsys, tmp_path, "--csv", tmp_path / "t.csv")
    assert [(row["_target_"], row["n"]) for row in csv_rows(tmp_path / "t.csv")] == [
        ("Plain", "2"), ("Other", "1"), ("mine.Plain", "1"),
    ]  # fmt: skip


def test_models_with_their_own_settings_need_no_column(tmp_path, capsys):
    make_run(tmp_path / "a", config=config_text(lr="1e-3"))
    make_run(tmp_path / "b", model="caser", config=config_text("caser", lr="5e-3"))
    run(capsys, tmp_path, "--csv", tmp_path / "t.csv")
    assert "lr" not in csv_rows(tmp_path / "t.csv")[0]


def test_runs_of_several_folders_make_one_table(tmp_path, capsys):
    make_run(tmp_path / "one" / "a", 0.06, ranks=np.ones(200, dtype=np.int64))
    make_run(tmp_path / "two" / "b", 0.05, loss="sce", ranks=np.full(200, 3))
    lost = tmp_path / "two" / "c"
    lost.mkdir()
    (lost / "config.yaml").write_text(config_text(loss="bpr"))
    code, out, _ = run(capsys, tmp_path / "one", tmp_path / "two", tmp_path / "two" / "b", "--csv", tmp_path / "t.csv")
    assert code == 0
    assert [(row["loss"], row["n"]) for row in csv_rows(tmp_path / "t.csv")] == [
        ("ce", "1"),
        ("sce", "1"),
        ("bpr", "0"),
    ]
    assert row_of(out, "sasrec", "sce")[-1] == "<.0001"
    assert "Failed or unfinished: c (seed" in out
    code, _, err = run(capsys, tmp_path / "one", tmp_path / "nowhere")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "nowhere" in err


def test_seeds_on_different_data_have_no_mean(tmp_path, capsys):
    for seed, data in enumerate(("abc", "abc", "abd")):
        make_run(tmp_path / f"{seed}", seed=seed, data=data, config=config_text(seed=seed))
    code, _, err = run(capsys, tmp_path)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert str(tmp_path / "2") in err
    assert "other data" in err


def test_datasets_are_apart(tmp_path, capsys):
    make_run(tmp_path / "a", 0.05)
    make_run(tmp_path / "b", 0.04, loss="sce")
    make_run(tmp_path / "c", 0.02, dataset="yelp")
    make_run(tmp_path / "d", 0.03, dataset="yelp", loss="sce")
    _, out, _ = run(capsys, tmp_path)
    assert "*0.0500" in row_of(out, "beauty", "ce")
    assert "*0.0300" in row_of(out, "yelp", "sce")


def test_chosen_metrics_and_repeated_seeds(tmp_path, capsys):
    make_run(tmp_path / "a", 0.05)
    make_run(tmp_path / "b", 0.06)
    _, out, _ = run(capsys, tmp_path, "--metric", "gini@10", "--metric", "ndcg@10")
    assert "0.5000" in out
    assert "hr@10" not in out
    assert "Seed 0 occurs more than once" in out
    assert "the first run of it" in out
    _, out, _ = run(capsys, tmp_path, "--csv", tmp_path / "t.csv")
    (row,) = csv_rows(tmp_path / "t.csv")
    assert (row["n"], row["ndcg@10 mean"]) == ("1", "0.05")


def test_what_was_ranked_in_another_way_is_compared_apart(tmp_path, capsys):
    for name, loss, ndcg, users, mask in (
        ("all", "ce", 0.05, None, "published"),
        ("all_sce", "sce", 0.04, None, "published"),
        ("some", "ce", 0.08, 200, "published"),
        ("some_failed", "bpr", None, 200, "published"),
        ("unmasked", "ce", 0.09, None, "none"),
    ):
        asked = f"metrics: {{max_users: {users or 'null'}, mask_seen: {mask}}}"
        config = f"{config_text(loss=loss)}\n{asked}"
        some = None if users is None else f"{users} of 900"
        make_run(tmp_path / name, ndcg, loss=loss, config=config, ranked_users=some, mask_seen=mask)
    (tmp_path / "some_failed" / "metrics.json").unlink()
    alike = compare([tmp_path]).by_dataset
    assert {name: [cell.identity[2] for cell in cells] for name, cells in alike.items()} == {
        "beauty, all users, mask published": ["ce", "sce"],
        "beauty, 200 users, mask published": ["ce", "bpr"],
        "beauty, all users, mask none": ["ce"],
    }
    out = run(capsys, tmp_path)[1]
    assert "*0.0500" in out
    assert "*0.0900" not in out


def test_own_files_of_one_name_are_compared_apart(tmp_path):
    shop = {"users": 107, "items": 50, "interactions": 1341, "split": "leave-one-out"}
    make_run(tmp_path / "a", **shop)
    make_run(tmp_path / "b", loss="ssm", data="the same from another file", **shop)
    make_run(tmp_path / "c", loss="sce", **shop | {"interactions": 1348})
    make_run(tmp_path / "d", loss="bce", **shop | {"split": "temporal"})
    found = compare([tmp_path]).by_dataset
    assert {name: [cell.identity[2] for cell in cells] for name, cells in found.items()} == {
        "beauty, split leave-one-out, 50 items, 1,341 interactions": ["ce", "ssm"],
        "beauty, split leave-one-out, 50 items, 1,348 interactions": ["sce"],
        "beauty, split temporal, 50 items, 1,341 interactions": ["bce"],
    }


def test_no_best_is_marked_where_all_cells_have_the_same(tmp_path, capsys):
    make_run(tmp_path / "a", 0.05)
    make_run(tmp_path / "b", 0.04, loss="sce")
    out = run(capsys, tmp_path, "--metric", "ndcg@10", "gini@10")[1]
    assert "*0.0500" in out
    assert "*0.5000" not in out
    assert out.count("0.5000") == 2


def test_a_model_without_trained_parameters_has_no_loss_and_no_optimizer(tmp_path):
    make_run(tmp_path / "graph", 0.1, model="itemgraph")
    metrics = json.loads((tmp_path / "graph/metrics.json").read_text())
    (tmp_path / "graph/metrics.json").write_text(json.dumps(metrics | {"train": {"trained_parameters": 0}}))
    make_run(tmp_path / "trained", 0.2)
    graph, trained = cells_of(find_runs(tmp_path))
    assert graph.identity == ("beauty", "itemgraph", "-", "-")
    assert graph.known_parts == ("itemgraph",)
    assert trained.identity[2:] == ("ce", "adam")
