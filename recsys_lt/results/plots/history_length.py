"""NDCG of users with short histories against users with long ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recsys_lt.results.plots import BLUE, ORANGE, counts, legend_above, means, save, tidy


def ndcg_by_history_length(histories: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """NDCG@10 against the number of events before the target, of all users and of those with a nonhead target.

    Parameters
    ----------
    histories
        As ``recsys_lt.metrics.long_tail.histories`` gives them.
    path
        PNG file to write.
    title
        What was evaluated: dataset, model, loss.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    figure.suptitle(title, fontsize=11)
    nonhead = [row["nonhead"] for row in histories]
    highest = 1e-3
    for rows, words, colour, left in (
        (histories, "all users", BLUE, -0.1),
        (nonhead, "mid and tail targets", ORANGE, 0.1),
    ):
        highest = max(highest, means(above, [n + left for n in range(len(rows))], rows, colour, words))
        counts(below, [n + 2 * left for n in range(len(rows))], [row["users"] for row in rows], colour)
    above.set_ylim(0, highest * 1.12)
    above.set_ylabel("test NDCG@10")
    legend_above(above, [*histories, *nonhead], "means and 95 % bootstrap intervals")
    below.set_xticks(range(len(histories)), [lengths(row["shortest"], row["longest"]) for row in histories])
    below.set_xlim(-0.6, len(histories) - 0.4)
    below.set_xlabel("events in the user's history before the target")
    for axes in (above, below):
        tidy(axes)
    figure.align_ylabels()
    save(figure, path)


def lengths(shortest: int, longest: int) -> str:
    """A bin of histories in words."""
    return f"{shortest:,}" if shortest == longest else f"{shortest:,}-{longest:,}"
