import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "studies" / "speed" / "scale_items.py"


def command(*arguments, cache):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT), "RECSYS_LT_CACHE": str(cache)},
        capture_output=True,
        text=True,
    )


def test_it_measures_prints_saves_and_draws(tmp_path):
    # 7 times 3,000 rows of 64 numbers are 5.4 MB: beyond what is allowed here, like ten million rows elsewhere.
    done = command(
        "--sizes", 3000, 1000, "--rounds", 1, "--steps", 2, "--users", 60, "--memory", 0.004, "--rank", 1000,
        "--results", tmp_path, "--set", "trainer.batch_rows=16", "trainer.rank_rows=16",
        cache=tmp_path / "cache",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "scale-items.json").read_text())
    assert (tmp_path / "scale-items.png").read_bytes().startswith(b"\x89PNG")
    lazy = result["seconds_a_step"]["sce, lazy adam"]
    assert list(lazy) == ["1000", "3000"]
    assert result["ratio_to_smallest"]["sce, lazy adam"]["3000"] == lazy["3000"] / lazy["1000"]
    assert all(len(rounds) == 1 for rounds in result["rounds"].values())
    assert result["memory"]["3000"]["table_and_moments_mb"] == 3 * 3000 * 64 * 4 / 2**20
    assert result["memory"]["3000"]["peak_rss_mb"] > result["memory"]["3000"]["before_model_mb"]
    for variant in ("sce, dense adam", "ce, dense adam"):
        assert list(result["seconds_a_step"][variant]) == ["1000"]
        assert "more than 0.004" in result["left_out"][variant]["3000"]
    assert result["ranking"]["users"] == 60
    assert result["ranking"]["items"] == 1000
    lines = done.stdout.splitlines()
    assert sum(f"{lazy['3000'] / lazy['1000']:.2f}x the smallest" in line for line in lines) == 1
    assert "ranking 60 users over 1,000 items" in lines[-1]


def test_a_single_batch_cannot_be_timed(tmp_path):
    done = command("--users", 30, "--sizes", 1000, "--rank", 0, "--results", tmp_path, cache=tmp_path / "cache")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --users 30: they make one batch of 512")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("option", ["--rounds", "--sizes"])
def test_what_the_user_can_mend(option, tmp_path):
    done = command(option, 0, "--results", tmp_path, cache=tmp_path)
    assert done.returncode == 2
    assert option in done.stderr
    assert len(done.stderr.splitlines()) == 1
