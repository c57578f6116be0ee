"""Panels that the figures of a run and of the report are made of: each function draws on one pair of axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np

from recsys_lt.results.plots.drawing import GREY, LINE, MUTED, PAPER, Look

#: Where a label may stand beside its point: columns out from it, a label's width each, and points up; the best first.
AROUND = (
    *((1, 6), (-1, 6), (1, -7), (-1, -7), (0, 11), (0, -12), (2, 0), (-2, 0)),
    *((side, up) for up in (14, -15, 22, -23) for side in (1, -1, 2, -2)),
)
_SIZE, _SMALL = 7.5, 6.5  # of the letters, points
#: Means over fewer users are drawn hollow.
FEW = 50
Curve = Mapping[float, float]  # values by completed epoch
Row = Mapping[str, Any]  # of one bin, named as in metrics.json's long_tail
Point = tuple[float | None, float | None]  # mean and spread


def _line(axes: Any, look: Look, xs: Sequence[float], ys: Sequence[float], mark: str | None = None) -> None:
    axes.plot(
        xs, ys, color=look.colour.light, linestyle=look.dash, marker=look.mark if mark is None else mark,
        linewidth=1.2 if look.coloured else 0.7, markersize=3.5 if look.coloured else 2,
        label=look.text if look.coloured else "_grey",  # which no legend names
        clip_on=False, zorder=2 + look.coloured,
    )  # fmt: skip


def _up_from_zero(axes: Any, least: float) -> None:
    """Let the vertical axis run from 0 to a little above all that is drawn, and at least so high."""
    axes.set_ylim(0, 1.06 * max(axes.dataLim.y1, least))


def learning_curves(
    axes: Any, lines: Sequence[tuple[Look, Sequence[Curve]]], name: str, last: float, from_zero: bool
) -> None:
    """A value over completed epochs: a thick line is the mean of a line's runs, a thin one a single run of several.

    ``lines`` are the look of each line and the curves of its runs, ``name`` what the value is, ``last`` the last epoch
    of all that is drawn; ``from_zero`` has the axis of the value begin at 0.
    """
    from matplotlib.ticker import MaxNLocator

    for look, curves in lines:
        if len(curves) > 1:
            for curve in curves:
                axes.plot(list(curve), list(curve.values()), color=look.colour.light, linewidth=0.5, alpha=0.4)
        if xs := sorted(set(curves[0]).intersection(*curves)):
            ys = [math.fsum(curve[epoch] for curve in curves) / len(curves) for epoch in xs]
            _line(axes, look, xs, ys, "")
            axes.plot(xs[-1:], ys[-1:], look.mark, color=look.colour.light, zorder=2 + look.coloured)
    ticks = MaxNLocator(integer=True, min_n_ticks=1, nbins=7).tick_values(0, max(last, 1))
    axes.set_xticks([tick for tick in ticks if 0 <= tick <= last])
    axes.set_xlim(-0.03 * max(last, 1), 1.03 * max(last, 1))
    if from_zero:
        _up_from_zero(axes, 1e-3)
    axes.set_ylabel(name)


def best_epoch(axes: Sequence[Any], curve: Curve) -> tuple[float, float]:
    """Mark the epoch of the highest value by a dashed line, the earliest on ties; that epoch and its value."""
    epoch, value = max(curve.items(), key=lambda point: point[1])
    for each in axes:
        each.axvline(epoch, color=MUTED.light, linewidth=0.7, linestyle="--", zorder=1)
    return epoch, value


def ndcg_by_bin(axes: Any, lines: Sequence[tuple[Look, Sequence[Row]]], intervals: bool) -> None:
    """Test NDCG@10 of the users in each bin, with ``intervals`` of 95 % where wanted, and means of few users hollow.

    The rows of a line have ``ndcg@10``, ``low``, ``high`` and ``users``; one without users has None.
    """
    hollow = False
    for number, (look, rows) in enumerate(lines):
        shift = 0.14 * (number - (len(lines) - 1) / 2) if intervals else 0.0
        known = [(place + shift, row) for place, row in enumerate(rows, 1) if row["ndcg@10"] is not None]
        _line(axes, look, [x for x, _ in known], [row["ndcg@10"] for _, row in known])
        for x, row in known:
            if not intervals or row.get("low") is None:
                continue
            axes.vlines(x, row["low"], row["high"], color=look.colour.light, linewidth=0.8, alpha=0.8)
            if row["users"] < FEW:
                hollow = True
                axes.plot(
                    x,
                    row["ndcg@10"],
                    look.mark,
                    color=look.colour.light,
                    mfc=PAPER.light,
                    mec=look.colour.light,
                    zorder=4,
                )
    if hollow:
        axes.plot([], [], "o", color=GREY, mfc=PAPER.light, mec=GREY, label=f"fewer than {FEW} users")
    _up_from_zero(axes, 1e-3)
    axes.set_ylabel("test NDCG@10")


def exposure(axes: Any, lines: Sequence[tuple[Look, Sequence[Row]]], of: str) -> None:
    """Share of the lists of ten that each bin of items gets, over bars of its share of interactions where known."""
    rows = lines[0][1]
    bars = [100 * (row["interactions"] or 0.0) for row in rows if "interactions" in row]
    if bars:
        axes.bar(
            range(1, len(bars) + 1), bars, 0.75, color=LINE.light, edgecolor=MUTED.light, linewidth=0.4,
            label=f"share of {of}",
        )  # fmt: skip
    for look, rows in lines:
        _line(axes, look, range(1, len(rows) + 1), [100 * (row["exposure"] or 0.0) for row in rows])
    _up_from_zero(axes, 1.0)
    axes.set_ylabel("share [%]")


def users_by_bin(axes: Any, lines: Sequence[tuple[Look, Sequence[Row]]]) -> None:
    """Users of each bin, as bars with their numbers."""
    crowded = _crowded(axes, [f"{row['users']:,}" for _, rows in lines for row in rows])
    for number, (look, rows) in enumerate(lines):
        xs = [place + 0.3 * (number - (len(lines) - 1) / 2) for place in range(1, len(rows) + 1)]
        bars = axes.bar(xs, [row["users"] for row in rows], 0.22, color=look.colour.light, alpha=0.55)
        turned = {"rotation": 90, "padding": 1.5} if crowded else {}
        axes.bar_label(bars, [f"{row['users']:,}" for row in rows], fontsize=6, color=GREY, **turned)
    axes.margins(y=1.4 if crowded else 0.4)
    axes.set_ylabel("users")
    axes.set_yticks([])


def bins(axes: Any, labels: Sequence[str], name: str) -> None:
    """The horizontal axis of bins, with a label under each; ``name`` takes as many lines as it needs."""
    axes.set_xlim(0.5, len(labels) + 0.5)
    for each in axes.figure.axes:  # the panels above it too
        each.grid(axis="x", visible=False)
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if _crowded(axes, labels) else {}
    axes.set_xticks(range(1, len(labels) + 1), labels, **turned)
    axes.set_xlabel(fill(name, round(14 * axes.figure.get_figwidth())))


def _crowded(axes: Any, labels: Sequence[str]) -> bool:
    """Whether labels side by side would touch: 146-222 and 223-647."""
    return max(map(len, labels), default=0) * len(labels) > 13 * axes.figure.get_figwidth()


def span(first: float, last: float) -> str:
    """A bin of counts: "7", or "4-12"."""
    return f"{first:,}" if first == last else f"{first:,}-{last:,}"


def scatter(
    axes: Any, points: Sequence[tuple[Look, Point, Point]], names: tuple[str, str], orders: bool = False
) -> None:
    """A labelled point a cell, mean and spread over seeds on both axes.

    ``names`` say what the axes show; the horizontal one may run over ``orders`` of magnitude.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    for look, (x, dx), (y, dy) in sorted(points, key=lambda point: point[0].coloured):
        axes.errorbar(
            x, y, xerr=dx, yerr=dy, fmt=look.mark, color=look.colour.light, elinewidth=0.7,
            markersize=5 if look.coloured else 3,
        )  # fmt: skip
    known = [(look, x, y) for look, (x, _), (y, _) in points if x is not None and y is not None]
    least, most = min(x for _, x, _ in known), max(x for _, x, _ in known)
    if orders and least > 0 and most > 5 * least:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))  # 0.0825 is long
    axes.margins(0.12)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -0.03 * high), high)  # nothing that is drawn is below 0
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    beside(axes, known)


def legend_above(axes: Any, title: str | None = None) -> None:
    """A legend above the axes, where it hides nothing; as wide as a column allows."""
    longest = max((len(label) for label in axes.get_legend_handles_labels()[1]), default=0)
    columns = 4 if longest <= 3 else 3 if longest <= 12 else 2 if longest <= 34 else 1
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, title=title)


def beside(axes: Any, points: Sequence[tuple[Look, float, float]]) -> None:
    """Write each label where no other point or label is; a grey one that has no such place is left out."""
    axes.figure.draw_without_rendering()  # lays out: only then is it known where points lie on the paper
    scale = axes.figure.dpi / 72
    places = [tuple(axes.transData.transform((x, y)) / scale) for _, x, y in points]
    taken = [(px, py, 2.5) for px, py in places]  # the middle of each, and half its width
    pairs = sorted(zip(points, places, strict=True), key=lambda pair: not pair[0][0].coloured)
    for (look, x, y), (px, py) in pairs:
        size = _SIZE if look.coloured else _SMALL
        half = 0.32 * size * len(look.text)  # a digit is 0.64 of the letters' size wide
        near = AROUND if look.coloured else AROUND[:8]  # a grey label farther out could belong to any point
        offsets = [(np.sign(n) * (4.5 + half + (abs(n) - 1) * (2 * half + 2)), up) for n, up in near]
        free = [
            (dx, dy) for dx, dy in offsets
            if all(abs(px + dx - a) > half + width + 0.5 or abs(py + dy - b) > 7 for a, b, width in taken)
        ]  # fmt: skip
        if not free and not look.coloured:
            continue
        dx, dy = free[0] if free else offsets[0]
        taken.append((px + dx, py + dy, half))
        axes.annotate(
            look.text, (x, y), (dx, dy), textcoords="offset points", ha="center", va="center",
            color=look.colour.light if look.coloured else MUTED.light, fontsize=size,
        )  # fmt: skip
