"""Preparing and training on 1 to 100 million interactions: seconds, memory, and the time to the first step.

``python studies/speed/scale_data.py``. The catalogue, and with it the model, has one size; the users grow. Preparation
and training each have a process of their own; training is a few steps only. Memory is counted in two
parts: anonymous pages, which a process needs, and mapped pages of the prepared files, which the system can take back.
"""

import argparse
import io
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_lt.errors import UserError
from studies.shared.machine import alone, here

# Everything else is imported where it is used: a process's memory is its own.
if TYPE_CHECKING:
    from omegaconf import DictConfig

RESULTS = Path(__file__).resolve().parent / "results" / "scale-data.json"
SIZES = (1_000_000, 10_000_000, 100_000_000)
MEAN_LENGTH = 20
ITEMS = 50_000  # with dense gradients and moments, the tables of a larger catalogue would be most of a step
SETTING = (
    "dataset=synthetic", f"dataset.source.mean_length={MEAN_LENGTH}", "model=sasrec", "loss=sce", "loss.k=500",
    "loss.share=batch", "optimizer=adam", "strategy=cpu", "logger=none", "trainer.eval_untrained=false",
)  # fmt: skip
_EVERY = 0.01  # seconds between two looks at memory


class _Enough(Exception):  # noqa: N818  (no error: the steps asked for are done)
    pass


def prepare(size: int, items: int, cache: str) -> dict[str, Any]:
    """Draw, prepare and write the dataset; seconds and the process's peak memory."""
    from recsys_lt.system.machine import peak_rss_mb
    from recsys_lt.training.build import build

    config = _composed(size, items, cache)
    dataset = build(config).dataset
    start = time.perf_counter()
    data = dataset.load(lambda _line: None)
    return {
        "seconds": time.perf_counter() - start,
        "peak_rss_mb": peak_rss_mb(),
        "users": data.n_users,
        "items": data.n_items,
        "interactions": len(data.items),
        "files_mb": sum(path.stat().st_size for path in Path(cache).rglob("*.npy")) / 2**20,
    }


def prepare_shuffled(size: int, items: int) -> dict[str, Any]:
    """Prepare the same events in a random order: made-up events come in order, and need no sorting."""
    from dataclasses import replace

    import numpy as np

    from recsys_lt.data.preparation import Preparation
    from recsys_lt.data.sources.synthetic import Synthetic
    from recsys_lt.system.machine import peak_rss_mb

    events = Synthetic(n_users=_users(size), n_items=items, mean_length=MEAN_LENGTH).draw()
    order = np.arange(len(events), dtype=np.int32)
    np.random.default_rng(0).shuffle(order)
    for column in ("users", "items", "times"):
        events = replace(events, **{column: getattr(events, column)[order]})
    del order
    start = time.perf_counter()
    data, _ = Preparation(k_core=1)(events, "shuffled")
    return {
        "seconds": time.perf_counter() - start,
        "peak_rss_mb": peak_rss_mb(),
        "interactions": len(data.items),
    }


def train(size: int, items: int, cache: str, steps: int) -> dict[str, Any]:
    """Begin a run on the prepared dataset and end it after some steps: time to the first, and memory."""
    import torch

    import recsys_lt.backbones.sasrec
    import recsys_lt.data.dataset
    import recsys_lt.data.sources.synthetic
    import recsys_lt.losses.sampled_losses
    import recsys_lt.optim.rule
    import recsys_lt.training.loggers
    import recsys_lt.training.strategies  # noqa: F401  (what a configuration names is imported by then)
    from recsys_lt.runs.stored import Names, Stored
    from recsys_lt.system.machine import peak_rss_mb
    from recsys_lt.training.build import build
    from recsys_lt.training.journal import Journal
    from recsys_lt.training.run import run

    imported, memory = time.perf_counter(), _memory()
    ends: list[float] = []
    batch_end = Journal.on_train_batch_end

    def counted(self: Journal, *arguments: Any) -> None:
        batch_end(self, *arguments)
        ends.append(time.perf_counter())
        if len(ends) == steps:
            raise _Enough

    Journal.on_train_batch_end = counted  # type: ignore[method-assign, assignment]
    config = _composed(size, items, cache)
    with _watched() as peaks, tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        try:
            parts = build(config)
            this = Stored(config, Names("synthetic", "sasrec", "sce", "adam"), None)
            run(this, parts, parts.data(), Path(folder), resumed=False)
            raise UserError("an epoch has fewer steps", where="--steps", remedy="Ask for fewer")
        except _Enough:
            mapped = _mapped_mb(cache)
    return {
        "first_step_seconds": ends[0] - imported,
        "step_seconds": (ends[-1] - ends[0]) / max(1, steps - 1),
        "steps": steps,
        "anonymous_mb_imported": memory["RssAnon"],
        "anonymous_mb_peak": peaks["RssAnon"],
        "file_mb_peak": peaks["RssFile"],
        "dataset_mapped_mb_end": mapped,
        "peak_rss_mb": peak_rss_mb(),
        "threads": torch.get_num_threads(),
    }


def _users(size: int) -> int:
    return size // MEAN_LENGTH


def _composed(size: int, items: int, cache: str) -> "DictConfig":
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from recsys_lt import CONF

    OmegaConf.register_new_resolver("either", lambda first, second: first or second, replace=True)
    sizes = (f"dataset.source.n_users={_users(size)}", f"dataset.source.n_items={items}", f"dataset.cache_dir={cache}")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [*SETTING, *sizes])


def _memory() -> dict[str, float]:
    """``RssAnon`` and ``RssFile`` of this process, in MiB."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0][:-1]: int(words[1]) / 1024 for words in lines if words and words[0] in ("RssAnon:", "RssFile:")}


@contextmanager
def _watched() -> Iterator[dict[str, float]]:
    """The largest of ``_memory`` while the block runs."""
    peaks, done = _memory(), threading.Event()

    def watch() -> None:
        while not done.wait(_EVERY):
            for name, value in _memory().items():
                peaks[name] = max(peaks[name], value)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peaks
    finally:
        done.set()
        watcher.join()


def _mapped_mb(folder: str) -> float:
    """Resident pages of this process that belong to files in the folder, in MiB."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0]:
            inside = folder in line
        elif inside and words[0] == "Rss:":
            total += int(words[1])
    return total / 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0, or 2 with one line on standard error for what the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES, help="interactions (default: 1, 10, 100 million)"
    )
    parser.add_argument("--items", type=int, default=ITEMS, help=f"size of the catalogue (default: {ITEMS:,})")
    parser.add_argument("--steps", type=int, default=12, help="training steps; 0: only prepare (default: 12)")
    parser.add_argument("--cache", help="folder for the prepared data (default: a temporary one, removed after)")
    parser.add_argument("--shuffled", action="store_true", help="also prepare the events in random order")
    parser.add_argument("--results", type=Path, default=RESULTS, help="result file (default: results/scale-data.json)")
    asked = parser.parse_args(argv)
    try:
        if sys.platform != "linux":
            raise UserError(
                "anonymous and mapped memory are read from /proc", where="scale_data.py", remedy="Use Linux"
            )
        if asked.steps < 0:
            raise UserError(f"it is {asked.steps}", where="--steps", remedy="Give at least 0")
        if min(asked.items, *asked.sizes) < MEAN_LENGTH:
            raise UserError(
                f"a size or --items is below {MEAN_LENGTH}", where="scale_data.py", remedy="Give larger ones"
            )
        _measure_all(asked)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _measure_all(asked: argparse.Namespace) -> None:
    from recsys_lt.system.atomic import write_json

    load, found = os.getloadavg()[0], []
    for size in asked.sizes:
        cache = asked.cache or tempfile.mkdtemp(prefix="scale_data_")
        try:
            print(f"about {size:,} interactions, {_users(size):,} users, {asked.items:,} items", flush=True)
            measured: dict[str, Any] = {"asked": size, "prepare": alone(prepare, size, asked.items, cache)}
            print(_prepared(measured["prepare"]), flush=True)
            if asked.steps:
                measured["train"] = alone(train, size, asked.items, cache, asked.steps)
                print(_trained(measured["train"]), flush=True)
        finally:
            if asked.cache is None:
                shutil.rmtree(cache, ignore_errors=True)
        if asked.shuffled:
            measured["prepare_shuffled"] = alone(prepare_shuffled, size, asked.items)
            again = measured["prepare_shuffled"]
            print(f"  in random order: {again['seconds']:.1f} s, peak {again['peak_rss_mb']:,.0f} MB", flush=True)
        found.append(measured)
    write_json(
        asked.results,
        {
            "setting": list(SETTING),
            "sizes": found,
            **here(load),
        },
    )


def _prepared(result: dict[str, Any]) -> str:
    return (
        f"  prepared {result['interactions']:,}: {result['seconds']:.1f} s, peak {result['peak_rss_mb']:,.0f} MB,"
        f" {result['files_mb']:,.0f} MB of files"
    )


def _trained(result: dict[str, Any]) -> str:
    return (
        f"  trained {result['steps']} steps: the first {result['first_step_seconds']:.2f} s after the imports,"
        f" {result['step_seconds']:.3f} s each; anonymous {result['anonymous_mb_imported']:,.0f} MB imported,"
        f" {result['anonymous_mb_peak']:,.0f} MB peak; of the dataset {result['dataset_mapped_mb_end']:,.0f} MB mapped;"
        f" all {result['peak_rss_mb']:,.0f} MB"
    )


if __name__ == "__main__":
    sys.exit(main())
