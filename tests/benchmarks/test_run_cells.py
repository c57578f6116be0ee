import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "published" / "run_cells.py"


@pytest.fixture
def queue():
    spec = importlib.util.spec_from_file_location("script_run_cells", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CELL = {"choose": {"dataset": "beauty", "seed": 0}, "curve": 20, "set": {"+experiment": "fast"}}


def test_a_new_cell_says_its_choices_and_a_stopped_one_is_resumed(queue, tmp_path):
    start = [sys.executable, "-m", "recsys_lt"]
    assert queue.command(CELL, tmp_path, ["strategy=cpu"]) == [
        *start, "dataset=beauty", "seed=0", "+experiment=fast", "trainer.max_epochs=20", "strategy=cpu",
        "logger=none", f"hydra.run.dir={tmp_path}",
    ]  # fmt: skip
    (tmp_path / "config.yaml").write_text("")
    assert queue.command(CELL, tmp_path, []) == [*start, f"resume={tmp_path}"]
