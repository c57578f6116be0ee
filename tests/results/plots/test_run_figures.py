from contextlib import contextmanager

import numpy as np
import pytest

from recsys_lt.errors import UserError
from recsys_lt.metrics.groups import ItemGroups
from recsys_lt.metrics.long_tail import deciles, histories
from recsys_lt.results.plots import panels
from recsys_lt.results.plots.drawing import CELLS, Look, canvas
from recsys_lt.results.plots.run_figures import RunFigures

PNG = b"\x89PNG\r\n\x1a\n"


def is_whole_png(path):
    data = path.read_bytes()
    return data.startswith(PNG) and len(data) > 5000 and [path] == list(path.parent.iterdir())


def groups_of(popularity):
    return ItemGroups(popularity)


RUN = {"dataset": "beauty", "model": "$x^$", "loss": "ce", "optimizer": "sam", "seed": 3}


def figures(groups=None, test=None, long_tail=None):
    return RunFigures(RUN | {"test": test or {}, "long_tail": long_tail or {}}, groups)


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
    figures().learning_curve(history, tmp_path / "plots" / "curve.png")
    assert is_whole_png(tmp_path / "plots" / "curve.png")


def test_learning_curve_without_validation(tmp_path):
    figures().learning_curve([{"epoch": 1, "train/loss": 2.0}], tmp_path / "curve.png")
    assert is_whole_png(tmp_path / "curve.png")


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
    long_tail = {
        "deciles": deciles(ranks, targets, exposed, groups),
        "histories": histories(ranks, targets, rng.geometric(0.1, users), groups),
    }
    drawn = figures(groups, test, long_tail)
    with watched_texts(monkeypatch) as texts:
        drawn.ndcg_along_the_tail(tmp_path / "a" / "t.png")
    assert any("ARP 62.4, APLT -, coverage -, Gini 0.5000" in text for text in texts)
    if n_items == 100 and counted:
        assert {"head\n0.2500", "tail\n-"} <= set(texts)
    assert is_whole_png(tmp_path / "a" / "t.png")
    drawn.ndcg_by_history_length(tmp_path / "b" / "h.png")
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
        figures().learning_curve([{"epoch": 1, "train/loss": 2.0}], path)
    assert path.read_bytes() == b"old"
    assert [path] == list(tmp_path.iterdir())


def test_a_figure_names_dataset_model_loss_optimizer_and_seed_letter_by_letter(tmp_path, monkeypatch):
    with watched_texts(monkeypatch) as texts:
        figures().learning_curve([{"epoch": 1, "train/loss": 2.0}], tmp_path / "curve.png")
    assert "Beauty: $x^$, CE, SAM, seed 3" in texts


@pytest.mark.parametrize("last", [1, 7, 100, 105])
def test_no_tick_lies_past_the_last_epoch(last):
    with canvas() as (figure, axes):
        curve = dict.fromkeys(range(last + 1), 0.1)
        panels.learning_curves(axes, [(Look("all", CELLS[0]), [curve])], "validation NDCG@10", last, from_zero=True)
        figure.draw_without_rendering()
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert ticks[0] == 0
    assert max(ticks) <= last
    assert len(ticks) > 1
    assert high > last


def test_a_thick_line_is_the_mean_of_thin_ones():
    with canvas() as (_, axes):
        runs = [{1: 0.1, 2: 0.2}, {1: 0.3, 2: 0.4, 3: 0.5}]
        panels.learning_curves(axes, [(Look("1", CELLS[0]), runs)], "validation NDCG@10", 3, from_zero=True)
        lines = sorted(axes.lines, key=lambda line: -line.get_linewidth())
        thick = next(line for line in lines if len(line.get_xdata()) > 1)
    assert list(thick.get_xdata()) == [1, 2]
    assert thick.get_ydata() == pytest.approx([0.2, 0.3])


def test_popular_items_are_left_in_every_figure(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    groups = groups_of(rng.zipf(1.5, 300).clip(max=500))
    ranks, targets = rng.integers(0, 30, 500), rng.integers(0, 300, 500)
    rows = deciles(ranks, targets, rng.integers(0, 40, 300), groups)
    assert [row["most"] for row in rows] == sorted((row["most"] for row in rows), reverse=True)
    assert sum(row["users"] for row in rows) == 500
    with watched_texts(monkeypatch) as texts:
        figures(groups, long_tail={"deciles": rows}).ndcg_along_the_tail(tmp_path / "t.png")
    assert len([text for text in texts if "on the left" in text]) == 1


def test_a_legend_hides_nothing():
    """It lies above the axes, also where a line ends in the corner it would else lie in."""
    with canvas() as (figure, axes):
        rows = [{"ndcg@10": y, "low": y, "high": y, "users": 9} for y in (0.0, 0.5, 1.0)]
        panels.ndcg_by_bin(axes, [(Look("all users", CELLS[0]), rows)], intervals=True)
        panels.legend_above(axes)
        figure.draw_without_rendering()
        assert axes.get_legend().get_window_extent().y0 >= axes.get_window_extent().y1


def test_a_mean_of_few_users_is_hollow_and_lies_on_its_line():
    with canvas() as (_, axes):
        rows = [{"ndcg@10": 0.5, "low": 0.4, "high": 0.6, "users": users} for users in (9, 900)]
        panels.ndcg_by_bin(axes, [(Look("all users", CELLS[0]), rows)], intervals=True)
        line, hollow = axes.lines[:2]
    assert list(hollow.get_xdata()) == [1]
    assert hollow.get_markerfacecolor() != line.get_markerfacecolor()
    assert hollow.get_zorder() > line.get_zorder()
