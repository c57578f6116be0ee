import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from studies.speed import bench

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "studies" / "speed" / "bench.py"
# More items than the losses' 500 negatives.
SMALL = ("dataset=synthetic", "dataset.source.n_users=60", "dataset.source.n_items=600", "trainer.batch_rows=16")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def command(*arguments, cache):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT), "RECSYS_LT_CACHE": str(cache)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "name",
    [
        "ce-float32",
        "ce-bf16",
        "sce-500-position",
        "sce-500-batch",
        "bce",
        "gru4rec-ce",
        "gru4rec-ce-one-pass",
        "caser-ce",
        "fmlp_rec-ce",
        "adamw",
        "sam",
        "eisam",
        "eisam-stale",
        "eisam-every-4",
        "evaluate",
        "evaluate-lists-20",
    ],
)
def test_every_measurement_runs(cache, name):
    result = bench.measure(name, bench.Asked(repeats=2, steps=2, raw_dir=None, overrides=SMALL))
    assert result["precision"] == ("bf16" if "bf16" in name else "float32")
    assert result["seconds"] > 0
    assert result["ratio"] == result["seconds"] / result["floor_seconds"]
    assert len(result["repeats"]["measured"]) == len(result["repeats"]["floor"]) == 2
    assert result["data"]["source"] == "synthetic"
    assert result["data"]["items"] == 600
    assert {"processor", "cores", "threads"} <= set(result["machine"])
    assert 0 < result["matrix_share"] < 1
    assert result["targets_per_second"] > 0
    assert result["peak_device_mb"] is None
    assert "torch" in result["versions"]
    json.dumps(result, allow_nan=False)


def test_all_are_tested():
    (mark,) = test_every_measurement_runs.pytestmark
    assert set(mark.args[1]) == set(bench.MEASUREMENTS)


def test_the_command_prints_a_line_and_saves_where_asked(cache, tmp_path):
    options = ("--only", "bce", "--steps", 2, "--repeats", 1, "--results", tmp_path / "results")
    done = command(*options, "--set", *SMALL, cache=cache)
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[-1].split()
    assert line[:2] == ["bce", "float32"]
    assert any(word.endswith("x") for word in line)
    saved = json.loads((tmp_path / "results" / "bench.json").read_text())["bce"]
    assert f"{saved['ratio']:.2f}x" in line
    assert "timed on 2 steps" in done.stdout


def test_what_the_user_can_mend(cache, capsys):
    for arguments, said in (
        (["--only", "ce"], "no measurement is named 'ce'"),
        (["--repeats", "0"], "--repeats"),
        (["--steps", "0"], "--steps"),
        (["--device", "cuda"], "torch sees no GPU here"),
    ):
        assert bench.main(arguments) == 2
        assert said in capsys.readouterr().err
    # These are found out in the process that measures; they come back as a line.
    for setting, said in (("no.such=1", "no.such"), ("dataset.source.n_users=0", "n_users")):
        found = bench._measure("bce", bench.Asked(1, 1, None, (*SMALL, setting)))
        assert isinstance(found, str)
        assert said in found
        assert len(found.splitlines()) == 1
    done = command("--only", "bce", "--steps", 1, "--set", *SMALL, "dataset.source.n_users=0", cache=cache)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_benchmark_does_not_begin_by_fetching(cache, monkeypatch):
    from recsys_lt.data.dataset import Dataset

    loaded = []
    monkeypatch.setattr(Dataset, "load", lambda self, announce: loaded.append(self.name))
    _, _, note = bench.loaded((), bench.Asked(1, 1, None, ()))
    assert (loaded, note) == (["synthetic"], "made up, with Beauty's sizes")
    (cache / "downloads" / "beauty").mkdir(parents=True)
    _, _, note = bench.loaded((), bench.Asked(1, 1, None, ()))
    assert (loaded, note) == (["synthetic", "beauty"], "beauty")


def test_blocks_cover_a_batch():
    from studies.speed.floors import heights

    assert sum(heights(3008, 12101)) == 3008
    assert max(heights(3008, 12101)) == 173
    assert heights(3008, 500) == [3008]
