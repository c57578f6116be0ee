"""The speed study's scripts on small data: what they measure, print and save, and what they refuse in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from studies.speed import bench, ce_forms, cost_curves, scale_data, scale_items

ROOT = Path(__file__).resolve().parents[2]
# More items than the losses' 500 negatives.
SMALL = ("dataset=synthetic", "dataset.source.n_users=60", "dataset.source.n_items=600", "trainer.batch_rows=16")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache(prepared, monkeypatch):
    monkeypatch.setenv("RECSYS_LT_CACHE", str(prepared))
    return prepared


@pytest.fixture
def in_this_process(monkeypatch):
    """A measurement begins with everything imported; a test below starts a real process."""
    for script in (bench, cost_curves, scale_data, scale_items):
        monkeypatch.setattr(script, "alone", lambda function, *arguments: function(*arguments))


def refused(script, capsys, *arguments):
    assert script.main([str(argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


# bench.py


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
        "bert4rec-ce",
        "cotten4rec-ce",
        "linrec-ce",
        "causal_linrec-ce",
        "hstu-ce",
        "adamw",
        "sam",
        "eisam",
        "eisam-stale",
        "eisam-every-4",
        "evaluate",
        "evaluate-lists-20",
    ],
)
def test_every_measurement_runs(name):
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
    script = ROOT / "studies" / "speed" / "bench.py"
    options = ("--only", "bce", "--steps", "2", "--repeats", "1", "--results", str(tmp_path / "results"))
    done = subprocess.run(
        [sys.executable, str(script), *options, "--set", *SMALL],
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[-1].split()
    assert line[:2] == ["bce", "float32"]
    assert any(word.endswith("x") for word in line)
    saved = json.loads((tmp_path / "results" / "bench.json").read_text())["bce"]
    assert f"{saved['ratio']:.2f}x" in line
    assert "timed on 2 steps" in done.stdout


def test_what_bench_refuses(in_this_process, capsys):
    for arguments, said in (
        (["--only", "ce"], "no measurement is named 'ce'"),
        (["--repeats", "0"], "--repeats"),
        (["--steps", "0"], "--steps"),
        (["--device", "cuda"], "torch sees no GPU here"),
        # These are found out in the process that measures; they come back as a line.
        (["--only", "bce", "--steps", "1", "--set", *SMALL, "no.such=1"], "no.such"),
        (["--only", "bce", "--steps", "1", "--set", *SMALL, "dataset.source.n_users=0"], "n_users"),
    ):
        assert said in refused(bench, capsys, *arguments)


def test_a_benchmark_does_not_begin_by_fetching(tmp_path, monkeypatch):
    from recsys_lt.data.dataset import Dataset

    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path))
    loaded = []
    monkeypatch.setattr(Dataset, "load", lambda self, announce: loaded.append(self.name))
    _, _, note = bench.loaded((), bench.Asked(1, 1, None, ()))
    assert (loaded, note) == (["synthetic"], "made up, with Beauty's sizes")
    (tmp_path / "downloads" / "beauty").mkdir(parents=True)
    _, _, note = bench.loaded((), bench.Asked(1, 1, None, ()))
    assert (loaded, note) == (["synthetic", "beauty"], "beauty")


def test_blocks_cover_a_batch():
    from studies.speed.floors import heights

    assert sum(heights(3008, 12101)) == 3008
    assert max(heights(3008, 12101)) == 173
    assert heights(3008, 500) == [3008]


# ce_forms.py


def test_all_forms_are_the_same_loss():
    torch.manual_seed(0)
    states, table, targets = torch.randn(20, 8), torch.randn(50, 8), torch.randint(50, (20,))
    answers = []
    for form in ce_forms.forms().values():
        leaves = [x.clone().requires_grad_() for x in (states, table)]
        value = form(*leaves, targets).sum()
        answers.append((value, *torch.autograd.grad(value, leaves)))
    assert len(answers) == 2 + hasattr(torch.nn.functional, "linear_cross_entropy")
    for other in answers[1:]:
        for one, two in zip(answers[0], other, strict=True):
            torch.testing.assert_close(one, two)


def test_ce_forms_prints_a_line_a_form(capsys):
    assert ce_forms.main(["--rows", "20", "--items", "50", "--width", "8", "--repeats", "1"]) == 0
    said = capsys.readouterr().out
    for form in (*ce_forms.forms(), "floor"):
        assert form in said


def test_what_ce_forms_refuses(capsys):
    for arguments in (["--rows", "0"], ["--items", "1"], ["--device", "cuda"]):
        refused(ce_forms, capsys, *arguments)


# cost_curves.py


@pytest.fixture
def small_curves(in_this_process, monkeypatch):
    middle = {cost_curves.ITEMS: 300, cost_curves.K: 20, cost_curves.BATCH: 16, cost_curves.LENGTH: 9}
    axes = {cost_curves.ITEMS: (200, 400), cost_curves.K: (5, 10), cost_curves.BATCH: (8, 16)}
    monkeypatch.setattr(cost_curves, "DATA", ("dataset=synthetic", "dataset.source.n_users=80"))
    monkeypatch.setattr(cost_curves, "MIDDLE", middle)
    monkeypatch.setattr(cost_curves, "AXES", axes)


@pytest.mark.usefixtures("small_curves")
def test_cost_curves_measures_saves_and_draws(tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(cost_curves.compare, "installed", lambda *_: None)
    monkeypatch.setattr(cost_curves.compare, "export", lambda *_: "made up")

    def run_peer(peer, given, data, rows):
        asked.append((peer.folder, given.overrides, rows))
        return {"seconds": 2.0, "targets": 1000}

    monkeypatch.setattr(cost_curves.compare, "run_peer", run_peer)
    options = ["--axes", "items", "k", "batch", "--peers", "recbole", "replay", "--steps", "1"]
    assert cost_curves.main([*options, "--results", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "cost-curves.json").read_text())
    curves = result["microseconds_a_target"]
    ours = {cost_curves.CE, cost_curves.OWN, cost_curves.SHARED}
    assert {axis: set(by_name) for axis, by_name in curves.items()} == {
        cost_curves.ITEMS: {*ours, "recbole", "replay"},
        cost_curves.K: ours,
        cost_curves.BATCH: {*ours, "recbole", "replay"},
    }
    assert curves[cost_curves.ITEMS]["replay"] == {"200": 2000.0, "400": 2000.0}
    assert list(curves[cost_curves.K][cost_curves.CE]) == ["5", "10"]
    # A row of RecBole's is a prefix: as many as 16 users have targets.
    assert {rows for folder, _, rows in asked if folder == "recbole"} == {16 * 6, 8 * 6}
    assert all("loss.k" not in " ".join(overrides) for _, overrides, _ in asked)
    assert (tmp_path / "cost-curves.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count("us a target") == 6


@pytest.mark.usefixtures("small_curves")
def test_what_does_not_fit_is_left_out(monkeypatch):
    monkeypatch.setattr(cost_curves, "LARGEST", 0.0)
    assert cost_curves.theirs("replay", cost_curves.Point(cost_curves.ITEMS, 400), 1, None) is None


def test_what_cost_curves_refuses(tmp_path, capsys):
    for arguments in (["--steps", "0"], ["--peers", "nobody"], ["--peers", "replay", "--environments", tmp_path]):
        refused(cost_curves, capsys, *arguments)


# scale_items.py and scale_data.py


@pytest.mark.usefixtures("in_this_process")
def test_scale_items_measures_prints_saves_and_draws(tmp_path, capsys):
    # 7 times 3,000 rows of 64 numbers are 5.4 MB: beyond what is allowed here, like ten million rows elsewhere.
    options = "--sizes 3000 1000 --rounds 1 --steps 2 --users 60 --memory 0.004 --rank 1000"
    settings = ["--set", "trainer.batch_rows=16", "trainer.rank_rows=16"]
    assert scale_items.main([*options.split(), "--results", str(tmp_path), *settings]) == 0
    result = json.loads((tmp_path / "scale-items.json").read_text())
    assert (tmp_path / "scale-items.png").read_bytes().startswith(b"\x89PNG")
    lazy = result["seconds_a_step"]["sce, lazy adam"]
    assert list(lazy) == ["1000", "3000"]
    assert result["ratio_to_smallest"]["sce, lazy adam"]["3000"] == lazy["3000"] / lazy["1000"]
    assert all(len(rounds) == 1 for rounds in result["rounds"].values())
    assert result["memory"]["3000"]["table_and_moments_mb"] == 3 * 3000 * 64 * 4 / 2**20
    memory = result["memory"]["3000"]
    assert memory["peak_rss_mb"] > memory["before_model_mb"] - 1 > 10  # the system counts pages late
    for variant in ("sce, dense adam", "ce, dense adam"):
        assert list(result["seconds_a_step"][variant]) == ["1000"]
        assert "more than 0.004" in result["left_out"][variant]["3000"]
    assert result["ranking"]["users"] == 60
    assert result["ranking"]["items"] == 1000
    lines = capsys.readouterr().out.splitlines()
    largest = next(line for line in lines if line.startswith("sce, lazy adam") and " 3,000 items " in line)
    assert f"{lazy['3000'] / lazy['1000']:.2f}x the smallest" in largest
    assert "ranking 60 users over 1,000 items" in lines[-1]


@pytest.mark.usefixtures("in_this_process")
def test_what_scale_items_refuses(tmp_path, capsys):
    single = refused(scale_items, capsys, "--users", 30, "--sizes", 1000, "--rank", 0, "--results", tmp_path)
    assert single.startswith("error: --users 30: they make one batch of 512")
    for option in ("--rounds", "--sizes"):
        assert option in refused(scale_items, capsys, option, 0, "--results", tmp_path)


linux = pytest.mark.skipif(sys.platform != "linux", reason="the script reads /proc")


@linux
@pytest.mark.usefixtures("in_this_process")
def test_scale_data_prepares_and_trains(tmp_path, capsys):
    file = tmp_path / "result.json"
    options = "--sizes 24000 --items 600 --steps 2"
    assert scale_data.main([*options.split(), "--results", str(file), "--cache", str(tmp_path / "c")]) == 0
    lines = capsys.readouterr().out.splitlines()
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


@linux
@pytest.mark.parametrize("arguments", [("--sizes", 3), ("--steps", -1)])
def test_what_scale_data_refuses(capsys, arguments):
    refused(scale_data, capsys, *arguments)
