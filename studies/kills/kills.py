"""Kill tiny runs at random moments and while they write, resume them, and compare with runs that were left alone.

``python studies/kills/kills.py`` prints a line a run and ends with a table; it exits with 1 if a run ended otherwise.
Every start is a fork of a process that has imported everything, so that a hundred take minutes.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

MADE = (
    "dataset=synthetic", "dataset.source.n_users=400", "dataset.source.n_items=120", "trainer.batch_rows=64",
    "trainer.max_epochs=8", "trainer.eval_every=2", "logger=none",
)  # fmt: skip
TITLES = (
    "dataset=synthetic", "dataset.source.n_users=60", "dataset.source.n_items=40", "llm=tiny_random", "model=e4srec",
    "model.max_length=6", "strategy=cpu", "trainer.batch_rows=16", "trainer.rank_rows=16", "trainer.max_epochs=3",
    "trainer.eval_every=1", "logger=none",
)  # fmt: skip
DDP = ("strategy=ddp", "strategy.accelerator=cpu", "trainer.devices=2")
#: What is killed, by a name for it.
KINDS = {
    "adam": MADE,
    "lazy_adam": (*MADE, "optimizer=lazy_adam"),
    "sam": (*MADE, "optimizer=sam"),
    "eisam, two passes": (*MADE, "optimizer=eisam", "trainer.accumulate=2", "optimizer.accumulate=two_pass"),
    "eisam, stale": (*MADE, "optimizer=eisam", "optimizer.form=stale", "optimizer.rho=0.5"),
    "sce": (*MADE, "loss=sce"),
    "two workers": (*MADE, "trainer.num_workers=2"),
    "ddp, two processes": (*MADE, *DDP),
    "language model, two stages": TITLES,
}
#: Files whose writing is waited for.
WRITTEN = ("best", "last", "metrics", "ranks", "learning_curve", "config")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)


class Killed(NamedTuple):
    """A run that was killed again and again: by what, and whether it ended as one left alone."""

    kind: str
    kills: list[str]
    identical: bool


def main() -> int:
    """Kill runs; 1 if one ended otherwise than a run left alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="default: all")
    parser.add_argument("--kills", type=int, default=12, help="of each kind, at least (default: 12)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--results", type=Path, help="write the counts here, as JSON")
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    counts: dict[str, dict[str, int]] = {}
    place = Path(tempfile.mkdtemp())  # it stays where something fails
    with chdir(place):
        os.environ["RECSYS_LT_CACHE"] = str(place / "cache")
        _import_everything()
        for kind in asked.kinds:
            count = counts[kind] = {"kills": 0, "runs": 0, "identical": 0}
            work = place / kind.replace(" ", "_").replace(",", "")
            work.mkdir()
            alone, seconds = left_alone(kind, work)
            while count["kills"] < asked.kills:
                run = killed(kind, work / f"run{count['runs']}", alone, seconds, chance)
                count["runs"] += 1
                count["kills"] += len(run.kills)
                count["identical"] += run.identical
                print(
                    f"{kind}: {', '.join(run.kills)}: {'identical' if run.identical else 'ANOTHER RESULT'}", flush=True
                )
    shutil.rmtree(place)
    print(f"\nseed {asked.seed}\n{'':28}{'kills':>7}{'runs':>7}{'identical':>11}")
    for kind, count in counts.items():
        print(f"{kind:28}{count['kills']:7}{count['runs']:7}{count['identical']:11}")
    if asked.results is not None:
        asked.results.write_text(json.dumps({"seed": asked.seed, "kinds": counts}, indent=2) + "\n")
    return int(any(count["identical"] < count["runs"] for count in counts.values()))


def killed(kind: str, folder: Path, alone: dict[str, Any], seconds: float, chance: random.Random) -> Killed:
    """Start a run, kill it up to six times, and let it end.

    Parameters
    ----------
    kind
        Of ``KINDS``.
    folder
        The run folder it gets.
    alone, seconds
        What a run left alone ends with, and how long it takes.
    chance
        When it is killed.
    """
    kills = []
    for _ in range(chance.randint(2, 6)):
        number = chance.choice(SIGNALS)
        moment, has_come = _moment(folder, seconds, chance)
        process = _start(kind, folder)
        while not (code := _ended(process)) and not has_come():
            time.sleep(0.0005)
        if code:
            if code[0] != 0:
                raise SystemExit(f"{kind}: it ended with {code[0]}, see {folder}.log")
            break
        os.kill(process, number)
        code = _ended(process, wait=True)
        assert code is not None
        if code == (0,):
            break  # it had ended meanwhile
        if code[0] not in (-number, 128 + number):
            raise SystemExit(f"{kind}: {signal.Signals(number).name} ended it with {code[0]}, see {folder}.log")
        kills.append(f"{signal.Signals(number).name} {moment}")
    code = _ended(_start(kind, folder), wait=True)
    if code != (0,):
        raise SystemExit(f"{kind}: its last start ended with {code}, see {folder}.log")
    return Killed(kind, kills, result(folder) == alone)


def _moment(folder: Path, seconds: float, chance: random.Random) -> tuple[str, Callable[[], bool]]:
    """When to kill a run that starts now, in words, and whether it has come."""
    if chance.random() < 0.5:
        name = chance.choice(WRITTEN)
        return f"while {name} is written", partial(_writes, folder, name)
    end = time.monotonic() + chance.random() * seconds
    return "at a random moment", lambda: time.monotonic() >= end


def result(folder: Path) -> dict[str, Any]:
    """What must not depend on how often a run was stopped."""
    import pandas as pd

    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    ranks = pd.read_parquet(folder / "ranks.parquet")
    return {key: metrics[key] for key in ("test", "valid", "best_epoch", "epochs", "finished")} | {
        "ranks": {name: ranks[name].tolist() for name in ranks}
    }


def left_alone(kind: str, work: Path) -> tuple[dict[str, Any], float]:
    """Do a run that nobody kills; what it ends with, and the seconds it takes."""
    begun = time.monotonic()
    code = _ended(_start(kind, work / "alone"), wait=True)
    if code != (0,):
        raise SystemExit(f"{kind}: the run left alone ended with {code}, see {work}/alone.log")
    return result(work / "alone"), time.monotonic() - begun


def _import_everything() -> None:
    import recsys_lt.cli.train
    import recsys_lt.training.run
    import recsys_lt.training.stages  # noqa: F401


def _start(kind: str, folder: Path) -> int:
    """Begin the run, or resume it if there is one; the process."""
    from recsys_lt.cli.train import main as command
    from recsys_lt.system import stopping

    begun = (folder / "config.yaml").is_file()
    process = os.fork()
    if process:
        return process
    try:
        os.setpgrp()
        stopping.end_at_once()  # as the command does before it imports
        with Path(f"{folder}.log").open("ab") as log:
            for descriptor in (1, 2):
                os.dup2(log.fileno(), descriptor)
        sys.argv = ["recsys_lt", *(["resume", str(folder)] if begun else [*KINDS[kind], f"hydra.run.dir={folder}"])]
        code = command()
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    os._exit(code)


def _writes(folder: Path, name: str) -> bool:
    try:
        return any(path.name.startswith(f".{name}.") for path in folder.iterdir())
    except OSError:
        return False


def _ended(process: int, wait: bool = False) -> tuple[int] | None:
    """The exit code of a process, minus a signal's number if that ended it; None while it runs."""
    which, status = os.waitpid(process, 0 if wait else os.WNOHANG)
    return (os.waitstatus_to_exitcode(status),) if which else None


if __name__ == "__main__":
    sys.exit(main())
