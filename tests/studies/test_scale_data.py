import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "studies" / "speed" / "scale_data.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script reads /proc")


def command(*arguments, cache):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT), "RECSYS_LT_CACHE": str(cache)},
        capture_output=True,
        text=True,
    )


def test_it_prepares_and_trains(tmp_path):
    file = tmp_path / "result.json"
    done = command(
        "--sizes", 24_000, "--items", 600, "--steps", 2, "--results", file, "--cache", tmp_path / "c", cache=tmp_path
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "about 24,000 interactions, 1,200 users, 600 items"
    assert "prepared" in lines[1]
    assert "trained 2 steps" in lines[2]
    (found,) = json.loads(file.read_text())["sizes"]
    assert found["prepare"]["users"] == 1_200
    assert found["prepare"]["interactions"] == pytest.approx(24_000, rel=0.1)
    assert found["prepare"]["files_mb"] * 2**20 > 4 * found["prepare"]["interactions"]
    assert found["train"]["steps"] == 2
    assert found["train"]["dataset_mapped_mb_end"] > 0
    assert found["train"]["anonymous_mb_peak"] >= found["train"]["anonymous_mb_imported"] > 10


@pytest.mark.parametrize("arguments", [("--sizes", 3), ("--steps", -1)])
def test_sizes_without_a_meaning_are_refused(tmp_path, arguments):
    done = command(*arguments, cache=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
