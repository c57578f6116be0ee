"""A run, and the run before it that a model of two stages builds on."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from recsys_lt.recommenders.sequential import SequentialRecommender
from recsys_lt.runs.checkpoints import kept
from recsys_lt.runs.run_folder import finished
from recsys_lt.runs.stored import Names, Stored, store
from recsys_lt.runs.sweep import claimed
from recsys_lt.runs.trust import write_out_references
from recsys_lt.system.lock import locked
from recsys_lt.training.build import build, first_stage_of
from recsys_lt.training.first_stage import FOLDER, FirstStage
from recsys_lt.training.run import run

#: The configuration of these choices.
Compose = Callable[[list[str]], DictConfig]


def run_stages(this: Stored, folder: Path, resumed: bool, compose: Compose) -> dict[str, Any]:
    """One run; a model of two stages has its first one trained before it, if no run of that is named.

    Parameters
    ----------
    this
        What is asked.
    folder
        The run folder; ``config.yaml`` is in it.
    resumed
        Go on where the run in that folder stopped.
    compose
        Makes the first stage's configuration.

    Returns
    -------
    dict
        What metrics.json holds.

    Raises
    ------
    UserError
        As ``run``.
    Stopped
        As ``run``, and if a signal ends the first stage.
    """
    with kept(folder):
        asked = first_stage_of(this.config)
        if asked is not None and this.config.model[asked.key] is None:
            _train_first(this, asked, folder / FOLDER, compose)
        return run(this, folder, resumed)


def _train_first(this: Stored, asked: FirstStage, folder: Path, compose: Compose) -> None:
    """Train the run a model builds on, on the same data with the same seed, unless it is there already.

    The cells of a sweep that need the same one share it.
    """
    if finished(folder):
        return
    parts = build(this.config)
    parts.check()
    outlined = parts.outlined()
    first = _first_asked(this, asked, compose)
    # What the second stage cannot do is said before the first is trained: it is made, without the language model's
    # weights, on one that is not.
    data = parts.data(lambda _line: None)
    untrained = build(first.config).recommender(data)
    if isinstance(untrained, SequentialRecommender):
        outlined.recommender(data, untrained.backbone)

    def train(where: Path, begun: bool) -> None:
        print(f"first stage: model={asked.model} loss={asked.loss}, in {where}", flush=True)
        run(first, where, begun)

    if this.group is None:
        begun = (folder / "config.yaml").is_file()
        if not begun:
            store(folder, first)
        train(folder, begun)
        return
    shared = folder.parent.parent / ".first_stages" / f"{'_'.join(first.names)}_seed{first.config.seed}"
    shared.parent.mkdir(parents=True, exist_ok=True)
    with locked(shared.with_suffix(".lock"), lambda: print(f"waiting for {shared}", flush=True)):
        with claimed(first, shared) as claim:
            if claim.state != "done":
                train(claim.folder, claim.state == "begun")
        try:
            folder.symlink_to(os.path.relpath(claim.folder, folder.parent))
        except OSError:  # no links on this file system
            shutil.copytree(claim.folder, folder, dirs_exist_ok=True)


def _first_asked(this: Stored, asked: FirstStage, compose: Compose) -> Stored:
    choices = {"dataset": this.names.dataset, "model": asked.model, "loss": asked.loss}
    # A small model takes one device, whatever the second stage is spread over.
    on_cpu = this.config.strategy.get("accelerator") == "cpu"
    others = ("logger=none", "strategy=cpu" if on_cpu else "strategy=auto")
    config = compose([*(f"{group}={name}" for group, name in choices.items()), *others])
    for key in ("dataset", "seed", "metrics"):
        OmegaConf.update(config, key, this.config[key], merge=False, force_add=True)
    write_out_references(config)
    return Stored(config, Names(**choices, optimizer="adam"), None)
