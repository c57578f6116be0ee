"""Which differences are tested, and how."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy import stats

from recsys_lt.metrics.ranking import gains
from tests.table.made import USERS, csv_rows, grouped, make_run, row_of, run


@pytest.mark.parametrize(("test", "function"), [("t", stats.ttest_rel), ("wilcoxon", stats.wilcoxon)])
def test_significance_is_of_users_over_common_seeds(tmp_path, capsys, test, function):
    rng = np.random.default_rng(0)
    good = {seed: rng.integers(0, 14, 200) for seed in (0, 1, 2)}
    bad = {seed: np.where(rng.random(200) < 0.2, 0, good[seed]) for seed in (0, 1)}
    for seed, ranks in good.items():
        make_run(tmp_path / f"g{seed}", 0.06, seed=seed, ranks=ranks)
    for seed, ranks in bad.items():
        make_run(tmp_path / f"b{seed}", 0.05, loss="bpr", seed=seed, ranks=ranks)
    make_run(tmp_path / "same", 0.05, loss="sce", ranks=good[0])
    make_run(tmp_path / "without", 0.05, loss="nce")
    code, out, _ = run(capsys, tmp_path, "--csv", tmp_path / "t.csv", "--test", test)
    assert code == 0
    a, b = (np.mean([gains("ndcg", ranks[seed], 10) for seed in (0, 1)], axis=0) for ranks in (good, bad))
    p = {row["loss"]: row["p"] for row in csv_rows(tmp_path / "t.csv")}
    assert float(p["bpr"]) == pytest.approx(2 * function(a, b).pvalue)  # Holm's: the smaller of two
    assert p["ce"] == p["nce"] == ""
    assert float(p["sce"]) == 1.0
    assert row_of(out, "sasrec", "ce")[-1] == "ref"
    assert row_of(out, "sasrec", "nce")[-1] == "-"
    assert "NDCG@10" in out
    assert "sasrec/ce/adam" in out

    _, out, _ = run(capsys, tmp_path, "--against", "bpr")
    assert row_of(out, "sasrec", "bpr")[-1] == "ref"


def test_users_of_nonhead_targets_are_tested_on_their_own(tmp_path, capsys):
    _, out, _ = run(capsys, grouped(tmp_path), "--csv", tmp_path / "t.csv")
    assert "nonhead" in out
    (tested,) = [row for row in csv_rows(tmp_path / "t.csv") if row["p"]]
    assert float(tested["p nonhead"]) == pytest.approx(1e-4)  # no flip in 9,999 comes near
    assert row_of(out, "sasrec", "sce").count("ref") == 2


def test_groups_of_targets_that_are_named_are_tested(tmp_path, capsys):
    code, out, _ = run(capsys, grouped(tmp_path), "--csv", tmp_path / "t.csv", "--test-groups", "head")
    assert code == 0
    (tested,) = [row for row in csv_rows(tmp_path / "t.csv") if row["p"]]
    assert {key for key in tested if key.startswith("p ")} == {"p head"}
    assert float(tested["p head"]) == pytest.approx(1e-4)
    assert "head: users whose target is head." in out
    assert "never below 0.0001" in out


def test_different_targets_are_not_compared(tmp_path, capsys):
    make_run(tmp_path / "a", 0.06, ranks=np.ones(200, dtype=np.int64))
    make_run(tmp_path / "b", 0.05, loss="sce", ranks=np.ones(200, dtype=np.int64))
    other = pa.table({"user": USERS, "target": USERS, "rank": USERS})
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
    make_run(tmp_path / "b", 0.05, loss="sce", ranks=np.ones(200, dtype=np.int64), seed=1)
    assert "no test against sasrec/ce/adam (ref): no seed in common." in " ".join(run(capsys, tmp_path)[1].split())
    make_run(tmp_path / "c", 0.04, loss="bce")
    said = " ".join(run(capsys, tmp_path)[1].split())
    assert "no test against sasrec/ce/adam (ref): no ranks.parquet, no seed in common." in said
