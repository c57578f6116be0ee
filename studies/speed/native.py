"""Gain of each compiled kernel: an epoch's training steps with the kernel and without it, in turn, in one process.

``python studies/speed/native.py`` writes ``results/native.json`` and prints it as a table. A block is a few training
steps of a real epoch in the published setting. Blocks on the same batches alternate between the kernels as they are
and the kernels without one; each pair of blocks gives a ratio of times, and the median and quartiles of the ratios are
reported. Batches are made within the timed part; validation and Lightning's loop are not in it.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from studies.shared.machine import RESULTS, here
from studies.shared.pages import table_lines
from studies.shared.timed import one_step

#: The names that each kernel is reached through; without the kernel, they answer that there is none.
KERNELS = {
    "attention": ("recsys_lt.backbones.attention.usable",),
    "dropout": ("recsys_lt.backbones.layers.usable",),
    "exponentials": ("recsys_lt.losses.ce.usable",),
    "scores": ("recsys_lt.losses.sampled.usable",),
    "draws": ("recsys_lt.data.streams.kernels",),
}
#: Dataset, model and loss of each epoch, and the kernels it runs.
CELLS = {
    "beauty sasrec ce": ("attention", "dropout", "exponentials"),
    "beauty sasrec sce": ("attention", "dropout", "scores", "draws"),
    "beauty sasrec nce": ("attention", "dropout", "scores", "draws"),
    "beauty sasrec bce": ("attention", "dropout", "scores", "draws"),
    "beauty fmlp_rec ce": ("dropout", "exponentials"),
    "beauty bsarec ce": ("dropout", "exponentials"),
    "beauty gru4rec ce": ("dropout", "exponentials"),
    "beauty gru4rec sce": ("scores", "draws"),
    "beauty caser ce": ("dropout", "exponentials"),
    "ml-1m sasrec ce": ("attention", "dropout", "exponentials"),
    "ml-1m sasrec sce": ("attention", "dropout", "scores", "draws"),
    "ml-1m lrurec ce": ("dropout", "exponentials"),
}


def block_of(cell: str, steps: int) -> Callable[[int], float]:
    """A function that takes ``steps`` training steps of a cell, from the given block of batches on: the seconds."""
    import torch
    from hydra import compose, initialize_config_dir

    from recsys_lt import CONF
    from recsys_lt.data.loader import Share, TrainBatches
    from recsys_lt.training.build import build

    dataset, model, loss = cell.split()
    choices = [f"dataset={dataset}", f"model={model}", f"loss={loss}", "strategy=cpu", "logger=none"]
    if model == "gru4rec":
        choices += ["model.one_pass=true", "trainer.batch_rows=87"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", choices)
    parts = build(config)
    data = parts.data(lambda _line: None)
    torch.manual_seed(0)
    module: Any = parts.recommender(data)
    batches = TrainBatches(data, module.task, config.trainer.batch_rows, config.seed, Share(), module.needs_seen)
    optimizer = module.configure_optimizers()
    parameters = [p for p in module.parameters() if p.requires_grad]
    module.train()

    def block(number: int) -> float:
        start = time.perf_counter()
        for step in range(number * steps, (number + 1) * steps):
            one_step(module, optimizer, parameters, batches[0, step % len(batches)])
        return time.perf_counter() - start

    return block


def measure(cell: str, pairs: int, steps: int) -> list[dict[str, Any]]:
    """Ratios of the time without each kernel to the time with it, one row a kernel."""
    block = block_of(cell, steps)
    block(0)
    found: dict[str, list[float]] = {kernel: [] for kernel in CELLS[cell]}
    seconds: list[float] = []
    for pair in range(pairs):
        for kernel, ratios in found.items():
            times = {}
            for on in (True, False) if pair % 2 else (False, True):
                with ExitStack() as switched:
                    for place in () if on else KERNELS[kernel]:
                        switched.enter_context(patch(place, lambda *_tensors: None))
                    times[on] = block(pair)
            ratios.append(times[False] / times[True])
            seconds.append(times[True] / steps)
    step = statistics.median(seconds)
    return [
        {"cell": cell, "kernel": kernel, "step_ms": 1000 * step, "without_over_with": ratios}
        for kernel, ratios in found.items()
    ]


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The results as a table: the median ratio and its quartiles."""
    lines = []
    for row in rows:
        low, middle, high = statistics.quantiles(row["without_over_with"], n=4)
        lines.append([row["cell"], row["kernel"], f"{row['step_ms']:.0f}", f"{middle:.2f}", f"{low:.2f} to {high:.2f}"])
    return "\n".join(table_lines(["epoch of", "kernel", "ms a step", "without / with", "quartiles"], lines))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(CELLS), default=list(CELLS), metavar="CELL")
    parser.add_argument("--pairs", type=int, default=11, help="pairs of blocks a kernel (default: 11)")
    parser.add_argument("--steps", type=int, default=2, help="training steps a block (default: 2)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(argv)
    from recsys_lt.system.atomic import write_json

    load, rows = os.getloadavg()[0], []
    for cell in given.only:
        rows += (found := measure(cell, given.pairs, given.steps))
        print(page(found), flush=True)
    write_json(given.results / "native.json", {"rows": rows, "steps": given.steps, **here(load)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
