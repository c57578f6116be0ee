"""Processor time and peak memory of an epoch against the length of histories, for each kind of attention.

    python studies/efficient_attention/cost.py                      # all models and lengths, ten minutes of one core
    python studies/efficient_attention/cost.py --models linrec hstu --lengths 50 200 --merge
    python studies/efficient_attention/cost.py --plot               # the figure and the tables of what is measured

Each epoch has 32,000 made-up events in batches of 6,400: histories of L events fill their window, so that nothing is
padded. The catalogue has 1,000 items and the loss is cross-entropy, so that the layers are most of the work. Every
measurement is a process of its own with one thread. Time is that of the process (other work on the machine slows it
less than the clock); memory is the peak of an epoch above what the process held before its first step.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studies.shared.machine import alone, here

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "cost.json"
LENGTHS = (50, 200, 800, 3200)
EVENTS, BATCH_EVENTS, N_ITEMS = 32_000, 6_400, 1_000
_SHELL = ("model.width=64", "model.blocks=2", "model.heads=2")
#: Overrides of each model, and what it is compared with: the model of the same task and shell with softmax attention.
MODELS = {
    "sasrec": ((*_SHELL, "model.dropout=0.2"), None),
    "causal_linrec": ((*_SHELL, "model.dropout=0.2"), "sasrec"),
    "hstu": (("model.width=64", "model.blocks=2", "model.heads=2", "model.head_width=32"), "sasrec"),
    "lrurec": (("model.width=64", "model.blocks=2"), "sasrec"),
    "gru4rec": (("model.width=64", "model.layers=1", "model.one_pass=true", "model.dropout=0.2"), "sasrec"),
    "bert4rec": (_SHELL, None),
    "cotten4rec": (_SHELL, "bert4rec"),
    "linrec": (_SHELL, "bert4rec"),
}


def measured(model: str, length: int, epochs: int, dataset: str | None) -> dict[str, float]:
    """Seconds of an epoch (the fastest) and MiB at its peak; in a process of its own.

    ``dataset`` is None for made-up histories of ``length`` events.
    """
    import torch
    from hydra import compose, initialize_config_dir

    from recsys_lt import CONF
    from recsys_lt.data.loader import Share, TrainBatches
    from recsys_lt.system.machine import forget_peak_rss, peak_rss_mb
    from recsys_lt.training.build import build

    torch.set_num_threads(1)
    torch.manual_seed(0)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(
            "config",
            [f"dataset={dataset or 'synthetic'}", f"model={model}", *MODELS[model][0], "loss=ce", "strategy=cpu",
             f"model.max_length={length}", "logger=none"],
        )  # fmt: skip
    parts = build(config)
    data = (
        parts.data(lambda _line: None) if dataset else _made_up(length, extra=1 - ("mask_probability" in config.model))
    )
    module = parts.recommender(data).train()
    optimizer = torch.optim.Adam(module.parameters(), 1e-3, fused=True)
    rows = 128 if dataset else max(BATCH_EVENTS // length, 1)
    batches = TrainBatches(data, module.task, rows, 0, Share(), module.needs_seen)

    def step(number: int) -> None:
        module.begin_step()
        optimizer.zero_grad()
        module.batch_losses(batches[0, number])[0].sum().backward()
        optimizer.step()

    def epoch() -> float:
        start = time.process_time()
        for number in range(len(batches)):
            step(number)
        return time.process_time() - start

    forget_peak_rss()
    before = peak_rss_mb()
    times = [epoch() for _ in range(epochs)]
    return {"seconds": min(times), "peak_mb": peak_rss_mb() - before}


def _made_up(length: int, extra: int) -> Any:
    """Sequences of users with so many training events each, and ``extra`` ones for a target after each event read."""
    import numpy as np

    from recsys_lt.data.interactions import Interactions
    from recsys_lt.data.preparation import Preparation

    users, each = EVENTS // length, length + extra + 2  # two for validation and test
    drawn = np.random.default_rng(0).integers(0, N_ITEMS, users * each, dtype=np.int32)
    return Preparation(k_core=1)(
        Interactions(
            users=np.repeat(np.arange(users, dtype=np.int32), each),
            items=drawn,
            user_ids=np.arange(users).astype(np.str_),
            item_ids=np.arange(N_ITEMS).astype(np.str_),
        ),
        "made up",
    )[0]


def table(result: dict[str, Any]) -> str:
    """Times and memory as Markdown: a row a model, a column a length; and their ratio to softmax attention."""
    from recsys_lt.results.field_terms import term

    lengths = sorted({int(length) for found in result["models"].values() for length in found})
    head = "| model | " + " | ".join(f"L = {length}" for length in lengths) + " |"
    lines = []
    for key, unit in (("seconds", "processor seconds of an epoch"), ("peak_mb", "peak memory, MiB")):
        lines += [
            f"{unit} (in brackets: part of that of softmax attention)",
            "",
            head,
            "| --- |" + " --- |" * len(lengths),
        ]
        for model, found in result["models"].items():
            cells = []
            for length in map(str, lengths):
                value, against = found.get(length, {}).get(key), MODELS[model][1]
                base = result["models"].get(against, {}).get(length, {}).get(key) if against else None
                share = f" ({value / base:.2f})" if value and base else ""
                cells.append("" if value is None else f"{value:.{1 if key == 'seconds' else 0}f}{share}")
            lines.append(f"| {term(model)} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def plot(result: dict[str, Any], path: Path) -> None:
    """Both against the length, on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from recsys_lt.results.field_terms import term

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for at, (model, found) in enumerate(result["models"].items()):
        lengths = sorted(map(int, found))
        look = {"marker": "o" if MODELS[model][1] is None else "s", "color": f"C{at}"}
        look["linestyle"] = "-" if MODELS[model][1] is None else "--"
        for axis, key in zip(axes, ("seconds", "peak_mb"), strict=True):
            axis.plot(lengths, [found[str(length)][key] for length in lengths], label=term(model), **look)
    for axis, title in zip(axes, ("processor seconds of an epoch", "peak memory of an epoch, MiB"), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="events in a history, L", title=title)
        axis.set_xticks(LENGTHS, [str(length) for length in LENGTHS])
        low, high = axis.get_ylim()
        ticks = [tick for tick in (0.3, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if low < tick < high]
        axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8, title="solid: softmax attention", title_fontsize=8)
    figure.savefig(path, dpi=130)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or draw what is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=tuple(MODELS))
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS)
    parser.add_argument("--epochs", type=int, default=3, help="epochs of a measurement; the fastest counts")
    parser.add_argument("--dataset", help="epochs of this dataset instead, at each length; printed alone")
    parser.add_argument("--merge", action="store_true", help="keep what is measured already")
    parser.add_argument("--plot", action="store_true", help="measure nothing: print the tables, draw the figure")
    asked = parser.parse_args(argv)
    if asked.plot:
        result = json.loads(RESULTS.read_text())
        print(table(result))
        plot(result, HERE / "cost.png")
        return 0
    result = json.loads(RESULTS.read_text()) if asked.merge else {"models": {}}
    for length in asked.lengths:
        for model in asked.models:
            found = alone(measured, model, length, asked.epochs, asked.dataset)
            print(model, length, json.dumps(found), flush=True)
            if asked.dataset is None:
                result["models"].setdefault(model, {})[str(length)] = found
                RESULTS.write_text(json.dumps(result | here(os.getloadavg()[0]), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
