"""What a GPU day is made of, part by part; ``test_gpu_day.py`` has it as a whole."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from recsys_lt.errors import UserError
from recsys_lt.runs.packed import content, runs_in
from studies.gpu_day import at_once, day, grid, packed, work
from studies.gpu_day import parcel as parcels
from studies.gpu_day.at_once import Clock
from studies.gpu_day.collect import FINISHED, Places, collect
from studies.gpu_day.stage import Stage
from studies.gpu_day.stage_bench import beside
from studies.shared.kept import is_finished

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20

QUICK, SLOW = (
    {"cell": name, "choose": {"dataset": "synthetic", "model": model, "loss": "ce", "seed": 0}}
    for name, model in (("quick", "sasrec"), ("slow", "gru4rec"))
)


def made_run(folder, epochs, cell=QUICK, finished=None, **files):
    """A run folder of a cell after so many epochs."""
    folder.mkdir(parents=True)
    rows = ["epoch,seconds,eval_seconds", "0,,0.5", *(f"{epoch},2.0,0.5" for epoch in range(1, epochs + 1))]
    (folder / "learning_curve.csv").write_text("\n".join(rows))
    (folder / "config.yaml").write_text("seed: 0\n")
    for name, state in files.items():
        (folder / f"{name}.ckpt").write_bytes(state)
    if finished is not None:
        about = cell["choose"] | {"optimizer": "adam", "test": {"ndcg@10": 0.1}, "finished": finished}
        about |= {"train": {"device": "cuda:0"}, "versions": {"commit": None}}
        (folder / "metrics.json").write_text(json.dumps(about))
        pd.DataFrame({"user": [0], "target": [1], "rank": [2]}).to_parquet(folder / "ranks.parquet")
    return folder


def packed_up(out, runs, cells, **limits):
    """What work packs of these run folders; the names left out."""
    units = [
        packed.Unit(f"{'done' if is_finished(runs / cell['cell']) else 'runs'}/{cell['cell']}",
                    tuple((runs / cell["cell"]).iterdir()))
        for cell in cells
    ]  # fmt: skip
    return packed.pack(out, units, {"commit": "abc"}, **limits)


def test_what_comes_back_is_put_where_it_belongs(tmp_path):
    there, places = tmp_path / "there", Places(tmp_path / "kept.parquet", tmp_path / "state")
    timed = QUICK | {"cell": "timed", "alone": True}
    made_run(there / "quick", 2, finished=True)
    made_run(there / "slow", 3, last=b"3")
    made_run(there / "timed", 2, finished=True)
    packed_up(tmp_path / "out", there, [QUICK, SLOW, timed])
    made_run(places.state / "runs" / "quick", 1, last=b"1")
    made_run(places.state / "runs" / "slow", 1, last=b"1")
    lines = collect(tmp_path / "out", [QUICK, SLOW, timed], places)
    assert sorted(line.partition(":")[0] for line in lines) == ["quick", "slow", "timed"]
    assert [path.name for path in runs_in(places.runs)] == ["quick"]  # "timed" is a measurement alone
    assert json.loads(content(places.runs / "quick" / "metrics.json"))["versions"]["commit"] == "abc"
    assert [path.name for path in runs_in(places.state / FINISHED)] == ["timed"]
    assert (places.state / "runs" / "slow" / "last.ckpt").read_bytes() == b"3"
    assert not (places.state / "runs" / "quick").exists()  # it is done
    # The same again, when what is here is further: nothing changes.
    shutil.rmtree(places.state / "runs" / "slow")
    made_run(places.state / "runs" / "slow", 4, last=b"4")
    before = places.runs.read_bytes()
    said = "\n".join(collect(tmp_path / "out", [QUICK, SLOW, timed], places))
    assert "quick: was kept before, left as it is" in said
    assert "slow: 3 epochs, 4 are here already" in said
    assert places.runs.read_bytes() == before
    assert (places.state / "runs" / "slow" / "last.ckpt").read_bytes() == b"4"


def test_runs_with_other_settings_are_never_taken_for_the_published_cells(tmp_path, capsys):
    packed.pack(tmp_path, [], {"commit": "abc", "overrides": ["trainer.max_epochs=1"]})
    with pytest.raises(UserError, match=r"run with other settings \(trainer.max_epochs=1\)"):
        collect(tmp_path, [QUICK], Places(tmp_path / "kept", tmp_path / "state"))
    assert collect(tmp_path, [QUICK], Places(tmp_path / "kept", tmp_path), ["trainer.max_epochs=1"]) == []
    assert day.main(["left", "--set", "trainer.max_epochs=1", "--state", str(tmp_path)]) == 2
    assert "Give folders of their own with --runs and --state" in capsys.readouterr().err
    for _ in range(2):
        work._check_place(tmp_path / "there" / "overrides.json", [])
    with pytest.raises(UserError, match="runs with other settings are there"):
        work._check_place(tmp_path / "there" / "overrides.json", ["trainer.max_epochs=1"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loss": "sce"}, "it is another run (loss)"),
        ({"finished": False}, "it is not finished"),
        ({"test": {"ndcg@10": "high"}}, "left out ("),
    ],
)
def test_another_run_under_a_cell_s_name_is_left_out(tmp_path, change, said):
    run = made_run(tmp_path / "there" / "quick", 2, finished=True)
    metrics = json.loads((run / "metrics.json").read_text()) | change
    (run / "metrics.json").write_text(json.dumps(metrics))
    unit = packed.Unit("done/quick", tuple(run.iterdir()))
    packed.pack(tmp_path / "out", [unit, packed.Unit("done/unknown", unit.files)], {"commit": "abc"})
    lines = collect(tmp_path / "out", [QUICK], Places(tmp_path / "kept", tmp_path / "state"))
    assert said in lines[0]
    assert lines[1] == "unknown: no cell has this name, left out"
    assert not (tmp_path / "kept").exists()


def test_an_archive_keeps_the_limits_and_a_broken_one_gives_what_is_whole(tmp_path):
    out = tmp_path / "out"
    for name in ("quick", "slow"):
        made_run(tmp_path / "there" / name, 1, last=os.urandom(3 * MIB), best=os.urandom(MIB))
    limits = {"most": 10 * MIB, "piece": MIB}
    assert packed_up(out, tmp_path / "there", [QUICK, SLOW], **limits) == ["runs/slow"]  # 4 of 10 are for the list
    assert len(list(out.iterdir())) == 5
    assert max(path.stat().st_size for path in out.iterdir()) <= MIB
    whole = packed.unpack(out, tmp_path / "whole")
    assert (whole["whole"], whole["left_out"]) == (["runs/quick"], ["runs/slow"])
    # Fewer pieces than before: nothing of the earlier archive stays.
    limits["most"] = 14 * MIB
    assert packed_up(out, tmp_path / "there", [QUICK, SLOW], **limits) == []
    (out / "gpu_day.6").unlink()  # the writer was killed
    found = packed.unpack(out, tmp_path / "broken")
    assert found["whole"] == ["runs/quick"]
    packed_up(out, tmp_path / "there", [])
    assert [path.name for path in out.iterdir()] == ["gpu_day.0"]
    with pytest.raises(UserError, match="nothing of a GPU day is in it"):
        collect(tmp_path, [], Places(tmp_path, tmp_path))


def test_datasets_that_do_not_fit_into_one_parcel_are_shared_out():
    sizes = {"beauty": 3 * MIB, "yelp": 2 * MIB, "ml-1m": 4 * MIB}
    assert parcels._shared_out(sizes, 9 * MIB) == [["beauty", "yelp", "ml-1m"]]
    assert parcels._shared_out(sizes, 5 * MIB) == [["beauty", "yelp"], ["ml-1m"]]
    with pytest.raises(UserError, match=r"ml-1m: its files and prepared copy are 4\.0 MiB, and 3\.5 MiB are free"):
        parcels._shared_out(sizes, 7 * MIB // 2)


def test_a_parcel_carries_what_unfinished_cells_reached_as_far_as_there_is_room(tmp_path):
    made_run(tmp_path / "runs" / "quick", 2, last=b"x" * MIB)
    made_run(tmp_path / "runs" / "slow", 1, last=b"x" * MIB)
    left_out = parcels._carry_state([QUICK, SLOW], tmp_path / "runs", tmp_path / "parcel", 3 * MIB // 2)
    assert left_out == ["slow"]
    assert [path.name for path in (tmp_path / "parcel").iterdir()] == ["quick"]


def test_the_grid_is_the_published_cells_in_order_of_worth():
    cells = yaml.safe_load(grid.CELLS.read_text(encoding="utf-8"))
    found, without = grid.grid(cells)
    assert len(found) + len(without) == 75  # five models, five losses, three datasets
    kinds = [tuple(cell["choose"].values()) for cell in found]
    assert kinds[0] == ("beauty", "sasrec", "ce", 0)
    assert len(set(kinds)) == len(kinds)
    first_sampled = next(i for i, kind in enumerate(kinds) if kind[2] not in ("ce", "sce"))
    assert all(kind[2] not in ("ce", "sce") for kind in kinds[first_sampled:])
    assert all("bsarec" in name for name in without)


def test_the_report_of_what_is_left(tmp_path):
    cells = [dict(QUICK, cell=name, epochs=10) for name in ("done", "begun", "new")]
    other = dict(SLOW, epochs=5)
    made_run(tmp_path / "done", 10, finished=True)
    made_run(tmp_path / "begun", 4)
    said = grid.report([*cells, other], [tmp_path], "cuda", 2, ["beauty_bsarec_sce"])
    assert said.splitlines() == [
        "done: 1 of 4 cells",
        "left: 3 cells",
        "  begun: 4 of 10 epochs, 2.50 s an epoch, 0 min 15 s left",
        "  new: 0 of 10 epochs, 2.50 s an epoch (of a similar cell), 0 min 25 s left",
        "  slow: 0 of 5 epochs, seconds an epoch not measured",
        "these take about 0 min 20 s with 2 at once",
        "not known of 1 of them: nothing like them was measured on this kind of device",
        "left out, no published setting: beauty_bsarec_sce",
    ]
    # Seconds of a processor say nothing of a GPU.
    shutil.rmtree(tmp_path / "begun")
    assert "s an epoch," not in grid.report(cells, [tmp_path], "cpu", 2)


def test_a_part_of_a_stage_that_was_cut_short_twice_is_set_aside(tmp_path):
    this = Stage("cpu", tmp_path, tmp_path / "result.json")
    this.each(["good", "bad"], lambda name: {"value": 1} if name == "good" else 1 / 0)
    assert this.parts["good"]["value"] == 1
    assert this.parts["bad"]["reason"] == "ZeroDivisionError: division by zero"
    assert [this.begin("cut") for _ in range(3)] == [True, True, False]
    assert not this.begin("good")


def test_side_by_side_is_one_where_it_was_not_measured(tmp_path):
    assert work.best_number(tmp_path) == 1


def test_compiled_forms_stand_beside_those_as_they_are():
    bench = {"ce-float32": {"milliseconds_per_step": 2.0}, "forms": {"ours": {"milliseconds": 1.0}, "took": 3.0}}
    compiled = {
        "ce-float32": {"milliseconds_per_step": 1.0},
        "forms": {"ours": {"milliseconds": 1.5}, "theirs": {"milliseconds": 1.0}, "took": 3.0},
        "gru4rec-ce": {"reason": "it does not compile"},
    }
    lines = beside(compiled, bench).splitlines()[1:]
    assert [line.split() for line in lines] == [
        ["ce-float32", "2.00", "ms", "1.00", "ms", "0.50x"],
        ["forms:", "ours", "1.00", "ms", "1.50", "ms", "1.50x"],
    ]


class Scripts(at_once.Runs):
    """Runs that are scripts of a second, instead of trainings."""

    SCRIPT = """
import json, pathlib, signal, sys, time
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
signal.signal(signal.SIGTERM, lambda *_: (folder.with_suffix(".stopped").touch(), sys.exit(143)))
folder.with_suffix(".began").write_text(str(time.monotonic()))
if name == "failing":
    sys.exit("it diverged")
while name == "second" and not (folder.parent / "long.began").exists():
    time.sleep(0.01)
time.sleep(60 if name == "long" else 0.1)
folder.mkdir()
(folder / "metrics.json").write_text(json.dumps({"finished": True}))
"""

    def start(self, cell):
        self.log(cell["cell"]).parent.mkdir(exist_ok=True)
        with self.log(cell["cell"]).open("ab") as output:
            arguments = [sys.executable, "-c", self.SCRIPT, self.folder / cell["cell"], cell["cell"]]
            return subprocess.Popen(arguments, stderr=output)


def test_runs_share_the_device_in_order_until_the_minutes_end(tmp_path):
    (tmp_path / "runs").mkdir()
    runs = Scripts(tmp_path / "runs", tmp_path, tmp_path, {}, [])
    cells = [{"cell": name} for name in ("first", "failing", "long", "second", "third")]
    (runs.folder / "third").mkdir()
    (runs.folder / "third" / "metrics.json").write_text('{"finished": true}')  # by an earlier command
    packings = []

    def pack():
        packings.append(sorted(folder.parent.name for folder in runs.folder.glob("*/metrics.json")))
        clock.stopped = "second" in packings[-1]  # as a SIGTERM does; "long" is under way

    clock = Clock(minutes=10)
    start = time.monotonic()
    at_once.run_at_once(cells, 2, runs, clock, pack)
    assert time.monotonic() - start < 50
    began = {file.stem: float(file.read_text()) for file in runs.folder.glob("*.began")}
    assert sorted(began) == ["failing", "first", "long", "second"]
    assert max(began["first"], began["failing"]) < min(began["long"], began["second"])
    assert packings[-1] == ["first", "second", "third"]
    assert runs.failure("failing").read_text().strip() == "it diverged"
    assert not runs.failure("first").exists()
    assert (runs.folder / "long.stopped").exists()


def test_the_minutes_leave_time_to_end_and_to_pack():
    assert 60 * 9 - 46 < Clock(minutes=9).left() < 60 * 9 - 44
    assert Clock(minutes=9).grace() == 30
    assert Clock(minutes=0.1).left() > 0
    assert Clock(minutes=9, stopped=True).left() == 0
