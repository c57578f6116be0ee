"""A GPU day from beginning to end, with the processor as the device, against a stand-in for a borrowed machine."""

import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20

#: What such a machine has, with all that these need; not Hydra, OmegaConf, pydantic, pooch, pytest or W&B.
STOCK = ("torch", "pytorch-lightning", "transformers", "peft", "pandas", "pyarrow", "scipy", "matplotlib", "pip")
ABSENT = ("hydra", "omegaconf", "antlr4", "pydantic", "pooch", "platformdirs", "pytest", "wandb", "recsys_lt")

path = list(sys.path)
sys.path[:0] = [str(ROOT / "benchmarks" / name) for name in ("gpu_day", "", "published")]
import grid  # noqa: E402
import packed  # noqa: E402
import parcel as parcels  # noqa: E402
import work  # noqa: E402
from collect import Places, collect  # noqa: E402
from run_cells import command, keep  # noqa: E402
from stage import Stage  # noqa: E402
from stage_compiled import beside  # noqa: E402

from recsys_lt.errors import UserError  # noqa: E402

sys.path[:] = path

DATA = {"dataset.source.n_users": 200, "dataset.source.n_items": 120}
QUICK = {
    "cell": "quick",
    "choose": {"dataset": "synthetic", "model": "sasrec", "loss": "ce", "seed": 0},
    "set": DATA | {"trainer.max_epochs": 2, "trainer.eval_every": 1},
}
#: Its epochs take seconds: it can be stopped between its first and its second.
SLOW = {
    "cell": "slow",
    "choose": {"dataset": "synthetic", "model": "gru4rec", "loss": "bce", "seed": 0},
    "set": DATA | {"trainer.max_epochs": 2, "trainer.eval_every": 1, "trainer.batch_rows": 8},
}


def needed(names, skipped=()):
    """Installed distributions of these names and all that they need."""
    waiting, found = list(names), {}
    while waiting:
        requirement = Requirement(waiting.pop())
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in found or name in skipped or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # torch without CUDA needs less than it says
        waiting += found[name].requires or []
    return found


def repacked(distribution, folder):
    """The wheel that an installed distribution was made of."""
    tag = re.search(r"^Tag: (.+)$", distribution.read_text("WHEEL"), re.M)[1]
    name = re.sub(r"[-_.]+", "_", distribution.metadata["Name"])
    with zipfile.ZipFile(folder / f"{name}-{distribution.version}-{tag}.whl", "w") as wheel:
        for file in distribution.files:
            if ".." not in file.parts and file.suffix != ".pyc" and file.name not in ("INSTALLER", "REQUESTED"):
                wheel.write(file.locate(), file.as_posix())


def in_copy_of_tree(folder):
    """The tree as it is now, as a clean repository: what is tested need not be committed."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if not name.startswith("docs/") and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "-m", "As it is"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


class There:
    """A machine that is borrowed: nothing but a Python with the stock packages, and what is carried to it."""

    def __init__(self, folder, parcel):
        self.folder = folder
        venv.create(folder / "python", symlinks=True)
        self.python = folder / "python" / "bin" / "python"
        site = next((folder / "python" / "lib").glob("python*/site-packages"))
        for distribution in needed(STOCK, ["pydantic"]).values():
            for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
                if not (site / top).exists():
                    (site / top).symlink_to(Path(distribution.locate_file(top)))
        shutil.copytree(carried(parcel), folder / "parcel")
        subprocess.run(["tar", "xzf", folder / "parcel" / "tree.tar.gz", "-C", folder], check=True)
        self.out = folder / "out"
        self.started = []

    def start(self, *arguments):
        # A processor of one thread, as the run that it is compared with; no compiler; no other packages.
        environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "RECSYS_LT_NATIVE": "0"}
        environment.pop("PYTHONPATH", None)
        day = self.folder / "tree" / "benchmarks" / "gpu_day" / "day.py"
        command = [self.python, day, "work", "--parcel", "parcel", "--out", self.out, "--device", "cpu", *arguments]
        with (self.folder / "output.txt").open("a") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        self.started.append(process.pid)
        return process

    def switch_off(self):
        for group in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def said(self):
        return (self.folder / "output.txt").read_text()


def carried(folder, most=64 * MIB):
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    assert sum(sizes) <= most
    return folder


def brought_back(folder):
    """What a narrow way lets through: all of it, or the test fails."""
    files = [path.relative_to(folder) for path in carried(folder).rglob("*") if path.is_file()]
    assert 0 < len(files) <= 8
    assert all((folder / file).stat().st_size <= 16 * MIB for file in files)
    assert all(len(file.parts) <= 3 and re.fullmatch(r"[\w./-]+", str(file)) for file in files)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Run day.py on this side; what it prints."""
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path / "cache"))
    tree = in_copy_of_tree(tmp_path / "here")
    cells = tmp_path / "cells.yaml"
    cells.write_text(yaml.safe_dump([QUICK, SLOW]))
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    heavy = ("torch", "numpy", "scipy", "pandas", "pyarrow", "matplotlib", "wandb", "pytorch-lightning")
    for distribution in needed(["hydra-core", "pooch", "pydantic", "pytest", "rich"], heavy).values():
        repacked(distribution, wheels)

    def run(command, *arguments):
        places = ["--cells", cells, "--runs", tmp_path / "kept", "--state", tmp_path / "state"]
        done = subprocess.run(
            [sys.executable, tree / "benchmarks" / "gpu_day" / "day.py", command, *arguments, *places],
            env=dict(os.environ) | {"PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.tree, run.cells = tree, cells
    run.parcel = lambda: run("parcel", "--out", tmp_path / "day", "--wheels", wheels)
    return run


@pytest.fixture
def borrow(tmp_path):
    """Borrow a machine with a parcel; all that runs on it ends with the test."""
    borrowed = []

    def machine(name, parcel):
        borrowed.append(There(tmp_path / name, parcel))
        return borrowed[-1]

    yield machine
    for each in borrowed:
        each.switch_off()


def plain_run(tree, folder):
    """The slow cell as run_cells.py runs and keeps it, never stopped."""
    environment = dict(os.environ) | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "RECSYS_LT_NATIVE": "0"}
    started = command(SLOW, folder, ["strategy=cpu"])
    subprocess.run(started, cwd=tree, env=environment, check=True, capture_output=True)
    kept = folder.with_name(f"{folder.name}_kept")
    assert keep(folder, kept)
    return kept


def wait_for(condition, process, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)


def test_rehearsal(here, borrow, tmp_path):
    assert "2 cells on synthetic" in here.parcel()
    parcel = tmp_path / "day" / "parcel_1"
    first = borrow("first", parcel)
    look = f"import importlib.util as u; assert not [name for name in {ABSENT} if u.find_spec(name)]"
    subprocess.run([first.python, "-I", "-c", look], check=True)

    # Its minutes end after the slow cell's first epoch.
    work = first.start("--minutes", "30", "--stages", "found", "grid", "--side-by-side", "1")
    curve = first.folder / "there" / "runs" / "slow" / "learning_curve.csv"
    wait_for(lambda: curve.is_file() and "\n1," in curve.read_text(), work)
    work.send_signal(signal.SIGTERM)
    assert work.wait(300) == 0, first.said()
    report = (brought_back(first.out) / "report.txt").read_text()
    assert "done: 1 of 2 cells" in report
    assert re.search(r"slow: 1 of 2 epochs, \d+\.\d\d s an epoch, 0 min \d\d s left", report)

    said = here("collect", first.out)
    assert re.search(r"quick: done, test NDCG@10 0\.\d+, kept in", said)
    assert "slow: 1 epochs, goes on with the next parcel" in said
    assert "done: 1 of 2 cells\nleft: 1 cells\n  slow: 1 of 2 epochs" in said

    # Another machine, which has nothing of the first.
    assert "1 cells on synthetic" in here.parcel()
    second = borrow("second", parcel)
    work = second.start("--minutes", "30")
    assert work.wait(1200) == 0, second.said()
    said = here("collect", brought_back(second.out))
    assert "slow: done, test NDCG@10" in said
    assert "done: 2 of 2 cells\nleft: 0 cells\n" in said

    kept, plain = tmp_path / "kept" / "slow", plain_run(here.tree, tmp_path / "plain")
    assert sorted(path.name for path in kept.iterdir()) == sorted(path.name for path in plain.iterdir())
    found, expected = (json.loads((folder / "metrics.json").read_text()) for folder in (kept, plain))
    assert found["test"] == expected["test"]
    assert found["best_epoch"] == expected["best_epoch"]
    assert flat_keys(found) == flat_keys(expected)
    assert found["versions"]["commit"] == expected["versions"]["commit"]
    assert (kept / "ranks.parquet").read_bytes() == (plain / "ranks.parquet").read_bytes()

    stages = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "state" / "stages").glob("*.json")}
    assert sorted(stages) == ["bench", "compiled", "found", "llm", "side_by_side", "tests"]
    assert not any(stage["cut"] or stage["code"] for stage in stages.values()), second.said()
    assert {part["outcome"] for part in stages["tests"]["parts"].values()} == {"skipped"}
    assert stages["bench"]["parts"]["eisam"]["ratio"] > 1
    assert stages["side_by_side"]["parts"]["best"]["number"] in (1, 2)
    llm = stages["llm"]["parts"]
    assert [llm[name]["code"] for name in llm] == [0, 0, 2, 2]
    assert "needs 1 GPU" in llm["E4SRec, EISAM, FSDP"]["said"]


def flat_keys(value, prefix=""):
    if not isinstance(value, dict):
        return {prefix}
    return {key for name, part in value.items() for key in flat_keys(part, f"{prefix}/{name}")}


def made_run(folder, epochs, cell=QUICK, finished=None, **files):
    """A run folder of a cell after so many epochs."""
    folder.mkdir(parents=True)
    rows = ["epoch,seconds,eval_seconds", "0,,0.5", *(f"{epoch},2.0,0.5" for epoch in range(1, epochs + 1))]
    (folder / "learning_curve.csv").write_text("\n".join(rows))
    (folder / "config.yaml").write_text("seed: 0\n")
    for name, content in files.items():
        (folder / f"{name}.ckpt").write_bytes(content)
    if finished is not None:
        about = cell["choose"] | {"optimizer": "adam", "test": {"ndcg@10": 0.1}, "finished": finished}
        about |= {"train": {"device": "cuda:0"}, "versions": {"commit": None}}
        (folder / "metrics.json").write_text(json.dumps(about))
        (folder / "ranks.parquet").write_bytes(b"ranks")
    return folder


def packed_up(out, runs, cells, **limits):
    """What work packs of these run folders; the names left out."""
    units = [
        packed.Unit(f"{'done' if grid.finished(runs / cell['cell']) else 'runs'}/{cell['cell']}",
                    tuple((runs / cell["cell"]).iterdir()))
        for cell in cells
    ]  # fmt: skip
    return packed.pack(out, units, {"commit": "abc"}, **limits)


def test_what_comes_back_is_put_where_it_belongs(tmp_path):
    there, places = tmp_path / "there", Places(tmp_path / "kept", tmp_path / "state")
    timed = QUICK | {"cell": "timed", "alone": True}
    made_run(there / "quick", 2, finished=True)
    made_run(there / "slow", 3, last=b"3")
    made_run(there / "timed", 2, finished=True)
    packed_up(tmp_path / "out", there, [QUICK, SLOW, timed])
    made_run(places.state / "runs" / "quick", 1, last=b"1")
    made_run(places.state / "runs" / "slow", 1, last=b"1")
    lines = collect(tmp_path / "out", [QUICK, SLOW, timed], places)
    assert sorted(line.partition(":")[0] for line in lines) == ["quick", "slow", "timed"]
    assert sorted(path.name for path in places.runs.iterdir()) == ["quick"]  # "timed" is a measurement alone
    assert json.loads((places.runs / "quick" / "metrics.json").read_text())["versions"]["commit"] == "abc"
    assert (places.state / "finished" / "timed" / "metrics.json").is_file()
    assert (places.state / "runs" / "slow" / "last.ckpt").read_bytes() == b"3"
    assert not (places.state / "runs" / "quick").exists()  # it is done
    # The same again, when what is here is further: nothing changes.
    shutil.rmtree(places.state / "runs" / "slow")
    made_run(places.state / "runs" / "slow", 4, last=b"4")
    (places.runs / "quick" / "metrics.json").write_text("{}")
    said = "\n".join(collect(tmp_path / "out", [QUICK, SLOW, timed], places))
    assert "quick: was kept before, left as it is" in said
    assert "slow: 3 epochs, 4 are here already" in said
    assert (places.runs / "quick" / "metrics.json").read_text() == "{}"
    assert (places.state / "runs" / "slow" / "last.ckpt").read_bytes() == b"4"


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
