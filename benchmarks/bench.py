"""Seconds an epoch on data of Amazon Beauty's shape, against the floor of the machine, one line a measurement.

``python benchmarks/bench.py`` (or ``make bench``). The floor is the time of nothing but the matrix products (and
exponentials) that a measurement cannot do without, of the same shapes and in the same run, so that a ratio
says how much is lost to everything else, on any machine. Lightning's loop is not in it: batches are made, losses formed
and the optimizer stepped by the same objects as in a run, but in a plain loop.
"""

import argparse
import os
import resource
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machine import QUIET, RESULTS, alone, here, matrix_rate, now

from recsys_lt.errors import UserError

# Everything else is imported where it is used: --help answers at once, and a measurement's peak memory is its own
# (a process starts with its parent's as its peak).
if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig

    from recsys_lt.data.batch import Batch
    from recsys_lt.data.sequences import Sequences
    from recsys_lt.recommenders.sequential import SequentialRecommender

#: Beauty's sizes, for machines that do not have it.
MADE_UP = (
    "dataset=synthetic",
    "dataset.source.n_users=22363",
    "dataset.source.n_items=12101",
    "dataset.source.mean_length=8.876",
)
SETTING = ("trainer.batch_rows=512", "trainer.rank_rows=256", "optimizer=adam", "strategy=cpu", "logger=none")
#: The published setting of SASRec on Beauty: alike for every loss, so that their times compare.
SASREC = ("model=sasrec", "model.dropout=0.6", "optimizer.lr=5e-4")


@dataclass(frozen=True)
class Measurement:
    """What is timed.

    Parameters
    ----------
    choices
        Overrides of the configuration.
    products
        Columns of the products of the loss: ``items`` for the catalogue, ``k`` for the negatives, ``pair`` for
        a target and one negative; ``ranking`` is the evaluation.
    exponentials
        Columns of its exponentials, in the same words; "" for none.
    lists
        Length of the lists an evaluation makes.
    against
        Name of a measurement timed in turn with this one, in the same process; "" for none.
    """

    choices: tuple[str, ...]
    products: str
    exponentials: str
    lists: int = 0
    against: str = ""


_CE = (*SASREC, "loss=ce")
_SCE = (*SASREC, "loss=sce", "loss.k=500", "loss.alpha=100")
MEASUREMENTS = {
    "ce-float32": Measurement(_CE, "items", "items"),
    "ce-bf16": Measurement((*_CE, "precision=bf16"), "items", "items", against="ce-float32"),
    "sce-500-position": Measurement((*_SCE, "loss.share=position"), "k", "k", against="ce-float32"),
    "sce-500-batch": Measurement((*_SCE, "loss.share=batch"), "k", "k", against="ce-float32"),
    "bce": Measurement((*SASREC, "loss=bce"), "pair", "pair", against="ce-float32"),
    "gru4rec-ce": Measurement(("model=gru4rec", "loss=ce"), "items", "items"),
    # A row is a user: 87 of Beauty's have 512 targets.
    "gru4rec-ce-one-pass": Measurement(
        ("model=gru4rec", "model.one_pass=true", "loss=ce", "trainer.batch_rows=87"), "items", "items"
    ),
    "caser-ce": Measurement(("model=caser", "loss=ce"), "items", "items"),
    "fmlp_rec-ce": Measurement(("model=fmlp_rec", "loss=ce"), "items", "items"),
    "adamw": Measurement((*_SCE, "optimizer=adamw"), "k", "k"),
    "sam": Measurement((*_SCE, "optimizer=sam"), "k", "k", against="adamw"),
    "eisam": Measurement((*_SCE, "optimizer=eisam"), "k", "k", against="adamw"),
    "eisam-stale": Measurement((*_SCE, "optimizer=eisam", "optimizer.form=stale"), "k", "k", against="adamw"),
    "eisam-every-4": Measurement((*_SCE, "optimizer=eisam", "optimizer.every=4"), "k", "k", against="adamw"),
    "evaluate": Measurement(_CE, "ranking", ""),
    "evaluate-lists-20": Measurement(_CE, "ranking", "", lists=20),
}


@dataclass(frozen=True)
class Asked:
    """What the command line asked of every measurement."""

    repeats: int
    steps: int | None
    raw_dir: str | None
    overrides: tuple[str, ...]
    device: str = "cpu"


def measure(name: str, asked: Asked) -> dict[str, Any]:
    """Time one measurement and its floor in turn; what a result file holds."""
    import torch

    measurement = MEASUREMENTS[name]
    load = os.getloadavg()[0]
    config, data, note = _load(measurement.choices, asked)
    module, work, floor = _set_up(config, data, measurement, asked.device)
    warm_up = min(2, asked.steps or 2)  # first calls allocate and choose kernels
    work(warm_up)
    seconds = {"measured": [work(asked.steps)]}
    peak = _peak_mb()  # of this measurement alone: nothing else has run yet
    device_peak = torch.cuda.max_memory_allocated() / 2**20 if asked.device == "cuda" else None
    others: dict[str, Timed] = {"floor": floor}
    if measurement.against:
        other = MEASUREMENTS[measurement.against]
        others["against"] = _set_up(_load(other.choices, asked)[0], data, other, asked.device)[1]
    for part, timed in others.items():
        timed(warm_up)
        seconds[part] = [timed(asked.steps)]
    for _ in range(asked.repeats - 1):
        for part, timed in ({"measured": work} | others).items():
            seconds[part].append(timed(asked.steps))
    middle = {part: statistics.median(of) for part, of in seconds.items()}
    measured, least = middle["measured"], middle["floor"]
    return {
        "name": name,
        "precision": str(config.precision),
        "seconds": measured,
        "floor_seconds": least,
        "ratio": measured / least,
        "against": measurement.against or None,
        "against_ratio": measured / middle["against"] if measurement.against else None,
        "repeats": seconds,
        "peak_rss_mb": peak,
        "peak_device_mb": device_peak,
        # Of the products it cannot do without, against what the device does of one large product.
        "matrix_share": floor.flops / measured / matrix_rate(floor.dtype, asked.device),
        "targets_per_second": floor.targets / measured,
        "steps": asked.steps,
        "choices": [*SETTING, *measurement.choices, *asked.overrides],
        "data": {
            "source": note,
            "users": data.n_users,
            "items": data.n_items,
            "interactions": len(data.items),
        },
        "loop": "plain (Lightning's loop not included)",
        **here(load, asked.device),
        "parameters": sum(p.numel() for p in module.parameters()),
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def _load(choices: Sequence[str], asked: Asked) -> tuple["DictConfig", "Sequences", str]:
    """The configuration and data: real Beauty where it is on this machine, else made up of its sizes."""
    from hydra import compose, initialize_config_dir

    from recsys_lt.__main__ import CONF
    from recsys_lt.build import build

    def composed(dataset: Sequence[str]) -> Any:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("config", [*dataset, *SETTING, *choices, *asked.overrides])

    chosen = any(override.startswith("dataset=") for override in asked.overrides)
    config = composed(() if chosen else ("dataset=beauty",))
    note = str(config.dataset.name)
    if asked.raw_dir is not None:
        config.dataset.raw_dir = asked.raw_dir
    elif not chosen and not _is_here(config):
        config, note = composed(MADE_UP), "made up, with Beauty's sizes"
    return config, build(config).dataset.load(lambda _line: None), note


def _is_here(config: "DictConfig") -> bool:
    """Whether Beauty can be had without fetching it, which a benchmark should not begin with."""
    folders = os.environ.get("RECSYS_LT_RAW")
    given = folders is not None and (Path(folders).expanduser() / "beauty").is_dir()
    return given or (Path(config.dataset.cache_dir).expanduser() / "downloads" / "beauty").is_dir()


#: Does so many steps (None: all), and says the seconds an epoch takes at that rate.
Timed = Callable[[int | None], float]


@dataclass(frozen=True)
class Floor:
    """The products of an epoch, as something to be timed, and what they are."""

    timed: Timed
    flops: float
    targets: int
    dtype: "torch.dtype"

    def __call__(self, steps: int | None) -> float:
        return self.timed(steps)


def _flops(step: Callable[[], Any]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def _set_up(
    config: "DictConfig", data: "Sequences", measurement: Measurement, device: str
) -> tuple["SequentialRecommender", Timed, Floor]:
    import torch

    from recsys_lt.build import build

    torch.manual_seed(0)
    parts = build(config)
    module = parts.recommender(data).to(device)
    if measurement.products == "ranking":
        return module, *_evaluation(module, data, config.trainer.rank_rows, measurement.lists, device)
    return module, *_training(module, data, config, measurement, device)


def totals_of(module: "SequentialRecommender", batch: "Batch", weights: "torch.Tensor | None") -> "torch.Tensor":
    return module.batch_losses(batch, weights)[0]


def _training(
    module: "SequentialRecommender",
    data: "Sequences",
    config: "DictConfig",
    measurement: Measurement,
    device: str,
) -> tuple[Timed, Floor]:
    import torch
    from floors.parts import loss

    from recsys_lt.data.loader import Share, TrainBatches
    from recsys_lt.recommenders.asking import Asking

    rows = module.backbone.row_plan.plan(data)
    batches = TrainBatches(data, rows, config.trainer.batch_rows, config.seed, Share(), module.loss.needs_seen)
    targets = rows.n_targets
    optimizer: Any = module.configure_optimizers()
    parameters = [p for p in module.parameters() if p.requires_grad]
    module.train()
    epochs = iter(range(10**9))

    def work(steps: int | None) -> float:
        epoch, done = next(epochs), 0
        start = now(device)
        for step in range(min(steps or len(batches), len(batches))):
            batch = batches[epoch, step].to(device)
            optimizer.zero_grad()
            totals = partial(totals_of, module, batch)
            _, gradients = module.rule.gradients(Asking(parameters, [totals], partial(getattr, batch, "targets")))
            for p, gradient in zip(parameters, gradients, strict=True):
                p.grad = gradient
            optimizer.step()
            done += len(batch.targets)
        return (now(device) - start) * targets / done

    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    columns = {"items": data.n_items, "k": config.loss.get("k", 0), "pair": 2, "": 0}
    first = batches[0, 0]
    width = module.backbone.output_table().weight.shape[1]
    backbone = import_module(f"floors.{type(module.backbone).__module__.split('.')[-1]}")
    with torch.device(device):
        encode = backbone.products(config.model, first)
        score = loss(len(first.targets), width, columns[measurement.products], columns[measurement.exponentials], dtype)

    def floor(steps: int | None) -> float:
        n = min(steps or len(batches), len(batches))
        start = now(device)
        for _ in range(n):
            encode()
            score()
        return (now(device) - start) * targets / (n * len(first.targets))

    per_step = _flops(encode) + _flops(score)
    return work, Floor(floor, per_step * targets / len(first.targets), targets, dtype)


def _evaluation(
    module: "SequentialRecommender", data: "Sequences", rank_rows: int, lists: int, device: str
) -> tuple[Timed, Floor]:
    import numpy as np
    import torch

    from recsys_lt.data.loader import RankBatches

    users = np.flatnonzero(data.test_at >= 1)
    batches = RankBatches(data, users, "test", module.backbone.max_length, rank_rows, with_seen=True)
    module.eval()

    def work(steps: int | None) -> float:
        done = 0
        start = now(device)
        with torch.inference_mode():
            for step in range(min(steps or len(batches), len(batches))):
                batch = batches[step].to(device)
                module.rank(batch, batch.seen, lists)
                done += len(batch)
        return (now(device) - start) * len(users) / done

    weight = module.backbone.output_table().weight.detach()
    states = torch.randn(rank_rows, weight.shape[1], device=device)
    scores = torch.empty(rank_rows, len(weight), device=device)

    def floor(steps: int | None) -> float:
        n = min(steps or len(batches), len(batches))
        start = now(device)
        for _ in range(n):
            torch.matmul(states, weight.T, out=scores)
        return (now(device) - start) * len(users) / (n * rank_rows)

    return work, Floor(floor, 2.0 * len(users) * weight.numel(), len(users), states.dtype)


def _line(result: dict[str, Any]) -> str:
    precision = "bf16 logits" if result["precision"] == "bf16" else result["precision"]
    return (
        f"{result['name']:<20} {precision:<11} {result['seconds']:>8.2f} s"
        f"  floor {result['floor_seconds']:>7.2f} s  {result['ratio']:>6.2f}x"
        f"  peak {result['peak_device_mb'] or result['peak_rss_mb']:>6.0f} MB"
        f"  {result['targets_per_second']:>9,.0f} targets/s  {result['matrix_share']:>4.0%} of the matrix rate"
        + (f"  {result['against_ratio']:.2f}x of {result['against']}" if result["against"] else "")
    )


def _heading(result: dict[str, Any]) -> str:
    data, machine = result["data"], result["machine"]
    lines = [
        f"data: {data['source']} ({data['users']:,} users, {data['items']:,} items,"
        f" {data['interactions']:,} interactions)",
        ("" if machine["device"] == "cpu" else f"device: {machine['device']}\n")
        + f"machine: {machine['processor']}, {machine['cores']} cores, {machine['threads']} threads,"
        f" torch {result['versions']['torch']}; Lightning's loop not included",
    ]
    if result["steps"]:
        lines.append(f"timed on {result['steps']} steps and scaled to an epoch")
    if machine["load_before"] > QUIET:
        lines.append(f"the machine was not quiet (load {machine['load_before']:.1f}): do not keep these results")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help=f"measurements to make; there are {', '.join(MEASUREMENTS)}"
    )
    parser.add_argument("--repeats", type=int, default=3, help="epochs of each (default: 3); medians are said")
    parser.add_argument("--steps", type=int, help="time so many steps and scale: quick, rough, not saved")
    parser.add_argument("--raw-dir", help="folder with Beauty's raw files (default: where a run looks for them)")
    parser.add_argument(
        "--results", type=Path, help="folder of the result files (default: benchmarks/results; with --steps, none)"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="what computes; memory is then the device's"
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the configuration, such as other data"
    )
    return parser


def _checked(arguments: argparse.Namespace) -> list[str]:
    for key in ("repeats", "steps"):
        value = getattr(arguments, key)
        if value is not None and value < 1:
            raise UserError(f"it is {value}", where=f"--{key}", remedy="Give a whole number of at least 1")
    if arguments.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError("torch sees no GPU here", where="--device cuda", remedy="Leave it out")
        if arguments.results is None and arguments.steps is None:
            raise UserError(
                "results of a processor stand in the default folder", where="--device cuda", remedy="Set --results"
            )
    names = arguments.only or list(MEASUREMENTS)
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        raise UserError(
            f"no measurement is named {unknown[0]!r}",
            where="--only",
            remedy=f"Choose from {', '.join(MEASUREMENTS)}",
        )
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0, or 2 with one line on standard error for what the user can mend."""
    arguments = _parser().parse_args(argv)
    folder = arguments.results or (None if arguments.steps else RESULTS)
    try:
        names = _checked(arguments)
        asked = Asked(arguments.repeats, arguments.steps, arguments.raw_dir, tuple(arguments.set), arguments.device)
        for name in names:
            result = alone(_measure, name, asked)
            if isinstance(result, str):
                raise UserError(result)
            if name == names[0]:
                print(_heading(result), flush=True)
            print(_line(result), flush=True)
            if folder is not None:
                _save(folder / f"{name}.json", result)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _measure(name: str, asked: Asked) -> dict[str, Any] | str:
    """``measure``; what the user can mend comes back as a line, as a ``UserError`` would not survive the way."""
    from hydra.errors import HydraException

    try:
        return measure(name, asked)
    except UserError as error:
        return str(error).rstrip(".")
    except HydraException as error:
        return f"--set: {' '.join(str(error).split())}"


def _save(path: Path, result: dict[str, Any]) -> None:
    from recsys_lt.atomic import write_json

    try:
        write_json(path, result)
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror})", where=path, remedy="Set --results") from error


if __name__ == "__main__":
    sys.exit(main())
