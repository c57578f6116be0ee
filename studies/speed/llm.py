"""Tokens a second of a language model's recommender, beside the matrix products it cannot do without.

``python studies/speed/llm.py [model=e4srec] [llm=smollm2_135m] [key=value ...]`` trains on a few batches of
MovieLens-100K and ranks a few users, in turn with the products of its linear layers alone on as many tokens, so that a
noisy machine slows both: the share is what those products are of a pass. Seconds are the processor's: the tokens are
those of a core. ``RECSYS_LT_NATIVE=0`` has the plain forms.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import nn

from recsys_lt import CONF
from recsys_lt.backbones.sasrec import SASRec
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.loader import RankBatches, Share, TrainBatches, users_with_target
from recsys_lt.system.machine import forget_peak_rss, peak_rss_mb
from recsys_lt.training.build import build

ROUNDS = 3


def _seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _products(language: Any, tokens: int, dtype: torch.dtype, backward: bool) -> Callable[[], None]:
    """The frozen linear layers' products alone, in the precision they have: forward, and by their inputs backward."""
    shapes = [
        tuple(module.weight.shape)
        for name, module in language.causal.named_modules()
        if isinstance(module, nn.Linear) and "lora_" not in name and "lm_head" not in name
    ]
    made = {
        shape: (torch.randn(tokens, shape[1], dtype=dtype), torch.randn(shape, dtype=dtype)) for shape in set(shapes)
    }

    def work() -> None:
        for shape in shapes:
            given, weight = made[shape]
            answer = given @ weight.T
            if backward:
                answer @ weight

    return work


def main(arguments: list[str]) -> None:
    """Measure and print."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["dataset=ml-100k", "model=e4srec", "logger=none", "strategy=cpu", *arguments])
    parts = build(config)
    data = parts.data(print)
    facts = DataFacts(data.n_users, data.n_items, torch.from_numpy(data.popularity))
    first = SASRec(facts, width=64, blocks=2, heads=1, max_length=50, dropout=0.1).requires_grad_(False)
    module = parts.recommender(data, {"model.item_vectors": first, "model.retriever": first})
    owner: Any = getattr(module, "backbone", module)
    language = owner.language
    source = TrainBatches(data, module.task, config.trainer.batch_rows, 0, Share(), module.needs_seen)
    users = users_with_target(data, "test")
    ranking = RankBatches(data, users, "test", module.max_length, 32, with_seen=True)
    mixed = config.precision == "bf16-mixed"
    dtype = torch.bfloat16 if mixed else language.vocabulary.dtype
    forget_peak_rss()

    def train(step: int) -> None:
        module.train()
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            losses = module.batch_losses(source[0, step])[0]
        losses.sum().backward()

    def rank(step: int) -> None:
        module.eval()
        batch = ranking[step]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            module.rank(batch, 10)

    train(0)
    with torch.inference_mode():
        module.eval().begin_ranking()
    for name, work, backward in (("training", train, True), ("ranking", rank, False)):
        total = floor = 0.0
        tokens = targets = 0
        for step in range(1, ROUNDS + 1):
            before = language.tokens_read
            total += _seconds(lambda step=step, work=work: work(step))  # type: ignore[misc]
            tokens += language.tokens_read - before
            targets += len((source[0, step] if name == "training" else ranking[step]).targets)
            floor += _seconds(_products(language, language.tokens_read - before, dtype, backward))
        print(
            f"{name}: {tokens / total:.0f} tokens/s a core, {targets / total:.1f} targets/s, "
            f"{total / ROUNDS:.1f} s a batch of {tokens // ROUNDS} tokens; "
            f"matrix products alone {floor / ROUNDS:.1f} s, {floor / total:.0%} of it"
        )
    print(f"peak RSS {peak_rss_mb():,.0f} MB; {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main(sys.argv[1:])
