"""Seconds a step and memory as the catalogue grows from ten thousand to ten million items.

``python studies/speed/scale_items.py``. SASRec on made-up users, batches of 512: scaled cross-entropy with 500
negatives shared by a step and ``optimizer=lazy_adam``, the same with ``optimizer=adam``, and full cross-entropy, for
the sizes where they fit; and the ranking of 1,000 users. Sizes take turns, round after round, each in a process of its
own.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_lt.errors import UserError
from studies.shared.machine import QUIET, RESULTS, alone, here
from studies.shared.timed import one_step

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from recsys_lt.data.sequences import Sequences
    from recsys_lt.recommenders.sequential import SequentialRecommender

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
SETTING = (
    "dataset=synthetic", "dataset.source.mean_length=8.876", "model=sasrec", "model.dropout=0.6",
    "trainer.batch_rows=512", "strategy=cpu", "logger=none",
)  # fmt: skip
_SCE = ("loss=sce", "loss.k=500", "loss.alpha=100", "loss.share=batch")
#: What is timed, in this order, and how many times the table's bytes it takes at its worst (dense Adam: the table, two
#: moments, the gradients of look-ups and loss, the scaled one, and their sum).
LAZY, DENSE, FULL = "sce, lazy adam", "sce, dense adam", "ce, dense adam"
VARIANTS: dict[str, tuple[tuple[str, ...], float]] = {
    LAZY: ((*_SCE, "optimizer=lazy_adam"), 3),
    DENSE: ((*_SCE, "optimizer=adam"), 7),
    FULL: (("loss=ce", "optimizer=adam"), 7),
}
#: Users ranked, and the length of their lists.
RANKED, LISTS = 1_000, 20
_MIB = 1 << 20


@dataclass(frozen=True)
class Asked:
    """What the command line asked of every measurement."""

    users: int
    steps: int
    memory_gb: float
    step_seconds: float
    overrides: tuple[str, ...]


def _load(n_items: int, variant: tuple[str, ...], asked: Asked) -> tuple["DictConfig", "Sequences"]:
    from hydra import compose, initialize_config_dir

    from recsys_lt import CONF
    from recsys_lt.training.build import build

    sizes = (f"dataset.source.n_items={n_items}", f"dataset.source.n_users={asked.users}")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [*SETTING, *sizes, *variant, *asked.overrides])
    return config, build(config).dataset.load(lambda _line: None)


def prepare(sizes: Sequence[int], asked: Asked) -> dict[str, int]:
    """Make the data where they are not made yet; the number of interactions at each size, and users in a batch."""
    found = {}
    for size in sizes:
        config, data = _load(size, VARIANTS[LAZY][0], asked)
        found[str(size)] = len(data.items)
        found["batch_rows"] = config.trainer.batch_rows
    return found


def steps_of(n_items: int, asked: Asked, names: Sequence[str]) -> dict[str, Any]:
    """Time the variants, one after the other; seconds of their steps, and the memory of the first."""
    import torch

    from recsys_lt.system.machine import forget_peak_rss, peak_rss_mb
    from recsys_lt.training.build import build

    found: dict[str, Any] = {"seconds": {}}
    for name in names:
        config, data = _load(n_items, VARIANTS[name][0], asked)
        forget_peak_rss()
        before = peak_rss_mb()
        torch.manual_seed(0)
        module = build(config).recommender(data)
        found["seconds"][name] = _steps(module, data, config, asked)
        if name == LAZY:
            found["memory"] = {
                "table_and_moments_mb": 3 * module.backbone.output_table().weight.nbytes / _MIB,
                "before_model_mb": before,
                "peak_rss_mb": peak_rss_mb(),
            }
    return found


def _steps(module: "SequentialRecommender", data: "Sequences", config: "DictConfig", asked: Asked) -> list[float]:
    """Seconds of each step, the first left out: it makes the moments."""
    from recsys_lt.data.loader import Share, TrainBatches

    batches = TrainBatches(data, module.task, config.trainer.batch_rows, config.seed, Share(), module.loss.needs_seen)
    optimizer: Any = module.configure_optimizers()
    parameters = [p for p in module.parameters() if p.requires_grad]
    module.train()
    seconds = []
    for step in range(min(1 + asked.steps, len(batches))):
        start = time.perf_counter()
        batch = batches[0, step]
        one_step(module, optimizer, parameters, batch)
        seconds.append(time.perf_counter() - start)
        if sum(seconds) > asked.step_seconds and len(seconds) > 2:
            break
    return seconds[1:]


def ranking_of(n_items: int, asked: Asked) -> dict[str, Any]:
    """Seconds to rank the catalogue for users, beside the one product that it takes, and the memory it adds."""
    import numpy as np
    import torch

    from recsys_lt.data.loader import RankBatches
    from recsys_lt.system.machine import forget_peak_rss, peak_rss_mb
    from recsys_lt.training.build import build

    config, data = _load(n_items, VARIANTS[LAZY][0], asked)
    torch.manual_seed(0)
    module = build(config).recommender(data).eval()
    users = np.flatnonzero(data.test_at >= 1)[:RANKED]
    batches = RankBatches(data, users, "test", module.backbone.max_length, config.trainer.rank_rows, with_seen=True)
    weight = module.backbone.output_table().weight.detach()
    forget_peak_rss()
    before = peak_rss_mb()
    seconds: dict[str, list[float]] = {"ranks": [], "lists": [], "product": []}
    with torch.inference_mode():
        for _ in range(2):
            for what, k in (("ranks", 0), ("lists", LISTS)):
                start = time.perf_counter()
                for step in range(len(batches)):
                    batch = batches[step]
                    module.rank(batch, k)
                seconds[what].append(time.perf_counter() - start)
            states = torch.randn(config.trainer.rank_rows, weight.shape[1])
            block = torch.empty(config.trainer.rank_rows, 8192)
            start = time.perf_counter()
            for _ in range(0, len(users), len(states)):
                for part in weight.split(8192):
                    torch.matmul(states, part.T, out=block[:, : len(part)])
            seconds["product"].append((time.perf_counter() - start) * len(users) / (len(batches) * len(states)))
    return {
        "items": n_items,
        "users": len(users),
        "lists_of": LISTS,
        "seconds": {what: min(times) for what, times in seconds.items()},
        "added_mb": peak_rss_mb() - before,
        "whole_scores_mb": len(users) * n_items * 4 / _MIB,
    }


def fits(name: str, n_items: int, asked: Asked, known: dict[str, dict[int, list[float]]]) -> str | None:
    """None where a variant can be timed at a size, else why not, in words."""
    needed = VARIANTS[name][1] * n_items * 64 * 4 / 1e9
    if needed > asked.memory_gb:
        return f"needs about {needed:.1f} GB, more than {asked.memory_gb:g}"
    smaller = {size: times for size, times in known[name].items() if size < n_items}
    if name == FULL and smaller:
        largest = max(smaller)
        expected = statistics.median(smaller[largest]) * n_items / largest
        if expected > asked.step_seconds:
            return f"would take about {expected:.0f} s a step, more than {asked.step_seconds:g}"
    return None


def measure(sizes: Sequence[int], rounds: int, rank_items: int | None, asked: Asked) -> dict[str, Any]:
    """All sizes in turn, round after round; what the result file holds."""
    load = os.getloadavg()[0]
    interactions = alone(prepare, sorted({*sizes, *([rank_items] if rank_items else [])}), asked)
    batch_rows = interactions.pop("batch_rows")
    if asked.users <= batch_rows:
        raise UserError(
            f"they make one batch of {batch_rows:,}, and the first step is not timed",
            where=f"--users {asked.users}",
            remedy=f"Give more than {batch_rows:,}",
        )
    times: dict[str, dict[int, list[float]]] = {name: {} for name in VARIANTS}
    by_round: dict[int, list[float]] = {size: [] for size in sizes}
    memory: dict[int, dict[str, float]] = {}
    left_out: dict[str, dict[str, str]] = {name: {} for name in VARIANTS}
    for turn in range(rounds):
        for size in sizes:
            names = []
            for name in VARIANTS:
                if turn == 0 and (reason := fits(name, size, asked, times)) is not None:
                    left_out[name][str(size)] = reason
                # What is slow beyond doubt is timed once.
                slow = turn > 0 and statistics.median(times[name].get(size, [0.0])) > 1
                if str(size) not in left_out[name] and not slow:
                    names.append(name)
            found = alone(steps_of, size, asked, names)
            for name, seconds in found["seconds"].items():
                times[name].setdefault(size, []).extend(seconds)
            if LAZY in found["seconds"]:
                by_round[size].append(statistics.median(found["seconds"][LAZY]))
                if size not in memory or found["memory"]["peak_rss_mb"] > memory[size]["peak_rss_mb"]:
                    memory[size] = found["memory"]
    medians = {
        name: {str(size): statistics.median(seconds) for size, seconds in by_size.items()}
        for name, by_size in times.items()
    }
    return {
        "name": "scale-items",
        "seconds_a_step": medians,
        "ratio_to_smallest": {
            name: {size: value / by_size[str(min(sizes))] for size, value in by_size.items()}
            for name, by_size in medians.items()
            if str(min(sizes)) in by_size
        },
        "rounds": {str(size): values for size, values in by_round.items()},
        "left_out": left_out,
        "memory": {str(size): values for size, values in memory.items()},
        "ranking": None if rank_items is None else alone(ranking_of, rank_items, asked),
        "data": {"users": asked.users, "interactions": interactions},
        "choices": [*SETTING, *asked.overrides],
        "loop": "plain (Lightning's loop not included)",
        **here(load),
    }


def lines(result: dict[str, Any]) -> list[str]:
    """What is printed of a result."""
    said = [
        f"machine: {result['machine']['processor']}, {result['machine']['cores']} cores,"
        f" torch {result['versions']['torch']}; {result['data']['users']:,} users; Lightning's loop not included"
    ]
    if result["machine"]["load_before"] > QUIET:
        said.append(
            f"the machine was not quiet (load {result['machine']['load_before']:.1f}): do not keep these results"
        )
    for name, by_size in result["seconds_a_step"].items():
        for size, seconds in by_size.items():
            ratio = result["ratio_to_smallest"].get(name, {}).get(size)
            compared = "" if ratio is None else f"  {ratio:>7.2f}x the smallest"
            line = f"{name:<16} {int(size):>11,} items  {seconds * 1e3:>10.1f} ms{compared}"
            if name == LAZY:
                memory = result["memory"][size]
                needed, peak = memory["table_and_moments_mb"], memory["peak_rss_mb"]
                added = peak - memory["before_model_mb"]
                line += (
                    f"  peak {peak:,.0f} MB: {peak / needed:.2f}x table and moments"
                    f" ({added:,.0f} MB, {added / needed:.2f}x, without what the process held before)"
                )
            said.append(line)
        said += [f"{name:<16} {int(size):>11,} items  {why}" for size, why in result["left_out"][name].items()]
    ranking = result["ranking"]
    if ranking is not None:
        times = ranking["seconds"]
        said.append(
            f"ranking {ranking['users']:,} users over {ranking['items']:,} items: {times['ranks']:.1f} s, with lists of"
            f" {ranking['lists_of']} {times['lists']:.1f} s; the product alone {times['product']:.1f} s"
            f" ({times['ranks'] / times['product']:.2f}x, {times['lists'] / times['product']:.2f}x);"
            f" adds {ranking['added_mb']:,.0f} MB where all scores are {ranking['whole_scores_mb']:,.0f} MB"
        )
    return said


def plot(result: dict[str, Any], path: Path) -> None:
    """Seconds a step against the size of the catalogue, a line a variant."""
    from recsys_lt.results.plots.drawing import canvas, save
    from studies.shared.pages import BLUE, GREY, ORANGE, legend_below

    words = {LAZY: "SCE, 500 shared negatives, lazy Adam", DENSE: "SCE, 500 shared negatives, Adam", FULL: "CE, Adam"}
    with canvas(height=3.2) as (figure, axes):
        for (name, by_size), colour, mark in zip(
            result["seconds_a_step"].items(), (BLUE, ORANGE, GREY), "osD", strict=True
        ):
            sizes = sorted(map(int, by_size))
            values = [by_size[str(size)] for size in sizes]
            axes.plot(sizes, values, color=colour, marker=mark, label=words[name])
            for size, value in zip(sizes, values, strict=True):
                text = f"{value:.2g} s" if value >= 1 else f"{value * 1e3:.0f} ms"
                offset = (0, -10) if name == LAZY else (0, 5)
                axes.annotate(
                    text, (size, value), offset, textcoords="offset points", ha="center", fontsize=6.5, color=colour
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.set_ylim(low / 1.6, high * 1.6)
        axes.set_xlabel("items in the catalogue")
        axes.set_ylabel("seconds a step (512 users)")
        axes.set_title(f"SASRec, d = 64, {result['machine']['cores']} cores")
        legend_below(figure, 1)
        save(figure, path, path.with_suffix(".pdf"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="items of the catalogues")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every size (default: 3)")
    parser.add_argument("--steps", type=int, default=25, help="steps timed in a turn (default: 25)")
    parser.add_argument("--users", type=int, default=100_000, help="users of the made-up data (default: 100,000)")
    parser.add_argument("--memory", type=float, default=9.5, help="GB a variant may take (default: 9.5)")
    parser.add_argument("--seconds", type=float, default=30, help="s a step of CE may take (default: 30)")
    parser.add_argument("--rank", type=int, default=1_000_000, help="items ranked for 1,000 users; 0: none")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON and the plot")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the configuration")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, save; 0, or 2 with one line on standard error for what the user can mend."""
    from recsys_lt.system.atomic import write_json

    arguments = _parser().parse_args(argv)
    try:
        for key in ("rounds", "steps", "users"):
            if getattr(arguments, key) < 1:
                raise UserError(f"it is {getattr(arguments, key)}", where=f"--{key}", remedy="Give 1 or more")
        if min(arguments.sizes) < 1_000:
            raise UserError(f"it is {min(arguments.sizes)}", where="--sizes", remedy="Give at least 1,000 items")
        asked = Asked(arguments.users, arguments.steps, arguments.memory, arguments.seconds, tuple(arguments.set))
        result = measure(sorted(arguments.sizes), arguments.rounds, arguments.rank or None, asked)
        print("\n".join(lines(result)), flush=True)
        write_json(arguments.results / "scale-items.json", result)
        plot(result, arguments.results / "scale-items.png")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
