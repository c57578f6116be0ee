"""``python -m recsys_lt sharpness outputs/<run>``: sharpness of a trained model's loss for head, mid and tail items."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_lt.cli.command import Command, check_least
from recsys_lt.errors import UserError
from recsys_lt.runs.trust import add_trust

# Everything else is imported where it is used, so that --help answers at once.
if TYPE_CHECKING:
    from rich.table import Table


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the run: a folder with config.yaml and best.ckpt")
    parser.add_argument("--rho", type=float, nargs="+", default=(0.1, 0.5, 2.0), help="distances (default: 0.1 0.5 2)")
    parser.add_argument("--weighting", default="power", help="of the weighted direction: see optimizer=eisam")
    parser.add_argument("--gamma", type=float, default=0.5, help="its exponent (default: 0.5)")
    parser.add_argument("--batches", type=int, default=4, help="training batches evaluated (default: 4)")
    parser.add_argument(
        "--rule",
        type=Path,
        metavar="RUN",
        help="use the perturbation of this run's optimizer instead, such as eisam's around a model of adam's",
    )
    add_trust(parser)


def _measured(given: argparse.Namespace) -> dict[str, Any]:
    """Measure, and leave ``sharpness.json`` and ``sharpness.png`` in the run folder; see ``measure`` for the result."""
    check_least(1, batches=given.batches)
    if not all(0 < radius < float("inf") for radius in given.rho):
        raise UserError(f"they are {list(given.rho)}", where="--rho", remedy="Give positive distances, such as 0.1")
    import torch

    from recsys_lt.data.loader import Share, TrainBatches
    from recsys_lt.optim.sam import SharpnessAware
    from recsys_lt.optim.weighting import Weighting
    from recsys_lt.results.loss_landscape import LossLandscape, measure, plot
    from recsys_lt.system.atomic import write_json
    from recsys_lt.training.trained import Run

    weights = Weighting(given.weighting, given.gamma, normalise=True)
    run = Run(given.folder)
    run.check_events()
    module = run.model
    if not module.trainable:
        raise UserError("its model has no loss", where=given.folder, remedy="Name the run of a model that trains")
    counts = torch.from_numpy(run.data.popularity)
    rule, optimizer = run.parts.optimizer, run.stored.names.optimizer  # which knows the model's parameters
    if given.rule is not None:
        other = Run(given.rule)
        rule, optimizer = other.parts.optimizer, other.stored.names.optimizer
        if not isinstance(rule, SharpnessAware):
            raise UserError("its optimizer perturbs no parameters", where=given.rule, remedy="Name one of sam, eisam")
        trained_parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        rule.prepare(trained_parameters, module.item_tables(), counts)
    looking = rule if isinstance(rule, SharpnessAware) else None
    rows, seed = run.parts.trainer.batch_rows, run.parts.seed
    source = TrainBatches(run.data, module.task, rows, seed, Share(), module.needs_seen)
    batches = [source[0, step].to(module.device) for step in range(min(given.batches, len(source)))]
    landscape = LossLandscape(module, batches, run.groups.of)
    result = {
        "batches": len(batches),
        "weighting": given.weighting,
        "gamma": given.gamma,
        "rule": None if looking is None else optimizer,
        **measure(landscape, weights(counts), given.rho, looking),
    }
    write_json(given.folder / "sharpness.json", result)
    names = run.stored.names
    plot(result, given.folder / "sharpness.png", f"{names.dataset}: {', '.join(names[1:])}, seed {seed}")
    return result


def _table(result: Mapping[str, Any]) -> Table:
    from rich import box
    from rich.table import Table

    groups = list(result["here"])
    table = Table(box=box.SIMPLE, title=f"rise of the mean loss, {result['targets']:,} training targets")
    for name in ("along the gradient of", "distance", *groups):
        table.add_column(name, justify="left" if name.startswith("along") else "right")
    table.add_row("(the model itself)", "0", *(f"{result['here'][group]:.4f}" for group in groups))
    words = {"plain": "all targets", "weighted": "all, weighed by rarity"}
    for direction, by_radius in result["rise"].items():
        for radius, rises in by_radius.items():
            said = words.get(direction, f"{direction} targets")
            table.add_row(said, radius, *(f"{rises[group]:+.4f}" for group in groups))
    if result["neighbourhood"] is not None:
        rises = result["neighbourhood"]
        table.add_row(f"(perturbation of {result['rule']})", "", *(f"{rises[group]:+.4f}" for group in groups))
    return table


def _run(given: argparse.Namespace) -> None:
    """How much the training loss of a run's best checkpoint rises at some distances from it.

    It rises along the gradient of all targets, of targets weighed by rarity, and of each popularity group, and in the
    neighbourhood that its optimizer perturbs to. Writes sharpness.json and sharpness.png into the run folder.
    """
    result = _measured(given)
    from rich.console import Console

    console = Console(markup=False, emoji=False)  # a folder's name is no markup
    console.print(_table(result))
    console.print(f"the parameters' norm is {result['parameter_norm']:.1f}")
    console.print(f"{given.folder}/sharpness.json, sharpness.png", soft_wrap=True)


main = Command(_options, _run)
