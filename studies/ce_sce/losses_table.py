"""Table 1: the losses, by what they put in place of the sum over all items."""

from collections.abc import Mapping
from typing import Any

from studies.ce_sce.evidence import Evidence, mean
from studies.ce_sce.negatives import K_COMMAND as FIGURE_3
from studies.ce_sce.piece import Piece, Value
from studies.ce_sce.truncation import COMMANDS as FIGURE_1A

#: Loss -> its Z in -s+ + log Z, its negatives, and the logits of a target (arXiv 2402.06216v3, section 3).
_LOSSES = {
    "ce": ("sum over items of e^s", "none drawn", "I"),
    "ce_eta": ("sum over items with s - s+ >= -eta |s+| of e^s", "none drawn", "I"),
    "ssm": ("e^s+ + sum over K of e^s", "K", "K + 1"),
    "sce": ("e^s+ + alpha sum over K of e^s", "K", "K + 1"),
    "nce": ("(1 + e^s'+)(product over K of 1 + e^s'), s' = s + log(I/K) - c", "K", "K + 1"),
    "bce": ("(1 + e^s+)(1 + e^s-)", "1", "2"),
    "bpr": ("e^s+ + e^s-", "1", "2"),
}


def losses_table(evidence: Evidence) -> Piece:
    """What each loss sums, and what an epoch of it took on Beauty with SASRec."""
    rows: list[list[Value]] = []
    for loss, (z, negatives, logits) in _LOSSES.items():
        cell = evidence.closest("beauty", "sasrec", loss)
        runs = [] if cell is None else [run.metrics["train"] for run in cell.finished if run.metrics is not None]
        seconds = [float(train["seconds_per_epoch"]) for train in runs if train.get("seconds_per_epoch")]
        devices = sorted({_machine(train) for train in runs})
        rows.append(
            [
                loss, z, negatives, logits, mean(cell, "ndcg@10"), None if cell is None else evidence.in_words(cell),
                f"{sum(seconds) / len(seconds):.1f}" if seconds else None, "; ".join(devices) or None,
            ]
        )  # fmt: skip
    return Piece(
        "table1",
        "Table 1: losses as -s+ + log Z",
        [
            "loss",
            "Z of a target",
            "negatives",
            "logits of a target",
            "Beauty, SASRec: NDCG@10",
            "setting",
            "s/epoch",
            "on",
        ],
        rows,
        "s+ is the target's score, s another item's, I the catalogue. The columns are ours. Times are of the "
        "machines the runs were made on, which differ.",
        commands=(
            "python -m recsys_lt -m dataset=beauty model=sasrec loss=ce,sce,nce,bce,bpr",
            *FIGURE_1A[:1],
            FIGURE_3,
        ),
    )


def _machine(train: Mapping[str, Any]) -> str:
    threads = train.get("threads")
    return f"{train.get('device')}, {threads} thread{'' if threads == 1 else 's'}"
