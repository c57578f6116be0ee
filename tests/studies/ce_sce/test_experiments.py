"""The choices of the study: its losses, and the sweeps of figures 1a and 1b."""

import json
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from recsys_lt import CONF
from recsys_lt.training.build import build
from studies.ce_sce import figures
from studies.ce_sce.choices import CHOICES
from studies.ce_sce.tightness import Tightness

EXPERIMENTS = Path(figures.__file__).with_name("conf") / "experiment" / "paper"
#: Each command that an experiment names, how many cells it should make, and whether they are watched.
SWEEPS = [
    ("figure1a_beauty", 7, False),
    ("figure1b_beauty loss=bpr,bce", 2, True),
    ("figure1b_beauty loss=ce_eta,ce trainer.max_epochs=50", 2, True),
    ("figure1b_beauty loss=ssm,sce loss.k=100", 2, True),
]


@pytest.mark.parametrize(("command", "n", "watched"), SWEEPS)
def test_every_cell_of_a_sweep_composes_and_builds(command: str, n: int, watched: bool) -> None:
    name, *arguments = command.split()
    text = (EXPERIMENTS / f"{name}.yaml").read_text()
    assert f"python -m recsys_lt --config-dir studies/ce_sce/conf +experiment=paper/{command}" in text
    assert "NDCG@10" in text.splitlines()[1]
    swept = [f"{key}={value}" for key, value in yaml.safe_load(text)["hydra"]["sweeper"]["params"].items()]
    overrides = OverridesParser.create().parse_overrides([f"+experiment=paper/{name}", *swept, *arguments])
    made = set()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for cell in BasicSweeper.split_arguments(overrides, None)[0]:
            config = compose("config", [*cell, CHOICES])
            made.add(json.dumps(OmegaConf.to_container(config, resolve=True), sort_keys=True))
            parts = build(config)
            parts.loss.check(12_101)
            assert [type(each) for each in parts.callbacks] == [Tightness] * watched
    assert len(made) == n


def test_ce_n_can_be_chosen() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        build(compose("config", ["loss=ce_n", CHOICES])).loss.check(100)
