"""What the repository keeps of a finished run: about 100 KB."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

SLIM = ("metrics.json", "learning_curve.csv", "ranks.parquet", "config.yaml")


def keep(folder: Path, place: Path, names: Sequence[str] = SLIM) -> bool:
    """Copy what a reader needs of the run in ``folder`` to ``place``; False, and nothing, if it is not finished."""
    if not json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["finished"]:
        return False
    partial = place.with_name(f".{place.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in names:
        shutil.copy2(folder / name, partial / name)
    partial.rename(place)
    return True
