"""What must be made before a run: declared by a model or loss, made once, shared by content, refused in circles."""

import json
import signal
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.end_to_end.conftest import Cli, environment, here

__all__ = ["environment", "here"]

MODULE = """
from collections.abc import Mapping
from dataclasses import dataclass
import os
from typing import Any
import numpy as np
import torch
from recsys_lt.backbones.backbone import Backbone
from recsys_lt.backbones.sasrec import SASRec
from recsys_lt.data.needs import Artifact, TrainedRun, starting_point
from recsys_lt.losses.ce import CE

@dataclass(frozen=True)
class Codes(Artifact):
    levels: int
    trained: str = "sasrec"

    def needs(self):
        return {"vectors": TrainedRun(None, self.trained, "ce", Backbone)}

    def make(self, data, needs, folder):
        if os.environ.get("STOP_CODES"):
            (folder / "half").write_text("half")
            os.kill(os.getpid(), 15)
            raise KeyboardInterrupt
        weight = needs["vectors"].output_table().weight
        np.save(folder / "codes.npy", (weight[:, : self.levels] > 0).long().numpy())

    def load(self, folder):
        return torch.from_numpy(np.load(folder / "codes.npy"))

@dataclass(frozen=True)
class Graph(Artifact):
    def make(self, data, needs, folder):
        np.save(folder / "graph.npy", np.stack([data.items[:-1], data.items[1:]]))
        np.save(folder / "noise.npy", torch.rand(3).numpy())

    def load(self, folder):
        assert not (folder / "half").exists()
        return np.load(folder / "graph.npy")

class Both(SASRec):
    def __init__(self, facts, *, levels, **options):
        super().__init__(facts, **options)
        self.register_buffer("codes", facts.needs["codes"])
        assert facts.needs["graph"].shape[0] == 2

    @classmethod
    def needs(cls, options, start_from):
        return {"codes": Codes(options["levels"]), "graph": Graph()}

class Itself(SASRec):
    @classmethod
    def needs(cls, options, start_from):
        return {"codes": Codes(2, "itself")}

@dataclass(frozen=True)
class Snake(Artifact):
    def needs(self):
        return {"tail": self}

    def make(self, data, needs, folder):
        raise AssertionError

    def load(self, folder):
        raise AssertionError

class Snakes(SASRec):
    @classmethod
    def needs(cls, options, start_from):
        return {"snake": Snake()}

class Compared(CE):
    @classmethod
    def needs(cls, options, start_from):
        return {"reference": starting_point(start_from, Backbone)}

    def prepare(self, counts, needs=None):
        self.reference = needs["reference"]
        assert not any(p.requires_grad for p in self.reference.parameters())
        assert not self.reference.training
"""
SMALL = (
    "dataset=synthetic", "dataset.source.n_users=60", "dataset.source.n_items=40", "trainer.max_epochs=1",
    "logger=none", "strategy=cpu", "trainer.batch_rows=32", "--config-dir=mine",
)  # fmt: skip
BOTH = (*SMALL, "model=both")
GO_ON = ("--config-dir=mine", "--trust", "needy_models")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of models, and their choices."""
    (tmp_path / "needy_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "needy_models", raising=False)
    choices = tmp_path / "mine" / "model"
    choices.mkdir(parents=True)
    for name, more in (("both", "levels: 2"), ("itself", ""), ("snakes", "")):
        sizes = "width: 8\nblocks: 1\nheads: 1\nmax_length: 9\ndropout: 0.1"
        text = f"_target_: needy_models.{name.capitalize()}\n_partial_: true\n{sizes}\n{more}\n"
        (choices / f"{name}.yaml").write_text(text)
    return tmp_path


def done(here: Cli, place: Path, *arguments: str) -> str:
    ended = here(*arguments, cwd=place)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_model_of_two_artifacts_one_of_which_needs_a_trained_run(here: Cli, place: Path) -> None:
    said = done(here, place, *BOTH, "hydra.run.dir=run")
    assert [said.count(f"{name} is made first") for name in ("sasrec_ce", "Codes", "Graph")] == [1, 1, 1]
    folder = place / "run"
    assert sorted(path.name for path in (folder / "needs").iterdir()) == ["model.codes", "model.graph"]
    names = sorted(path.name.partition("_")[0] for path in (folder / ".needs").iterdir() if path.is_dir())
    assert names == ["Codes", "Graph", "sasrec"]
    assert "is made first" not in done(here, place, "resume", "run", "trainer.max_epochs=2", *GO_ON)
    folder.rename(place / "moved")
    moved = here("resume", "moved", "trainer.max_epochs=3", *GO_ON, cwd=place)
    assert moved.returncode == 0, moved.stderr


def test_cells_share_by_content(here: Cli, place: Path) -> None:
    said = done(here, place, "-m", *BOTH, "optimizer.lr=0.001,0.01", "model.levels=2,3", "hydra.sweep.dir=sweep")
    assert [said.count(f"{name} is made first") for name in ("sasrec_ce", "Codes", "Graph")] == [1, 2, 1]
    cells = [path for path in (place / "sweep").iterdir() if (path / "metrics.json").is_file()]
    assert len(cells) == 4
    assert len({(cell / "needs" / "model.codes").resolve() for cell in cells}) == 2
    assert len({(cell / "needs" / "model.graph").resolve() for cell in cells}) == 1


def test_made_after_a_stop_it_is_what_it_would_have_been(
    here: Cli, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(here, place, *BOTH, "hydra.run.dir=whole")
    monkeypatch.setenv("STOP_CODES", "1")
    assert here(*BOTH, "hydra.run.dir=run", cwd=place).returncode == 128 + signal.SIGTERM
    assert not (place / "run" / "metrics.json").exists()
    monkeypatch.delenv("STOP_CODES")
    said = done(here, place, "resume", "run", *GO_ON)
    assert "sasrec_ce is made first" not in said
    assert "Codes is made first" in said
    whole, run = (json.loads((place / name / "metrics.json").read_text())["test"] for name in ("whole", "run"))
    assert whole == run
    assert not list((place / "run" / ".needs").glob(".*"))


@pytest.mark.parametrize(
    ("model", "said"), [("itself", "Codes needs model=itself loss=ce needs Codes"), ("snakes", "Snake needs Snake")]
)
def test_a_circle_is_refused_before_anything_is_made(here: Cli, place: Path, model: str, said: str) -> None:
    ended = here(*SMALL, f"model={model}", "hydra.run.dir=run", cwd=place)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert not (place / "run").exists()


def test_a_loss_that_compares_with_the_starting_point(here: Cli, place: Path) -> None:
    loss = (*SMALL, "loss._target_=needy_models.Compared")
    ended = here(*loss, "hydra.run.dir=alone", cwd=place)
    assert ended.returncode == 2
    assert "Give the run folder of a trained model" in ended.stderr
    done(here, place, *SMALL, "hydra.run.dir=first")
    done(here, place, *loss, "model.start_from=first", "hydra.run.dir=second")
    assert OmegaConf.load(place / "second" / "config.yaml").model.start_from == str(place / "first")
    done(here, place, "resume", "second", "trainer.max_epochs=2", *GO_ON)
