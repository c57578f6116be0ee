import sys
from pathlib import Path

import pytest
import yaml

from recsys_lt.results.cells import compared
from recsys_lt.runs.listing import find_runs
from studies.ce_sce.figures import composed
from studies.published import run_cells as queue
from studies.shared.kept import is_finished

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "studies" / "published" / "run_cells.py"
ROWS = [
    cell
    for cell in yaml.safe_load(SCRIPT.with_name("cells.yaml").read_text(encoding="utf-8"))
    if is_finished(queue.RUNS / cell["cell"])
]


CELL = {"choose": {"dataset": "beauty", "seed": 0}, "curve": 20, "set": {"+experiment": "fast"}}


def test_a_new_cell_says_its_choices_and_a_stopped_one_is_resumed(tmp_path):
    start = [sys.executable, "-m", "recsys_lt"]
    assert queue.command(CELL, tmp_path, ["strategy=cpu"]) == [
        *start, "dataset=beauty", "seed=0", "+experiment=fast", "trainer.max_epochs=20", "strategy=cpu",
        "logger=none", f"hydra.run.dir={tmp_path}",
    ]  # fmt: skip
    (tmp_path / "config.yaml").write_text("")
    assert queue.command(CELL, tmp_path, []) == [*start, "resume", str(tmp_path)]


@pytest.mark.parametrize("cell", ROWS, ids=lambda row: row["cell"])
def test_a_kept_run_is_the_one_its_cell_asks_for(cell, tmp_path):
    """In every key of today's configuration that the run's has too."""
    wanted = composed(*queue.command(cell, tmp_path, [])[3:-2])  # without logger and folder
    found = compared(next(iter(find_runs(queue.RUNS / cell["cell"]))))
    both = wanted.keys() & found.keys()
    assert len(both) > 30
    assert {key: found[key] for key in both} == {key: wanted[key] for key in both}
