"""Our epoch of full-softmax cross-entropy against the peers', in turn and on the same data, one line a peer.

``python studies/speed/peers/compare.py``, after ``install.py`` beside it. Each repeat runs the peer's driver
(``<name>/run.py``) in its own environment and then ours (``bench.py``), each in a fresh process, so that both meet
the same machine. A peer's epoch takes minutes: a part of its steps is timed and scaled by rows. Ours is timed whole.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recsys_lt.errors import UserError

# Nothing large may be imported here: a process starts with its parent's peak of memory.
from studies.shared import machine
from studies.speed.peers import install

PEERS = Path(__file__).resolve().parent

#: Steps to time of a peer's epoch; fewer are rough and not saved.
STEPS = 20
#: Most memory ours may take, as a share of the peer's.
MEMORY = 0.5
#: glibc keeps what is freed: hundreds of MB of logits are then not fetched from the system page by page at every step.
KEEPS_FREED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TOP_PAD_": str(1 << 28), "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}


@dataclass(frozen=True)
class Peer:
    """What ours is compared to.

    Parameters
    ----------
    folder
        Where its driver and requirements are.
    times
        How many times its epoch should be ours.
    environment
        Variables it runs under.
    """

    folder: str
    times: float
    environment: Mapping[str, str] = field(default_factory=dict)


COMPARISONS = {
    "recbole": Peer("recbole", 15),
    "rectools": Peer("rectools", 25),
    "replay": Peer("replay", 15),
    "replay-malloc": Peer("replay", 15, KEEPS_FREED),
    "freerec": Peer("freerec", 15),
}


@dataclass(frozen=True)
class Asked:
    """What the command line asked of every comparison."""

    steps: int
    repeats: int
    environments: Path | None
    raw_dir: str | None
    overrides: tuple[str, ...]


def compare(name: str, asked: Asked, data: Path) -> dict[str, Any]:
    """Run a peer and ours in turn; what a result file holds."""
    peer = COMPARISONS[name]
    theirs: list[dict[str, Any]] = []
    ours: list[dict[str, Any]] = []
    for _ in range(asked.repeats):
        theirs.append(run_peer(peer, asked, data))
        ours.append(run_ours(equal_users(theirs[-1], _users(data)), asked))
    return {"name": name, **joined(peer, theirs, ours)}


def equal_users(theirs: Mapping[str, Any], users: int) -> int:
    """Users in our batch for an equal share of an epoch, and so as many steps: theirs, where a row is a user."""
    return max(1, round(theirs["batch_rows"] * users / theirs["rows"]))


def export(asked: Asked, data: Path) -> str:
    """Write the data for the peers; what they are."""
    options = [] if asked.raw_dir is None else ["--raw-dir", asked.raw_dir]
    options += ["--set", *asked.overrides] if asked.overrides else []
    return _output([sys.executable, str(PEERS / "export.py"), str(data), *options], "export.py", os.environ).strip()


def run_peer(peer: Peer, asked: Asked, data: Path, batch_rows: int | None = None) -> dict[str, Any]:
    """Run a peer's driver in its environment; its report. None for its own default batch."""
    python = install.interpreter(peer.folder, asked.environments)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | dict(peer.environment)
    command = [str(python), str(PEERS / peer.folder / "run.py"), str(data), "--steps", str(asked.steps)]
    command += [] if batch_rows is None else ["--batch-rows", str(batch_rows)]
    return report_in(_output(command, peer.folder, environment))


def report_in(output: str) -> dict[str, Any]:
    """The report among whatever else a peer prints: its last line that is an object of JSON."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            report: dict[str, Any] = json.loads(line)
            return report
    raise UserError("the driver printed no report", remedy="Run it by itself to see what it says")


def run_ours(users: int, asked: Asked) -> dict[str, Any]:
    """Time our epoch and ranking with ``bench.py``, in batches of so many users."""
    overrides = ["--set", *asked.overrides, f"trainer.batch_rows={users}"]
    raw_dir = [] if asked.raw_dir is None else ["--raw-dir", asked.raw_dir]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(PEERS.parent / "bench.py"), "--only", "ce-float32", "evaluate"]
        _output([*command, "--repeats", "1", "--results", folder, *raw_dir, *overrides], "bench.py", os.environ)
        results = json.loads((Path(folder) / "bench.json").read_text(encoding="utf-8"))
        epoch, ranking = (results[name] for name in ("ce-float32", "evaluate"))
    return {
        "seconds": epoch["seconds"],
        "floor_seconds": epoch["floor_seconds"],
        "batch_users": users,
        "peak_rss_mb": epoch["peak_rss_mb"],
        "evaluate_seconds": ranking["seconds"],
        "evaluate_peak_rss_mb": ranking["peak_rss_mb"],
        "masks_seen": True,
        **{key: epoch[key] for key in ("data", "machine", "versions", "loop")},
    }


def joined(peer: Peer, theirs: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians of the repeats, and what they come to."""

    def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        keys = ("seconds", "peak_rss_mb", "evaluate_seconds", "evaluate_peak_rss_mb")
        return {key: statistics.median(run[key] for run in runs) for key in keys}

    their, our = medians(theirs), medians(ours)
    one, mine = theirs[0], ours[0]
    return {
        "package": one["package"],
        "version": one["versions"][one["package"]],
        "theirs": their,
        "ours": our,
        "ratio": their["seconds"] / our["seconds"],
        "memory_ratio": our["peak_rss_mb"] / their["peak_rss_mb"],
        "evaluate_ratio": their["evaluate_seconds"] / our["evaluate_seconds"],
        "asked": {"ratio": peer.times, "memory_ratio": MEMORY},
        "environment": dict(peer.environment),
        "trains": one["trains"],
        **{key: one[key] for key in ("rows", "batch_rows", "targets", "timed_steps", "steps_an_epoch", "masks_seen")},
        "our_batch_users": mine["batch_users"],
        "data": mine["data"],
        "machine": mine["machine"],
        "versions": {"theirs": one["versions"], "ours": mine["versions"]},
        "repeats": {"theirs": list(theirs), "ours": list(ours)},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def line(result: Mapping[str, Any]) -> str:
    """What is printed of a comparison."""
    theirs, ours, asked = result["theirs"], result["ours"], result["asked"]
    return (
        f"{result['name']:<14} {theirs['seconds']:>7.1f} s, ours {ours['seconds']:>6.2f} s"
        f"  {result['ratio']:>6.1f}x (target {asked['ratio']:g}x)"
        f"  peak {theirs['peak_rss_mb']:>5.0f} MB, ours {ours['peak_rss_mb']:>4.0f} MB"
        f"  {result['memory_ratio']:.2f} (target {asked['memory_ratio']:g})"
        f"  ranking {theirs['evaluate_seconds']:.1f} s, ours {ours['evaluate_seconds']:.1f} s,"
        f" seen {'masked' if result['masks_seen'] else 'not masked'}"
        f"  trains {result['trains']}: {result['targets']:,} targets in batches of {result['batch_rows']:,} rows"
        f" (ours {result['our_batch_users']:,} users);"
        f" {result['timed_steps']} of {result['steps_an_epoch']} steps timed"
    )


def _users(data: Path) -> int:
    """Users with something to train on: those with two training events."""
    counts: dict[str, int] = {}
    with data.open(encoding="utf-8") as file:
        for row in file:
            if row.endswith("train\n"):
                user = row.split(",", 1)[0]
                counts[user] = counts.get(user, 0) + 1
    return sum(count >= 2 for count in counts.values())


def _output(command: Sequence[str], what: str, environment: Mapping[str, str]) -> str:
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        raise UserError(said[-1].removeprefix("error: ").rstrip("."), where=what)
    return done.stdout


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"there are {', '.join(COMPARISONS)}")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps timed of a peer's epoch (default: {STEPS})")
    parser.add_argument("--repeats", type=int, default=2, help="how often each in turn (default: 2); medians are said")
    parser.add_argument("--environments", type=Path, help="where install.py made them, if elsewhere")
    parser.add_argument("--raw-dir", help="folder with Beauty's raw files (default: where a run looks for them)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="other data, such as dataset=ml-1m")
    parser.add_argument(
        "--results",
        type=Path,
        help="folder of the result files (default: results/; with fewer steps, none)",
    )
    return parser


def _checked(arguments: argparse.Namespace) -> list[str]:
    for key in ("repeats", "steps"):
        if getattr(arguments, key) < 1:
            raise UserError(
                f"it is {getattr(arguments, key)}", where=f"--{key}", remedy="Give a whole number of at least 1"
            )
    names = arguments.only or list(COMPARISONS)
    for name in names:
        installed(name, arguments.environments, "--only")
    return names


def installed(name: str, environments: Path | None, option: str) -> None:
    """Raise UserError unless there is such a peer, with an environment."""
    if name not in COMPARISONS:
        raise UserError(f"no peer is named {name!r}", where=option, remedy=f"Choose from {', '.join(COMPARISONS)}")
    folder = COMPARISONS[name].folder
    if not install.interpreter(folder, environments).exists():
        raise UserError(
            f"{folder} has no environment",
            where=install.environment(folder, environments),
            remedy=f"Make it with python studies/speed/peers/install.py {folder}",
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print; 0, or 2 with one line on standard error for what the user can mend."""
    arguments = _parser().parse_args(argv)
    folder = arguments.results or (machine.RESULTS if arguments.steps >= STEPS else None)
    try:
        names = _checked(arguments)
        load = os.getloadavg()[0]
        if load > machine.QUIET:
            print(f"the machine was not quiet (load {load:.1f}): do not keep these results", flush=True)
        asked = Asked(
            arguments.steps, arguments.repeats, arguments.environments, arguments.raw_dir, tuple(arguments.set)
        )
        with tempfile.TemporaryDirectory() as temporary:
            data = Path(temporary) / "data.csv"
            print(f"data: {export(asked, data)}", flush=True)
            for name in names:
                result = compare(name, asked, data) | {"load_before": load}
                print(line(result), flush=True)
                if folder is not None:
                    machine.save(folder / "peers.json", name, result)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
