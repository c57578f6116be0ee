"""Processor time and memory of a training step of S-DPO and NAPO against the number of negatives.

``python studies/preference/cost.py AUXILIARY [FILE]``: a title model with SmolLM2-135M in bfloat16, four rows a step,
forward and backward pass; ``AUXILIARY`` is the run folder of a SASRec on MovieLens-100K. The plain form reads every
answer in a row of its own, after its whole prompt. Each number is the least of three, after one pass that is not timed.
"""

import argparse
import ctypes
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

import recsys_lt
from recsys_lt.data.loader import Share, TrainBatches
from recsys_lt.llm.prompt import TitleModel
from recsys_lt.losses.item_preference import NAPO, ItemPreference
from recsys_lt.losses.preference import Answers
from recsys_lt.system.machine import forget_peak_rss, peak_rss_mb
from recsys_lt.training.build import build

ROWS, REPEATS = 4, 3
KS = (1, 3, 7, 15)
CHOICES = (
    "dataset=ml-100k", "logger=none", "strategy=cpu", "model=title_likelihood", "model.train=true",
    "model.max_length=10", "model.title_tokens=16", "llm.dtype=bfloat16", "precision=bf16-mixed",
)  # fmt: skip


def measured(step: Callable[[], Tensor]) -> dict[str, float]:
    """Seconds of processor time, and the rise of the process's memory over what it held before, in MB."""
    seconds, peaks = [], []
    for _ in range(1 + REPEATS):
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what the pass before freed does not count as held (glibc)
        forget_peak_rss()
        before, began = peak_rss_mb(), time.process_time()
        step().backward()
        seconds.append(time.process_time() - began)
        peaks.append(peak_rss_mb() - before)
    return {"seconds": min(seconds[1:]), "megabytes": max(peaks[1:])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("auxiliary", type=Path)
    parser.add_argument("file", type=Path, nargs="?", default=Path(__file__).with_name("cost.json"))
    given = parser.parse_args()
    with initialize_config_dir(str(recsys_lt.CONF), version_base="1.3"):
        parts = build(compose("config", list(CHOICES)))
    data = parts.data()
    module = parts.recommender(data)
    assert isinstance(module, TitleModel)
    counts, auxiliary = torch.from_numpy(data.popularity), recsys_lt.load(given.auxiliary).model.model
    found: dict[str, dict[str, float]] = {}

    def take(name: str, loss: ItemPreference, **compared: object) -> None:
        loss.prepare(counts, compared)
        module.take_loss(loss)
        batch = TrainBatches(data, module.task, ROWS, 0, Share(), True)[0, 0]
        found[name] = measured(lambda: module.batch_losses(batch)[0].sum())
        found[name]["negatives"] = float(module.health(batch)["rejected_items"])
        print(name, found[name], flush=True)

    def separate(k: int) -> None:
        """The same loss with a row for each answer."""
        loss = ItemPreference(k, 1.0, reference=False)
        loss.prepare(counts)
        module.take_loss(loss)
        batch = TrainBatches(data, module.task, ROWS, 0, Share(), True)[0, 0]
        ids, _ = loss.uniform(module._draw(batch), batch.targets, data.n_items)
        items = torch.cat([batch.targets.unsqueeze(1), ids], 1).tolist()
        prompts = [prompt for prompt in module._prompts(batch) for _ in range(k + 1)]
        titles = [module.titles[item] for row in items for item in row]
        lengths = torch.tensor([len(title) + 1 for title in titles])

        def step() -> Tensor:
            with module.autocast(module.precision.backbone):
                keys = torch.arange(len(prompts))
                costs = module.language.answer_losses(module.opening, prompts, titles, keys, 1)
            logs = (-costs.float() * lengths).view(ROWS, k + 1)
            return loss.form(Answers(logs[:, 0], logs[:, 1:]), torch.ones_like(ids, dtype=torch.bool)).mean()

        found[f"separate_rows_{k}"] = measured(step)
        print(f"separate_rows_{k}", found[f"separate_rows_{k}"], flush=True)

    module.train()
    for k in KS:
        take(f"s_dpo_no_reference_{k}", ItemPreference(k, 1.0, reference=False))
    take("napo_3", NAPO(3, 1.0, reference=False, margin=1.0, group=ROWS, share=1.0), auxiliary=auxiliary)
    for k in (1, 3):
        separate(k)
    reference = parts.recommender(data).eval().requires_grad_(False)
    for k in (1, 3):
        take(f"s_dpo_{k}", ItemPreference(k, 1.0), reference=reference)
    given.file.write_text(json.dumps({"rows": ROWS, "threads": torch.get_num_threads(), **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
