"""``learning_curve.csv`` of a run folder."""

import csv
import math
from pathlib import Path

FILE = "learning_curve.csv"


def read_curve(path: Path) -> list[dict[str, float]]:
    """The epochs of a curve, each with the finite numbers it has; empty where the file is absent or no curve."""
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [
                {str(key): float(value) for key, value in row.items() if isinstance(value, str) and value}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, csv.Error):
        return []
    finite = ({key: value for key, value in row.items() if math.isfinite(value)} for row in rows)
    return [row for row in finite if "epoch" in row]
