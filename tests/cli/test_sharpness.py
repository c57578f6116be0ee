"""The landscape around a model against its gradient; the command on a run folder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import recsys_lt
from recsys_lt.cli import sharpness
from recsys_lt.data.loader import Share, TrainBatches
from recsys_lt.metrics.groups import ItemGroups
from recsys_lt.optim.eisam import EISAM
from recsys_lt.recommenders.step_closure import StepClosure
from recsys_lt.results.loss_landscape import LossLandscape, measure
from recsys_lt.training.trained import Run
from tests.end_to_end.conftest import dots_for_pictures

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    choices = (
        "dataset=synthetic", "dataset.source.n_users=150", "dataset.source.n_items=60", "trainer.max_epochs=3",
        "trainer.batch_rows=64", "model.width=8", "loss=sce", "loss.k=20", "logger=none", "strategy=cpu",
        f"dataset.cache_dir={place / 'cache'}",
    )  # fmt: skip
    with dots_for_pictures():
        return recsys_lt.train(*choices, folder=place / "run").folder


@pytest.fixture(scope="module")
def landscape(folder):
    run = Run(folder)
    module = run.model
    batches = TrainBatches(run.data, module.task, 64, 0, Share(), False)
    return LossLandscape(module, [batches[0, step] for step in range(2)], ItemGroups(run.data.popularity).of)


def test_the_rise_is_the_gradients_length_to_first_order(landscape):
    ones = torch.ones(60)
    length = torch.stack([g.norm() for g in landscape.gradient(ones)]).norm()
    here = landscape.means()["all"]
    with landscape.moved(landscape.step_along(ones), 1e-2):
        there = landscape.means()["all"]
    assert (there - here) / 1e-2 == pytest.approx(float(length), rel=0.02)
    assert landscape.means()["all"] == here


def test_no_direction_of_the_same_length_rises_faster_than_a_groups_own(landscape):
    found = measure(landscape, torch.linspace(0.5, 2, 60), (1e-3,))
    for group in ("head", "mid", "tail"):
        rises = {direction: by_radius["0.001"][group] for direction, by_radius in found["rise"].items()}
        assert max(rises, key=rises.get) == group
        assert rises[group] > 0
    assert found["neighbourhood"] is None


@pytest.mark.parametrize("form", ["exact", "rowwise"])
def test_a_rules_neighbourhood_is_where_it_looks_in_training(landscape, folder, form):
    run = Run(folder)
    rule = EISAM(torch.optim.Adam, 1e-3, rho=1e-3, form=form, perturb="table", scale="tensor", rows="all")
    counts = torch.from_numpy(run.data.popularity)
    parameters = {name: p for name, p in landscape.module.named_parameters() if p.requires_grad}
    rule.prepare(parameters, landscape.module.item_tables(), counts)
    before = [p.detach().clone() for p in landscape.parameters]
    seen = []

    def evaluate(weights):
        seen.append([p.detach() - was for p, was in zip(landscape.parameters, before, strict=True)])
        return closure(weights)

    shares = [len(batch.targets) / landscape.n_targets for batch in landscape.batches]
    closure = StepClosure(landscape.module, landscape.parameters, landscape.batches, shares)
    evaluate.targets = closure.targets
    rule.gradients(evaluate)
    for moved, step in zip(seen[1], landscape.neighbourhood(rule), strict=True):
        torch.testing.assert_close(moved, step, rtol=1e-3, atol=1e-6)
    found = measure(landscape, torch.ones(60), (0.1,), rule)
    assert found["neighbourhood"]["all"] > 0
    assert all(torch.equal(p, was) for p, was in zip(landscape.parameters, before, strict=True))


def test_means_are_those_of_the_groups(landscape):
    _, items = landscape.losses()
    means = landscape.means()
    shares = np.bincount(landscape.groups[items], minlength=3) / len(items)
    parts = sum(means[name] * share for name, share in zip(("head", "mid", "tail"), shares, strict=True))
    assert parts == pytest.approx(means["all"], rel=1e-5)


def test_the_command(folder, capsys):
    assert sharpness.main([str(folder), "--rho", "0.1", "1", "--batches", "2"]) == 0
    said = capsys.readouterr().out
    for word in ("all targets", "weighed by rarity", "tail targets", "sharpness.png"):
        assert word in said
    result = json.loads((folder / "sharpness.json").read_text())
    assert result["rule"] is None
    assert list(result["rise"]["weighted"]) == ["0.1", "1"]
    assert (folder / "sharpness.png").read_bytes().startswith(b"\x89PNG")


def test_the_neighbourhood_of_another_runs_optimizer(folder, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("sharpness.*"))
    config = (folder / "config.yaml").read_text()
    assert "optimizer: adam\n" in config
    written = config.replace("optimizer: adam\n", "optimizer: sam\n").replace("rule.Plain\n", "sam.SAM\n")
    (other / "config.yaml").write_text(written)
    assert sharpness.main([str(folder), "--batches", "1", "--rule", str(other)]) == 0
    assert "(perturbation of sam)" in capsys.readouterr().out
    around_adam = json.loads((folder / "sharpness.json").read_text())
    assert sharpness.main([str(other), "--batches", "1"]) == 0  # its own, unasked
    own = json.loads((other / "sharpness.json").read_text())
    assert own["neighbourhood"] == around_adam["neighbourhood"]
    capsys.readouterr()


def test_what_the_user_can_mend(folder, tmp_path, capsys):
    for arguments in (
        [folder, "--rho", "0"],
        [folder, "--batches", "0"],
        [folder, "--weighting", "heavy"],
        [folder, "--rule", folder],
        [tmp_path],
        [tmp_path / "nowhere"],
    ):
        assert sharpness.main([str(argument) for argument in arguments]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
