"""Which differences are tested, and how."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from recsys_lt.metrics.ranking import gains
from recsys_lt.results.significance import difference
from tests.results.made import USERS, csv_rows, grouped, make_run, row_of, run


def test_differences_are_of_all_runs_over_users_and_seeds(tmp_path, capsys):
    rng = np.random.default_rng(0)
    ranks = {("ce", seed): rng.integers(0, 14, 200) for seed in (0, 1, 2)}
    ranks |= {("bpr", seed): np.where(rng.random(200) < 0.5, 0, ranks["ce", seed]) for seed in (0, 1)}
    for (loss, seed), of_run in ranks.items():
        mean = float(gains("ndcg", of_run, 10).mean())
        make_run(tmp_path / f"{loss}{seed}", mean, loss=loss, seed=seed, ranks=of_run)
    make_run(tmp_path / "same", 0.05, loss="sce", ranks=ranks["ce", 0])
    make_run(tmp_path / "without", 0.05, loss="nce")
    code, out, _ = run(capsys, tmp_path, "--csv", tmp_path / "t.csv", "--against", "ce")
    assert code == 0
    a, b = (
        np.stack([gains("ndcg", r, 10) for (name, _), r in ranks.items() if name == loss]) for loss in ("ce", "bpr")
    )
    rows = {row["loss"]: row for row in csv_rows(tmp_path / "t.csv")}
    expected = difference(b, a)
    assert float(rows["bpr"]["p"]) == pytest.approx(expected.p)
    assert float(rows["bpr"]["difference"]) == pytest.approx(expected.value)
    means = [float(rows[loss]["ndcg@10 mean"]) for loss in ("bpr", "ce")]
    assert float(rows["bpr"]["difference"]) == pytest.approx(means[0] - means[1])  # of the same runs
    assert rows["bpr"]["over"] == "users and seeds"
    assert float(rows["bpr"]["detectable"]) == pytest.approx(expected.detectable)
    assert rows["sce"]["over"] == "users"
    assert rows["ce"]["p"] == rows["nce"]["p"] == ""
    assert row_of(out, "sasrec", "ce")[-1] == "ref"
    assert row_of(out, "sasrec", "nce")[-1] == "-"
    assert f"{expected.value:+.4f}".replace("0.", ".") in row_of(out, "sasrec", "bpr")
    said = " ".join(out.split())
    assert "in NDCG@10 from sasrec/ce/adam (ref), with its 95 % interval" in said
    size = f"{expected.detectable:.4f} (overall)"
    assert f"With these seeds, a true difference of {size} is detected with about 80 % probability, or less" in said
    assert "With two seeds p is rough" in said


def test_one_seed_says_nothing_about_methods(tmp_path, capsys):
    for name, rank in (("ce", 0), ("sce", 5)):
        make_run(tmp_path / name, 0.05, loss=name, ranks=np.random.default_rng(0).integers(rank, rank + 4, 200))
    _, out, _ = run(capsys, tmp_path, "--against", "ce")
    assert row_of(out, "sasrec", "sce")[-3:] == ["users", "only", "<.0001"]
    said = " ".join(out.split())
    assert "p says whether it differs for these trained models, and nothing about the methods" in said
    assert "speak of the methods" not in said


def test_users_of_nonhead_targets_are_tested_on_their_own(tmp_path, capsys):
    _, out, _ = run(capsys, grouped(tmp_path), "--csv", tmp_path / "t.csv")
    assert "nonhead" in out
    (tested,) = [row for row in csv_rows(tmp_path / "t.csv") if row["p"]]
    assert float(tested["p nonhead"]) < 1e-6
    assert row_of(out, "sasrec", "sce").count("ref") == 2


def test_groups_of_targets_that_are_named_are_tested(tmp_path, capsys):
    code, out, _ = run(capsys, grouped(tmp_path), "--csv", tmp_path / "t.csv", "--test-groups", "head")
    assert code == 0
    (tested,) = [row for row in csv_rows(tmp_path / "t.csv") if row["p"]]
    assert {key for key in tested if key.startswith("p ")} == {"p head"}
    assert float(tested["p head"]) < 1e-6
    assert "head: users whose target is head." in out


def test_different_targets_are_not_compared(tmp_path, capsys):
    make_run(tmp_path / "a", 0.06, ranks=np.ones(200, dtype=np.int64))
    make_run(tmp_path / "b", 0.05, loss="sce", ranks=np.ones(200, dtype=np.int64))
    other = pa.table({"user": USERS, "target": USERS, "rank": USERS, "group": USERS % 3})
    parquet.write_table(other, tmp_path / "b" / "ranks.parquet")
    code, out, _ = run(capsys, tmp_path)
    assert code == 0
    assert row_of(out, "sasrec", "sce")[-1] == "-"
    assert "no test" in out


def test_a_k_beyond_the_lists_is_not_tested(tmp_path, capsys):
    make_run(tmp_path / "a", 0.06, ranks=np.ones(200, dtype=np.int64))
    make_run(tmp_path / "b", None, loss="sce", ranks=np.zeros(200, dtype=np.int64))
    _, out, _ = run(capsys, tmp_path)
    assert row_of(out, "sasrec", "sce")[-1] == "-"


def test_the_reference_is_the_best_on_validation(tmp_path, capsys):
    for name, loss, test, valid in (("a", "ce", 0.05, 0.08), ("b", "sce", 0.06, 0.07), ("c", "bce", 0.02, 0.03)):
        make_run(tmp_path / name, test, loss=loss, valid=valid, ranks=np.full(200, 3))
    _, out, _ = run(capsys, tmp_path)
    assert row_of(out, "sasrec", "ce")[-1] == "ref"
    assert "*0.0600" in row_of(out, "sasrec", "sce")  # the highest all the same
    assert "sasrec/ce/adam (ref, best on validation)" in " ".join(out.split())
    make_run(tmp_path / "d", 0.01, loss="bpr", ranks=np.full(200, 3))  # not validated
    _, out, _ = run(capsys, tmp_path)
    assert row_of(out, "sasrec", "sce")[-1] == "ref"
    assert "sasrec/sce/adam (ref)" in " ".join(out.split())


def test_why_there_is_no_test(tmp_path, capsys):
    make_run(tmp_path / "a", 0.06, ranks=np.ones(200, dtype=np.int64))
    make_run(tmp_path / "b", 0.05, loss="sce")
    said = " ".join(run(capsys, tmp_path)[1].split())
    assert "no test against sasrec/ce/adam (ref): a run without ranks.parquet." in said
