"""Figure 1b: tightness and coverage of the losses, measured in training."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_lt.analysis.cells import compared
from recsys_lt.analysis.paper.evidence import GROUPS, LOSSES, Evidence
from recsys_lt.analysis.paper.piece import Piece, Value
from recsys_lt.analysis.plots import tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMMANDS = (
    "python -m recsys_lt +experiment=paper/figure1b_beauty",
    "python -m recsys_lt +experiment=paper/figure1b_beauty loss=ssm,sce loss.k=100",
)


def watched(folder: Path) -> list[dict[str, float]]:
    """The epochs of a run that measured how tight its loss is; empty where it did not."""
    try:
        with (folder / "learning_curve.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("bound/ndcg")]
        return [{key: float(value) for key, value in row.items() if key and value} for row in rows]
    except (OSError, ValueError):
        return []


def tightness(evidence: Evidence) -> Piece:
    """How often -log NDCG <= loss, and the share of items a batch is told from, by epoch and group of targets."""
    curves: dict[str, list[dict[str, float]]] = {}
    settings: dict[str, str] = {}
    for cell in evidence.cells:
        if cell.identity[:2] != ("beauty", "sasrec") or cell.identity[3] != "adam":
            continue
        for run in cell.finished:
            rows = watched(run.folder)
            k = compared(run).get("loss.k", "1")
            loss = LOSSES.get(cell.identity[2], cell.identity[2]) + ("" if k == "1" else f", K {k}")
            if len(rows) > len(curves.get(loss, [])):  # the longest one
                curves[loss], settings[loss] = rows, evidence.in_words(cell)

    def draw(figure: "Figure") -> None:
        held, met = figure.subplots(1, 2)
        for axes, key, label in (
            (held, "bound/ndcg", "targets with -log NDCG <= loss"),
            (met, "bound/met", "items that a batch is told from"),
        ):
            for colour, (loss, rows) in enumerate(curves.items()):
                # Each thinner than the one below it: where several are 1, all are seen.
                width = 1.2 + 0.9 * (len(curves) - 1 - colour) if key == "bound/met" else 1.4
                values = [row[key] for row in rows]
                axes.plot([row["epoch"] for row in rows], values, color=f"C{colour}", linewidth=width, label=loss)
            axes.set_xlabel("epoch")
            axes.set_title(label, fontsize=9)
            axes.set_ylim(-0.03, 1.05)
            tidy(axes)
        held.set_ylabel("share")
        met.legend(frameon=False, fontsize=8, loc="center right")  # between all items and the few of one negative

    table: list[list[Value]] = []
    for loss, rows in curves.items():
        for row in (rows[0], rows[-1]):
            for measure, words in (("ndcg", "bounded"), ("met", "met")):
                shares = (row.get(f"bound/{prefix}{measure}") for prefix in GROUPS.values())
                table.append([loss, settings[loss], int(row["epoch"]), words, *shares])
    return Piece(
        "figure1b",
        "Figure 1b: tightness and coverage in training, SASRec on Beauty",
        ["loss", "setting", "epoch", "share", *GROUPS],
        table,
        "bounded: of targets, those with -log NDCG of their rank among all items <= their loss. met: of items, those "
        "that a batch's targets are told from (their negatives; with CE all, with CE-eta the band), mean over batches.",
        draw if curves else None,
        (8.4, 3.2),
        () if curves else COMMANDS,
    )
