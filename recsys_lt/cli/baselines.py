"""Baselines beside a run or the cells of a sweep (``+baselines=counts``): further runs on the same data and terms."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, OmegaConf, open_dict

from recsys_lt.errors import UserError
from recsys_lt.runs.trust import write_out_references
from recsys_lt.system.machine import check_name

if TYPE_CHECKING:
    from recsys_lt.runs.stored import Stored
    from recsys_lt.training.build import Parts

    Baseline = tuple[str, Stored, Parts]

Baselines = Mapping[str, Sequence[str]]
_GROUP = "baselines"
#: What a baseline has as the run beside it does.
_SHARED = ("dataset", "seed", "metrics", "strategy", "logger")


def taken_out(config: DictConfig) -> Baselines:
    """The choices of each baseline by its name, taken out of a composed configuration: they decide nothing of the run.

    Raises UserError for what is no mapping of names to lists of choices.
    """
    with open_dict(config):
        given = config.pop(_GROUP, {})
    found: Any = OmegaConf.to_container(given) if OmegaConf.is_config(given) else given
    for name, choices in found.items() if isinstance(found, dict) else [(found, None)]:
        if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
            remedy = "Write name: [model=pop], or use +baselines=counts"
            raise UserError(f"{name!r} is no name with a list of choices", where=_GROUP, remedy=remedy)
        check_name(str(name), _GROUP)
    return found  # type: ignore[no-any-return]


def run_baselines(
    baselines: "Sequence[Baseline]",
    wanted: Callable[[str], Path],
    compose: Callable[[list[str]], DictConfig],
    apart: bool,
) -> None:
    """Do the baselines of a run that are not done.

    Parameters
    ----------
    baselines
        As ``composed`` gives them.
    wanted
        The run folder of a baseline by its name; runs of the same configuration beside it are found.
    compose
        The configuration of these choices.
    apart
        Whether what they print goes into their folders.
    """
    from recsys_lt.runs.sweep import claimed, own_output
    from recsys_lt.training.stages import run_stages

    for name, this, parts in baselines:
        with claimed(this, wanted(name)) as claim, ExitStack() as stack:
            if claim.state not in ("new", "begun"):
                continue
            say = stack.enter_context(own_output(claim.folder)) if apart else print
            say(f"baseline {name}")
            try:
                run_stages(this, parts, claim.folder, claim.state == "begun", compose, brief=True)
            except UserError as error:
                say(f"baseline {name} is left out: {error}")
                if claim.state == "new":
                    shutil.rmtree(claim.folder)


def composed(baselines: Baselines, beside: "Stored") -> "list[Baseline]":
    """Name, configuration and parts of each baseline, with the dataset, seed and terms of the run beside it.

    Raises what a wrong choice raises; a run calls it before it trains.
    """
    from recsys_lt.runs.stored import Names, Stored
    from recsys_lt.training.build import build

    found: list[Baseline] = []
    for name, choices in baselines.items():
        config = hydra.compose("config", [f"dataset={beside.names.dataset}", *choices], return_hydra_config=True)
        names = Names(*(str(config.hydra.runtime.choices[part]) for part in Names._fields))
        with open_dict(config):
            del config["hydra"]
        for key in _SHARED:
            OmegaConf.update(config, key, beside.config[key], merge=False, force_add=True)
        parts = build(config)
        write_out_references(config)
        found.append((name, Stored(config, names, beside.group), parts))
    return found
