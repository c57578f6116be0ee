"""Work through cells.yaml: skip what is done, resume what was stopped, keep each finished run.

``python studies/published/run_cells.py`` (or ``make results``) may be stopped at any time and started again, here or
on another machine; a finished cell is a row in runs.parquet beside this file.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from studies.ce_sce.choices import CHOICES
from studies.shared.kept import is_finished, keep

ROOT = Path(__file__).resolve().parents[2]
RUNS = Path(__file__).with_name("runs.parquet")


def main() -> int:
    """Run the queue; the exit code is 1 if a cell failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "published", help="folder of the full runs")
    parser.add_argument("--only", nargs="*", help="names of cells; default: all, in order")
    parser.add_argument("overrides", nargs="*", help="further overrides, such as strategy=gpu")
    arguments = parser.parse_args()
    cells: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "cells.yaml").read_text())
    failed = []
    for cell in cells:
        name = cell["cell"]
        if (arguments.only and name not in arguments.only) or is_finished(RUNS / name):
            continue
        print(f"== {name}", flush=True)
        folder = arguments.work / name
        if subprocess.run(command(cell, folder, arguments.overrides), cwd=ROOT).returncode != 0:
            failed.append(name)
            continue
        keep(folder, RUNS / name)
    if failed:
        print(f"not finished: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def command(cell: dict[str, Any], folder: Path, overrides: list[str]) -> list[str]:
    """Say how a cell is run, or gone on with where it was stopped."""
    python = [sys.executable, "-m", "recsys_lt"]
    of_study = cell.get("for") == "figures"  # it has a loss and a callback of its own
    if (folder / "config.yaml").is_file():
        return [*python, "resume", str(folder), *(("--trust", "studies") if of_study else ())]
    choices = [CHOICES] if of_study else []
    choices += [f"{key}={value}" for key, value in (cell["choose"] | cell.get("set", {})).items()]
    if "curve" in cell:
        choices.append(f"trainer.max_epochs={cell['curve']}")
    return [*python, *choices, *overrides, "logger=none", f"hydra.run.dir={folder}"]


if __name__ == "__main__":
    sys.exit(main())
