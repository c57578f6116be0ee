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

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement

from recsys_lt.runs.packed import content
from recsys_lt.runs.ranks import read_ranks
from studies.published.run_cells import command

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20

#: What such a machine has, with all that these need; not Hydra, OmegaConf, pydantic, pooch, pytest or W&B.
STOCK = ("torch", "pytorch-lightning", "transformers", "peft", "pandas", "pyarrow", "scipy", "matplotlib", "pip")
ABSENT = ("hydra", "omegaconf", "antlr4", "pydantic", "pooch", "platformdirs", "pytest", "wandb", "recsys_lt")

#: Python keeps what it compiled of a tree beside it, for the twenty processes that start from it.
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}

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
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
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
        environment = dict(os.environ) | COMPILED | {"OMP_NUM_THREADS": "1", "RECSYS_LT_NATIVE": "0"}
        environment.pop("PYTHONPATH", None)
        day = self.folder / "tree" / "studies" / "gpu_day" / "day.py"
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
        places = ["--cells", "cells.yaml", "--runs", "kept.parquet", "--state", "state"]
        done = subprocess.run(
            [sys.executable, tree / "studies" / "gpu_day" / "day.py", command, *arguments, *places],
            cwd=tmp_path,  # paths are relative, as a person types them
            env=dict(os.environ) | COMPILED | {"PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.tree = tree
    run.parcel = lambda: run("parcel", "--out", "day", "--wheels", "wheels")
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
    """The slow cell as run_cells.py runs it, never stopped."""
    environment = (
        dict(os.environ) | COMPILED | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "RECSYS_LT_NATIVE": "0"}
    )
    started = command(SLOW, folder, ["strategy=cpu"])
    subprocess.run(started, cwd=tree, env=environment, check=True, capture_output=True)
    return folder


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

    # It receives SIGTERM after the first epoch of the slow cell.
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

    kept, plain = tmp_path / "kept.parquet" / "slow", plain_run(here.tree, tmp_path / "plain")
    found, expected = (json.loads(content(folder / "metrics.json")) for folder in (kept, plain))
    assert found["test"] == expected["test"]
    assert found["best_epoch"] == expected["best_epoch"]
    assert flat_keys(found) == flat_keys(expected)
    assert found["versions"]["commit"] == expected["versions"]["commit"]
    assert all(map(np.array_equal, *(read_ranks(folder / "ranks.parquet") for folder in (kept, plain))))

    stages = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "state" / "stages").glob("*.json")}
    assert sorted(stages) == ["bench", "compiled", "found", "llm", "long_tests", "side_by_side", "tests"]
    assert not any(stage["cut"] or stage["code"] for stage in stages.values()), second.said()
    assert {part["outcome"] for part in stages["tests"]["parts"].values()} == {"skipped"}
    assert stages["bench"]["parts"]["eisam"]["ratio"] > 1
    assert stages["side_by_side"]["parts"]["best"]["number"] in (1, 2)
    llm = stages["llm"]["parts"]
    assert [llm[name]["code"] for name in llm] == [0, 0, 2, 2]
    assert "needs 1 GPU" in llm["E4SRec, FSDP"]["said"]


def flat_keys(value, prefix=""):
    if not isinstance(value, dict):
        return {prefix}
    return {key for name, part in value.items() for key in flat_keys(part, f"{prefix}/{name}")}
