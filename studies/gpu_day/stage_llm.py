"""A language model as the backbone: E4SRec with EISAM, in 4 bits, and sharded with Adam; each says why it cannot be.

The weights are a tiny model's with random values, as pretrained ones are too large to travel. What is tried is that the
code runs on this device, not how good or how fast a language model is.
"""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from studies.gpu_day.stage import ROOT, Stage, stage

_DATA = ("dataset=synthetic", "dataset.source.n_users=60", "dataset.source.n_items=100")
_E4SREC = ("model=e4srec", "llm=tiny_random", "trainer.max_epochs=1", "model.max_length=10")


def _run(choices: Sequence[str], log: Path) -> None:
    """Be ``python -m recsys_lt`` in a process that has imported it."""
    from recsys_lt.cli.train import main

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    sys.argv = ["recsys_lt", *choices]
    sys.exit(main())


def run(this: Stage, name: str) -> dict[str, Any]:
    """Train one; its code, seconds and test NDCG@10, and the last line it printed."""
    device = f"strategy={'gpu' if this.device == 'cuda' else 'cpu'}"
    folder = this.result.parent.parent / "llm"
    folder.mkdir(exist_ok=True)
    e4srec = (*_E4SREC, f"model.item_vectors={folder / 'vectors'}")
    choices = {
        "vectors": ("model=sasrec", "loss=ce", "trainer.max_epochs=1", device),
        "E4SRec, EISAM": (*e4srec, "optimizer=eisam", device),
        "E4SRec, EISAM, 4 bits": (*e4srec, "optimizer=eisam", "llm.quantize=4bit", device),
        # SAM and EISAM need all parameters on every device.
        "E4SRec, FSDP": (*e4srec, "optimizer=adam", "strategy=fsdp", "trainer.devices=1"),
    }[name]
    place = folder / name.replace(",", "").replace(" ", "_")
    log = place.with_suffix(".txt")
    arguments = [*_DATA, *choices, "logger=none", f"hydra.run.dir={place}"]
    start = time.monotonic()
    # A fork starts with everything imported; once a library has asked for the GPU, it cannot use one.
    context: Any = multiprocessing.get_context("fork" if this.device == "cpu" else "spawn")
    process = context.Process(target=_run, args=(arguments, log), daemon=True)
    process.start()
    process.join()
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    found = {"code": process.exitcode, "seconds": time.monotonic() - start, "said": said[-1] if said else ""}
    if process.exitcode == 0:
        found["ndcg@10"] = json.loads((place / "metrics.json").read_text(encoding="utf-8"))["test"]["ndcg@10"]
    return found


def main() -> None:
    """Try one after the other, each in a process of its own."""
    this = stage()
    os.chdir(ROOT)
    if this.device == "cpu":
        for module in (
            "recsys_lt.cli.train",
            "recsys_lt.training.stages",
            "recsys_lt.llm.e4srec",
            "transformers",
            "peft",
        ):
            import_module(module)
    names = ("vectors", "E4SRec, EISAM", "E4SRec, EISAM, 4 bits", "E4SRec, FSDP")
    this.each(names, lambda name: run(this, name))


if __name__ == "__main__":
    main()
