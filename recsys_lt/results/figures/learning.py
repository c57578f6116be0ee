"""How the cells learnt, epoch by epoch."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from recsys_lt.results.cast import Member
from recsys_lt.results.drawing import canvas, inline_svg
from recsys_lt.results.illustration import Illustration, apart, at_the_ends, lacking, left_grey
from recsys_lt.results.palette import CELLS, INK, MUTED
from recsys_lt.runs.curve import FILE, read_curve

_SCORE = "valid/ndcg@10"
Curve = dict[float, float]  # by epoch


class _Kind(NamedTuple):
    """One column of the curves, and how it is drawn."""

    title: str
    column: str
    axis: str
    caption: str
    tag: str
    from_zero: bool = True


_ALL = _Kind(
    "Validation NDCG@10",
    _SCORE,
    "validation NDCG@10",
    "Validation NDCG@10 of all users after each epoch that was validated; the higher and the sooner the better.",
    "learn-",
)
_NONHEAD = _Kind(
    "Validation NDCG@10, mid and tail targets",
    "valid/nonhead/ndcg@10",
    "validation NDCG@10",
    "Validation NDCG@10 of the users whose target is no head item, after each epoch that was validated.",
    "learn-nonhead-",
)
_LOSS = _Kind(
    "Training loss",
    "train/loss",
    "training loss",
    "Mean training loss of each epoch; where it still falls while validation does not rise, the model overfits.",
    "loss-",
    from_zero=False,
)


def learning(members: Sequence[Member], prefix: str) -> list[Illustration]:
    """Validation NDCG@10 over epochs, that of nonhead targets, and the training loss where it compares.

    Parameters
    ----------
    members
        Cells of one dataset.
    prefix
        For the ids in the drawings.
    """
    ran = [member for member in members if member.cell.finished]
    figures = [_overall_and_groups(ran[0], prefix) if len(ran) == 1 else _draw(ran, _ALL, prefix)]
    if len(ran) > 1 and any(_curves(member, _NONHEAD.column) for member in ran):
        figures.append(_draw(ran, _NONHEAD, prefix))
    if len({member.cell.identity[2] for member in ran}) > 1:
        words = "Not drawn: values of different losses do not compare."
        return [*figures, Illustration(_LOSS.title, "", lacking=(words,))]
    return [*figures, _draw(ran, _LOSS, prefix)]


def _curves(member: Member, column: str) -> list[Curve]:
    """A column of each run's curve; runs without it are left out."""
    rows = [read_curve(run.folder / FILE) for run in member.cell.finished]
    found = [{row["epoch"]: row[column] for row in of_run if column in row} for of_run in rows]
    return [curve for curve in found if curve]


def _mean(curves: Sequence[Curve]) -> Curve:
    """Over the epochs that all runs have."""
    shared = sorted(set(curves[0]).intersection(*curves))
    return {epoch: math.fsum(curve[epoch] for curve in curves) / len(curves) for epoch in shared}


def _draw(members: Sequence[Member], kind: _Kind, prefix: str) -> Illustration:
    curves = {member.number: _curves(member, kind.column) for member in members}
    drawn = [member for member in members if curves[member.number]]
    if not drawn:
        return Illustration(kind.title, "", lacking=(f"Not drawn: no run holds a {FILE} with {kind.column}.",))
    several = any(len(curves[member.number]) > 1 for member in drawn)
    with canvas() as (figure, axes):
        from matplotlib.ticker import MaxNLocator

        ends, highest = [], 1e-3
        for member in sorted(drawn, key=lambda member: member.coloured):  # grey ones below
            of_cell, colour = curves[member.number], member.colour.light
            if len(of_cell) > 1:
                for curve in of_cell:
                    axes.plot(list(curve), list(curve.values()), color=colour, linewidth=0.7, alpha=0.4)
            mean = _mean(of_cell)
            if not mean:
                continue
            xs, ys = list(mean), list(mean.values())
            axes.plot(xs, ys, color=colour, linestyle=member.dash, linewidth=1.6 if member.coloured else 0.9)
            axes.plot(xs[-1:], ys[-1:], member.mark, color=colour)
            highest = max([highest, *(y for curve in of_cell for y in curve.values())])
            if member.coloured:
                ends.append((member, xs[-1], ys[-1]))
        if kind.from_zero:
            axes.set_ylim(0, highest * 1.06)
        axes.set_xlabel("completed epochs")
        axes.set_ylabel(kind.axis)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=7))
        if len(drawn) > 1:
            at_the_ends(axes, ends)
        svg = inline_svg(figure, f"Line chart, a line a cell: {kind.title} over epochs", prefix + kind.tag)
    caption = kind.caption + (" Each thin line is a run, the thick one their mean." if several else "")
    missing = lacking([member for member in members if member not in drawn], f"{FILE} with {kind.column}")
    return Illustration(kind.title, caption + left_grey(drawn), svg, lacking=missing)


def _overall_and_groups(member: Member, prefix: str) -> Illustration:
    parts = (
        ("all", _SCORE, INK),
        ("head", "valid/head/ndcg@10", CELLS[0]),
        ("nonhead", "valid/nonhead/ndcg@10", CELLS[1]),
    )
    curves = [(name, _curves(member, column), colour) for name, column, colour in parts]
    if not curves[0][1]:
        return Illustration(_ALL.title, "", lacking=(f"Not drawn: no run holds a {FILE} with {_SCORE}.",))
    with canvas() as (figure, axes):
        from matplotlib.ticker import MaxNLocator

        highest, ends = 1e-3, []
        for (name, of_part, colour), dash in zip(curves, ("-", (0, (5, 2)), (0, (1.2, 1.4))), strict=True):
            for curve in of_part:
                axes.plot(list(curve), list(curve.values()), color=colour.light, linestyle=dash)
                highest = max(highest, *curve.values())
            if of_part:
                ends.append((name, list(of_part[0].values())[-1], colour))
        axes.set_ylim(0, highest * 1.06)
        axes.set_xlabel("completed epochs")
        axes.set_ylabel("validation NDCG@10")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=7))
        if len(curves[0][1]) == 1:
            best = max(curves[0][1][0].items(), key=lambda point: point[1])[0]  # the earliest on a tie, as it is chosen
            axes.axvline(best, color=MUTED.light, linewidth=0.9, linestyle="--")
        ends.sort(key=lambda end: end[1])
        places = apart([y / (highest * 1.06) for _, y, _ in ends], 0.065)
        for (name, _, colour), place in zip(ends, places, strict=True):
            axes.text(1.015, place, name, transform=axes.transAxes, va="center", fontsize=8.5, color=colour.light)
        svg = inline_svg(
            figure, "Line chart: validation NDCG@10 over epochs, of all, head and nonhead targets", prefix + "learn-"
        )
    runs, dashed = ("; a line a run", "") if len(member.cell.finished) > 1 else ("", " (dashed)")
    drawn_too = any(of_part for _, of_part, _ in curves[1:])
    groups = " and of those whose target is a head item, or a mid or tail one" if drawn_too else ""
    caption = (
        f"Validation NDCG@10 after each epoch that was validated, of all users{groups}{runs}. "
        f"The test metrics are of the epoch where the line of all is highest{dashed}."
    )
    return Illustration(_ALL.title, caption, svg)
