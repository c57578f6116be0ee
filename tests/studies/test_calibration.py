"""The page on what a difference may say, from made runs."""

import numpy as np
import pytest

from studies.calibration import calibration
from tests.results.made import USERS, make_run


def make_cell(folder, seeds, hits=0.3, **more):
    random = np.random.default_rng(0)
    for seed in range(seeds):
        ranks = np.where(random.random(len(USERS)) < hits, 1, 0)
        make_run(folder / f"{seed}", float(ranks.mean()), seed=seed, ranks=ranks, **more)


def test_splits_are_every_pair_of_disjoint_sets_once():
    assert list(calibration.splits(3, 1, 1)) == [([0], [1]), ([0], [2]), ([1], [2])]
    assert len(list(calibration.splits(5, 2, 2))) == 15
    assert len(list(calibration.splits(5, 2, 3))) == 10


def test_rejections_are_counted_over_splits_of_a_cell():
    users = np.random.default_rng(0).random((1, 50))
    apart = np.repeat(users, 4, axis=0) + np.array([[0], [0.001], [5], [5.001]])
    row = calibration.rejections([{"": apart, "nonhead": np.repeat(users, 4, axis=0)}], 2, 2)
    assert row == ["2 against 2", "1", "3", "33.3%", "0.0%"]  # the two low ones against the two high ones


def test_a_test_that_knows_the_variances_bounds_the_power():
    of = calibration.Kind(mean=1.0, seeds=0.0004, residual=0.0002, methods=0.0)
    assert calibration.best_power(of, 5, 0.0) == pytest.approx(0.05)
    found = [calibration.power(of, n, 0.04, 200) for n in (3, 10)]
    best = [calibration.best_power(of, n, 0.04) for n in (3, 10)]
    assert found[0] < best[0] + 0.07
    assert 0.9 < found[1] <= 1


def test_the_page_says_what_was_measured(tmp_path):
    make_cell(tmp_path / "runs" / "ce", 5)
    make_cell(tmp_path / "runs" / "sce", 3, loss="sce")
    out = tmp_path / "docs" / "statistics.md"
    assert calibration.main(["--runs", str(tmp_path / "runs"), "--out", str(out), "--times", "20"]) == 0
    text = out.read_text()
    assert "13 pairs: a test over users alone rejects" in text
    assert "| 2 against 3 | 1 | 10 |" in text
    assert "| beauty | all | 5 |" in text
    assert "ml-100k" not in text  # nothing of it is kept there
    assert (tmp_path / "docs" / "statistics" / "power.png").is_file()
