import numpy as np
import pytest

from recsys_lt.analysis.plots import bootstrap_mean, learning_curve, ndcg_by_popularity, popularity_bins

PNG = b"\x89PNG\r\n\x1a\n"


def is_whole_png(path):
    data = path.read_bytes()
    return data.startswith(PNG) and len(data) > 5000 and [path] == list(path.parent.iterdir())


@pytest.mark.parametrize("epochs", [1, 12])
def test_learning_curve(tmp_path, epochs):
    history = [
        {
            "epoch": e,
            "train/loss": 9 / (e + 1) if e else None,
            "valid/ndcg@10": 0.01 * e if e % 2 == 0 else None,
        }
        for e in range(epochs + 1)
    ]
    learning_curve(history, tmp_path / "plots" / "curve.png", "beauty, sasrec, ce")
    assert is_whole_png(tmp_path / "plots" / "curve.png")


def test_learning_curve_without_validation(tmp_path):
    learning_curve([{"epoch": 1, "train/loss": 2.0}], tmp_path / "curve.png", "beauty, sasrec, ce")
    assert is_whole_png(tmp_path / "curve.png")


@pytest.mark.parametrize("users", [1, 400])
@pytest.mark.parametrize("least", [0, 1])
def test_ndcg_by_popularity(tmp_path, users, least):
    rng = np.random.default_rng(0)
    popularity = rng.zipf(1.7, 100).clip(max=500) - 1 + least
    targets = rng.integers(0, 100, users)
    ndcg_by_popularity(rng.integers(0, 30, users), targets, popularity, tmp_path / "p.png", "beauty, sasrec, ce")
    assert is_whole_png(tmp_path / "p.png")


def test_a_failed_write_leaves_the_old_figure(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    path = tmp_path / "curve.png"
    path.write_bytes(b"old")

    def fail(self, draft, **_):
        draft.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        learning_curve([{"epoch": 1, "train/loss": 2.0}], path, "t")
    assert path.read_bytes() == b"old"
    assert [path] == list(tmp_path.iterdir())


def test_bins_part_the_users_and_keep_equals_together():
    counts = np.array([1] * 50 + list(range(2, 52)))
    bins = popularity_bins(counts)
    assert np.sum(bins, axis=0).tolist() == [1] * 100
    assert bins[0].sum() == 50
    assert 4 <= len(bins) <= 10


def test_bootstrap_interval_is_that_of_the_mean():
    values = np.random.default_rng(0).choice([0.0, 0.5, 1.0], 2000)
    mean, low, high = bootstrap_mean(values)
    error = values.std() / np.sqrt(2000)
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(mean - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.3 * error)
