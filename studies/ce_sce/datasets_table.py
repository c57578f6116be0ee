"""Table 4: the datasets, as the runs read them."""

from typing import Any

from studies.ce_sce.evidence import DATASETS, Evidence
from studies.ce_sce.main_table import COMMANDS
from studies.ce_sce.piece import Piece, Value


def datasets_table(evidence: Evidence) -> Piece:
    """Counts of what was trained and ranked on, from the protocol of every run."""
    protocols: dict[tuple[str, Any], dict[str, Any]] = {}
    for cell in evidence.readable:
        for run in cell.finished:
            if run.metrics is not None:
                protocols.setdefault(
                    (cell.dataset, run.metrics["protocol"].get("fingerprint")), run.metrics["protocol"]
                )
    rows: list[list[Value]] = []
    for (dataset, _), protocol in protocols.items():
        users, items, events = (int(protocol.get(key) or 0) for key in ("users", "items", "interactions"))
        if not (users and items and events):
            continue  # versions before did not write them all
        rows.append(
            [DATASETS.get(dataset, dataset), users, items, events, f"{events / users:.1f}",
             f"{events / users / items:.3%}", str(protocol.get("split") or "-")]
        )  # fmt: skip
    return Piece(
        "table4",
        "Table 4: datasets",
        ["dataset", "users", "items", "interactions", "a user's mean", "density", "split"],
        rows,
        "A dataset stands twice where runs read other data under one name.",
        commands=COMMANDS,
    )
