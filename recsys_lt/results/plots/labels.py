"""Labels of lines and points, placed so that none lies on another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recsys_lt.results.plots.palette import MUTED, Look

#: Where a label may stand beside its point: columns out from it, a label's width each, and points up; the best first.
AROUND = (
    *((1, 6), (-1, 6), (1, -7), (-1, -7), (0, 11), (0, -12), (2, 0), (-2, 0)),
    *((side, up) for up in (14, -15, 22, -23) for side in (1, -1, 2, -2)),
)
AFTER = tuple((column, up) for column in (1, 2, 3) for up in (0, 9, -9, 18, -18, 27, -27))
_SIZE, _SMALL = 8.5, 7.0  # of the letters, points


def at_the_ends(axes: Any, ends: Sequence[tuple[Look, float, float]]) -> None:
    """Write each line's label where it ends, at x and y; those that end last stand right of the axes."""
    low, high = axes.get_ylim()
    last = max((x for _, x, _ in ends), default=0.0)
    beside(axes, [end for end in ends if end[1] < 0.9 * last], AFTER)
    ordered = sorted((end for end in ends if end[1] >= 0.9 * last), key=lambda end: end[2])
    places = apart([(y - low) / (high - low) for *_, y in ordered], 0.06)
    for (look, *_), place in zip(ordered, places, strict=True):
        axes.text(
            1.015, place, look.text, transform=axes.transAxes, va="center", fontsize=_SIZE, color=look.colour.light
        )


def beside(axes: Any, points: Sequence[tuple[Look, float, float]], where: Sequence[tuple[int, int]]) -> None:
    """Write each label where no other point or label is; a grey one that has no such place is left out."""
    axes.figure.draw_without_rendering()  # lays out: only then is it known where points lie on the paper
    scale = axes.figure.dpi / 72
    places = [tuple(axes.transData.transform((x, y)) / scale) for _, x, y in points]
    taken = [(px, py, 2.5) for px, py in places]  # the middle of each, and half its width
    pairs = sorted(zip(points, places, strict=True), key=lambda pair: not pair[0][0].coloured)
    for (look, x, y), (px, py) in pairs:
        size = _SIZE if look.coloured else _SMALL
        half = 0.32 * size * len(look.text)  # a digit is 0.64 of the letters' size wide
        near = where if look.coloured else where[:8]  # a grey label farther out could belong to any point
        offsets = [(_across(column, half), up) for column, up in near]
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


def _across(column: int, half: float) -> float:
    """How far out the middle of a label lies in that column, in points."""
    return 0.0 if column == 0 else (1 if column > 0 else -1) * (4.5 + half + (abs(column) - 1) * (2 * half + 2))


def apart(places: Sequence[float], distance: float) -> list[float]:
    """Ascending places in 0..1, moved as little as it takes to be so far apart."""
    moved: list[float] = []
    for place in places:
        moved.append(place if not moved else max(place, moved[-1] + distance))
    highest = 1.0
    for n in reversed(range(len(moved))):
        moved[n] = min(moved[n], highest)
        highest = moved[n] - distance
    return moved
