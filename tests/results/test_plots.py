import itertools
from contextlib import contextmanager

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from recsys_lt.errors import UserError
from recsys_lt.metrics.groups import ItemGroups, popularity_groups
from recsys_lt.metrics.long_tail import deciles, histories
from recsys_lt.results import tradeoff as tradeoff_plot
from recsys_lt.results.plots.history_length import ndcg_by_history_length
from recsys_lt.results.plots.learning_curve import learning_curve
from recsys_lt.results.plots.long_tail import ndcg_along_the_tail
from recsys_lt.results.plots.ndcg_by_popularity import ndcg_by_popularity

PNG = b"\x89PNG\r\n\x1a\n"


def is_whole_png(path):
    data = path.read_bytes()
    return data.startswith(PNG) and len(data) > 5000 and [path] == list(path.parent.iterdir())


def groups_of(popularity):
    return ItemGroups(popularity, popularity_groups(popularity))


@pytest.mark.parametrize("epochs", [1, 12])
@pytest.mark.parametrize("groups", [(), ("head/", "nonhead/"), ("nonhead/",)])
def test_learning_curve(tmp_path, epochs, groups):
    history = [
        {
            "epoch": e,
            "train/loss": 9 / (e + 1) if e else None,
            **{f"valid/{group}ndcg@10": 0.01 * e if e % 2 == 0 else None for group in ("", *groups)},
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
    ndcg_by_popularity(
        rng.integers(0, 30, users), targets, groups_of(popularity), tmp_path / "p.png", "beauty, sasrec, ce"
    )
    assert is_whole_png(tmp_path / "p.png")


@contextmanager
def watched_texts(monkeypatch):
    """What is written into a figure that is saved meanwhile."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    said = []
    saved = Figure.savefig

    def watch(self, *args, **options):
        said.extend(text.get_text() for text in self.findobj(Text))
        saved(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Figure, "savefig", watch)
        yield said


@pytest.mark.parametrize("users", [1, 400])
@pytest.mark.parametrize("n_items", [3, 100])
@pytest.mark.parametrize("counted", [True, False])
def test_the_long_tail(tmp_path, monkeypatch, users, n_items, counted):
    """Few users, fewer items than parts, and a window in which nothing happened, too."""
    rng = np.random.default_rng(0)
    groups = groups_of(rng.zipf(1.7, n_items).clip(max=500) * counted)
    ranks, targets = rng.integers(0, 30, users), rng.integers(0, n_items, users)
    exposed = rng.integers(0, 40, n_items) * counted
    test = {"ndcg@10": 0.1, "head/ndcg@10": 0.25, "tail/ndcg@10": None, "arp@10": 62.4, "gini@10": 0.5}
    with watched_texts(monkeypatch) as texts:
        ndcg_along_the_tail(deciles(ranks, targets, exposed, groups), groups, test, tmp_path / "a" / "t.png", "title")
    assert any("ARP 62.4, APLT -, coverage -, Gini 0.5000" in text for text in texts)
    if n_items == 100 and counted:
        assert {"head\n0.2500", "tail\n-"} <= set(texts)
    assert is_whole_png(tmp_path / "a" / "t.png")
    lengths = rng.geometric(0.1, users)
    ndcg_by_history_length(histories(ranks, targets, lengths, groups), tmp_path / "b" / "h.png", "title")
    assert is_whole_png(tmp_path / "b" / "h.png")


def test_a_failed_write_leaves_the_old_figure(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    path = tmp_path / "curve.png"
    path.write_bytes(b"old")

    def fail(self, draft, **_):
        draft.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(UserError, match="disk full"):
        learning_curve([{"epoch": 1, "train/loss": 2.0}], path, "t")
    assert path.read_bytes() == b"old"
    assert [path] == list(tmp_path.iterdir())


def test_numbers_beside_points_that_nearly_coincide_do_not_lie_on_each_other() -> None:
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    near = [(0.5, 0.5, "C0"), (0.5001, 0.5, "C1"), (0.5, 0.5002, "C2"), (0.9, 0.9, "C3")]
    axes.scatter(*zip(*[(x, y) for x, y, _ in near], strict=True))
    figure.draw_without_rendering()
    tradeoff_plot._number(axes, near)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3", "4"]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
