"""Tokens a second of a generative recommender's training, beside the matrix products it cannot do without.

``python studies/speed/generative.py [dataset=beauty] [model=tiger] [key=value ...]`` trains on a few batches, in turn
with the products of its linear layers alone, forward and backward, so that a noisy machine slows both. Item ids are
random numbers of four digits, as many as the codes of ``model=tiger``.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from recsys_lt import CONF
from recsys_lt.data.loader import Share, TrainBatches
from recsys_lt.generative.item_ids import RandomNumbers
from recsys_lt.training.build import build

ROUNDS, DEPTH = 3, 4


def _seconds(work: Callable[[], Any]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


def _products(shapes: list[tuple[int, int, int]]) -> Callable[[], None]:
    """Products of n rows of width d with weights [h, d], each with its two of the backward pass."""
    made = {(n, d, h): (torch.randn(n, d), torch.randn(h, d), torch.randn(n, h)) for n, d, h in set(shapes)}

    def work() -> None:
        for shape in shapes:
            given, weight, by_answer = made[shape]
            given @ weight.T
            by_answer @ weight
            by_answer.T @ given

    return work


def main(arguments: list[str]) -> None:
    """Measure and print."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["dataset=beauty", "model=tiger", "logger=none", "strategy=cpu", *arguments])
    torch.set_num_threads(1)  # the processor time of one thread is not that of the machine's other work
    parts = build(config)
    data = parts.data(print)
    base = int(np.ceil(data.n_items ** (1 / DEPTH)))
    ids = RandomNumbers(base).map(data, {}, np.random.default_rng(0))
    module: Any = parts.recommender(data, {"model.item_ids": ids})
    source = TrainBatches(data, module.task, config.trainer.batch_rows, 0, Share(), module.needs_seen)
    shapes: list[tuple[int, int, int]] = []

    def note(layer: nn.Linear, given: tuple[torch.Tensor], _answer: torch.Tensor) -> None:
        shapes.append((given[0].numel() // layer.in_features, layer.in_features, layer.out_features))

    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(note)

    def train(step: int) -> None:
        module.zero_grad()
        module.batch_losses(source[0, step])[0].sum().backward()

    train(0)
    total = floor = 0.0
    tokens = targets = 0
    for step in range(1, ROUNDS + 1):
        shapes.clear()
        before = module.network.tokens_read
        total += _seconds(lambda step=step: train(step))  # type: ignore[misc]
        tokens += module.network.tokens_read - before
        targets += len(source[0, step].targets)
        floor += _seconds(_products(list(shapes)))
    rows = source.n_targets
    print(
        f"{tokens / total:.0f} tokens/s and {targets / total:.0f} targets/s of a core's time; "
        f"products of linear layers alone {floor / total:.0%} of it; "
        f"an epoch of {rows:,} targets {rows / targets * total / 60:.1f} min"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
