"""Figure 1b: tightness and coverage of the losses, measured in training."""

import csv
from typing import TYPE_CHECKING

from recsys_lt.analysis.cells import Cell
from recsys_lt.analysis.paper.evidence import GROUPS, LOSSES, Evidence
from recsys_lt.analysis.paper.piece import Piece, Value
from recsys_lt.analysis.plots import tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMMAND = "python -m recsys_lt +experiment=paper/figure1b_beauty"


def watched(cell: Cell) -> list[dict[str, float]]:
    """The epochs of a cell's first run that measured how tight its loss is; empty where none did."""
    path = cell.finished[0].folder / "learning_curve.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("bound/ndcg")]
    return [{key: float(value) for key, value in row.items() if value} for row in rows]


def tightness(evidence: Evidence) -> Piece:
    """How often -log NDCG <= loss, and the share of items a step is told from, by epoch and group of targets."""
    curves: dict[str, list[dict[str, float]]] = {}
    for cell in evidence.finished:
        if cell.identity[:2] == ("beauty", "sasrec") and (rows := watched(cell)):
            curves.setdefault(LOSSES.get(cell.identity[2], cell.identity[2]), rows)

    def draw(figure: "Figure") -> None:
        held, met = figure.subplots(1, 2)
        for axes, key, label in (
            (held, "bound/ndcg", "share of targets with -log NDCG <= loss"),
            (met, "bound/met", "share of items a step is told from"),
        ):
            for colour, (loss, rows) in enumerate(curves.items()):
                values = [row[key] for row in rows]
                axes.plot([row["epoch"] for row in rows], values, color=f"C{colour}", linewidth=1.4, label=loss)
            axes.set_xlabel("epoch")
            axes.set_ylabel(label)
            axes.set_ylim(-0.03, 1.05)
            tidy(axes)
        held.legend(frameon=False, fontsize=8)

    table: list[list[Value]] = []
    for loss, rows in curves.items():
        for row in (rows[0], rows[-1]):
            for measure, words in (("ndcg", "bounded"), ("met", "met")):
                shares = (row.get(f"bound/{prefix}{measure}") for prefix in GROUPS.values())
                table.append([loss, int(row["epoch"]), words, *shares])
    return Piece(
        "figure1b",
        "Figure 1b: tightness and coverage in training, SASRec on Beauty",
        ["loss", "epoch", "share", *GROUPS],
        table,
        "bounded: of targets, those with -log NDCG of their rank among all items <= their loss. met: of items, those "
        "that a step's targets are told from (its negatives; with CE all, with CE-eta the band), mean over steps.",
        draw if curves else None,
        (8.4, 3.2),
        () if curves else (COMMAND,),
    )
