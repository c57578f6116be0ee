"""A measurement's work and its floor, as two things to be timed in turn."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.shared.machine import now
from studies.shared.measurements import MADE_UP, SETTING, Measurement

# Everything else is imported where it is used: --help answers at once, and a measurement's peak memory is its own
# (a process starts with its parent's as its peak).
if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig

    from recsys_lt.data.batch import Batch
    from recsys_lt.data.sequences import Sequences
    from recsys_lt.recommenders.sequential import SequentialRecommender

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


@dataclass(frozen=True)
class Asked:
    """What the command line asked of every measurement."""

    repeats: int
    steps: int | None
    raw_dir: str | None
    overrides: tuple[str, ...]
    device: str = "cpu"


def loaded(choices: Sequence[str], asked: Asked) -> tuple["DictConfig", "Sequences", str]:
    """The configuration and data: real Beauty where it is on this machine, else made up of its sizes."""
    from hydra import compose, initialize_config_dir

    from recsys_lt import CONF
    from recsys_lt.training.build import build

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


def _flops(step: Callable[[], Any]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def set_up(
    config: "DictConfig", data: "Sequences", measurement: Measurement, device: str
) -> tuple["SequentialRecommender", Timed, Floor]:
    import torch

    from recsys_lt.training.build import build

    torch.manual_seed(0)
    parts = build(config)
    module = parts.recommender(data).to(device)
    if measurement.products == "ranking":
        return module, *_evaluation(module, data, config.trainer.rank_rows, measurement.lists, device)
    return module, *_training(module, data, config, measurement, device)


def one_step(
    module: "SequentialRecommender", optimizer: Any, parameters: "Sequence[torch.nn.Parameter]", batch: "Batch"
) -> None:
    """A training step as a run takes it, without Lightning's loop."""
    from recsys_lt.recommenders.step_closure import StepClosure

    optimizer.zero_grad()
    _, gradients = module.rule.gradients(StepClosure(module, parameters, [batch]))
    for p, gradient in zip(parameters, gradients, strict=True):
        p.grad = gradient
    optimizer.step()


def _training(
    module: "SequentialRecommender",
    data: "Sequences",
    config: "DictConfig",
    measurement: Measurement,
    device: str,
) -> tuple[Timed, Floor]:
    import torch

    from recsys_lt.data.loader import Share, TrainBatches
    from studies.speed import floors

    batches = TrainBatches(data, module.task, config.trainer.batch_rows, config.seed, Share(), module.loss.needs_seen)
    targets = batches.n_targets
    optimizer: Any = module.configure_optimizers()
    parameters = [p for p in module.parameters() if p.requires_grad]
    module.train()
    epochs = iter(range(10**9))

    def work(steps: int | None) -> float:
        epoch, done = next(epochs), 0
        start = now(device)
        for step in range(min(steps or len(batches), len(batches))):
            batch = batches[epoch, step].to(device)
            one_step(module, optimizer, parameters, batch)
            done += len(batch.targets)
        return (now(device) - start) * targets / done

    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    columns = {"items": data.n_items, "k": config.loss.get("k", 0), "pair": 2, "": 0}
    first = batches[0, 0]
    width = module.backbone.output_table().weight.shape[1]  # type: ignore[attr-defined]
    backbone = getattr(floors, type(module.backbone).__module__.split(".")[-1])
    with torch.device(device):
        encode = backbone(config.model, first)
        score = floors.loss(
            len(first.targets), width, columns[measurement.products], columns[measurement.exponentials], dtype
        )

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
                module.rank(batch, lists)
                done += len(batch)
        return (now(device) - start) * len(users) / done

    weight = module.backbone.output_table().weight.detach()  # type: ignore[attr-defined]
    states = torch.randn(rank_rows, weight.shape[1], device=device)
    scores = torch.empty(rank_rows, len(weight), device=device)

    def floor(steps: int | None) -> float:
        n = min(steps or len(batches), len(batches))
        start = now(device)
        for _ in range(n):
            torch.matmul(states, weight.T, out=scores)
        return (now(device) - start) * len(users) / (n * rank_rows)

    return work, Floor(floor, 2.0 * len(users) * weight.numel(), len(users), states.dtype)
