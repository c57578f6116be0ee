"""How a run went, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recsys_lt.results.plots import BLUE, GREY, LIGHT_BLUE, LIGHT_ORANGE, ORANGE, save, tidy


def _present(history: Sequence[Mapping[str, float | None]], key: str) -> tuple[list[float], list[float]]:
    points = [(row["epoch"], row.get(key)) for row in history]
    known = [(x, y) for x, y in points if x is not None and y is not None and np.isfinite(y)]
    return [x for x, _ in known], [y for _, y in known]


def learning_curve(history: Sequence[Mapping[str, float | None]], path: Path, title: str) -> None:
    """Validation NDCG@10 (head and nonhead targets faintly) and training loss over epochs, the best epoch marked.

    Parameters
    ----------
    history
        One mapping an epoch: ``epoch`` (completed epochs, 0 untrained), ``valid/ndcg@10``,
        ``valid/head/ndcg@10``, ``valid/nonhead/ndcg@10`` and ``train/loss``; all but the first may be absent or
        None in epochs without them.
    path
        PNG file to write.
    title
        What was trained: dataset, model, loss.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.0, 4.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    figure.suptitle(title, fontsize=11)

    highest = 1e-3
    ends = {}
    curves = (("valid/head/", LIGHT_BLUE), ("valid/nonhead/", LIGHT_ORANGE), ("valid/", BLUE))
    for prefix, colour in curves:
        epochs, scores = _present(history, f"{prefix}ndcg@10")
        if scores:
            wide, size = (1.6, 3.0) if colour == BLUE else (1.0, 2.0)
            above.plot(epochs, scores, color=colour, linewidth=wide, marker="o", markersize=size)
            ends[prefix.split("/")[1] or "all"] = (scores[-1], colour)
            highest = max([highest, *scores])
    if scores:
        best = int(np.argmax(scores))  # the earliest on a tie, as the checkpoint is chosen
        for axes in (above, below):
            axes.axvline(epochs[best], color=GREY, linewidth=0.9, linestyle="--")
        note = f"best: {scores[best]:.4f} at epoch {epochs[best]:.0f}"
        above.plot(epochs[best], scores[best], "o", markersize=8, color=ORANGE, mec="white", label=note)
        above.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), borderaxespad=0, frameon=False, fontsize=9)
    above.set_ylabel("validation NDCG@10")
    above.set_ylim(0, highest * 1.12)

    if len(ends) > 1:
        _name(above, ends)

    epochs, losses = _present(history, "train/loss")
    below.plot(epochs, losses, color=GREY, linewidth=1.6, marker="o" if len(losses) < 3 else None)
    below.set_ylabel("training loss")
    if not losses:
        below.set_yticks([])
    below.set_xlabel("completed epochs")
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in (above, below):
        tidy(axes)
    figure.align_ylabels()
    save(figure, path)


def _name(axes: Any, ends: Mapping[str, tuple[float, str]]) -> None:
    """Write what each curve is, beside its end; names keep their distance where the curves do not."""
    height = axes.get_ylim()[1]
    lowest = 0.03 * height
    for name, (y, colour) in sorted(ends.items(), key=lambda end: end[1][0]):
        place = max(y, lowest)
        axes.text(1.01, place / height, name, transform=axes.transAxes, va="center", fontsize=8, color=colour)
        lowest = place + 0.07 * height
