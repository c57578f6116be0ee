"""``learning_curve.csv`` of a run folder."""

import csv
import io
import math
from pathlib import Path

from recsys_lt.runs.packed import content

FILE = "learning_curve.csv"


def read_curve(path: Path) -> list[dict[str, float]]:
    """The epochs of a curve, each with the finite numbers it has; empty where the file is absent or no curve."""
    try:
        found = content(path)
        lines = io.StringIO("" if found is None else found.decode("utf-8"), newline="")
        rows = [
            {str(key): float(value) for key, value in row.items() if isinstance(value, str) and value}
            for row in csv.DictReader(lines)
        ]
    except (OSError, ValueError, csv.Error):
        return []
    finite = ({key: value for key, value in row.items() if math.isfinite(value)} for row in rows)
    return [row for row in finite if "epoch" in row]
