"""The stages of a GPU day on the machine with the GPU, until the minutes are over."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_lt.errors import UserError
from studies.gpu_day.at_once import FAILED, Clock, Runs, run_at_once, stop_all
from studies.gpu_day.grid import Cell, curve, report
from studies.gpu_day.packed import Unit, pack
from studies.gpu_day.parcel import ABOUT, STATE, TREE
from studies.gpu_day.wheels import install
from studies.shared.kept import SLIM, is_finished

#: Each a run of a script that writes its result to a JSON file; in this order, and the longest each may take.
MEASURING = {
    "found": 120,
    "tests": 180,
    "bench": 240,
    "side_by_side": 120,
    "compiled": 180,
    "llm": 180,
    "long_tests": 420,
}
#: Stages that are another part of the script of an earlier one.
PART_OF = {"compiled": "bench", "long_tests": "tests"}
FOUND, GRID = "found", "grid"
STAGES = ("found", "tests", "bench", "side_by_side", "compiled", GRID, "llm", "long_tests")


@dataclass(frozen=True)
class Machine:
    """Where things lie on the machine with the GPU.

    Parameters
    ----------
    parcel
        The parcel.
    place
        A folder for everything else; what is in it is gone on with.
    out
        What is in it travels back.
    device
        cuda or cpu.
    """

    parcel: Path
    place: Path
    out: Path
    device: str

    @property
    def tree(self) -> Path:
        return self.place / "tree"

    @property
    def runs(self) -> Path:
        return self.place / "runs"

    @property
    def stages(self) -> Path:
        return self.place / "stages"

    def environment(self, at_once: int = 1) -> dict[str, str]:
        """Variables under which the tree's programs find packages, data and each other."""
        path = [str(self.tree), str(self.place / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
        threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // at_once))}
        return (threads | os.environ) | {
            "PYTHONPATH": os.pathsep.join(path),
            "RECSYS_LT_CACHE": str(self.place / "cache"),
            "RECSYS_LT_RAW": str(self.place / "raw"),
            "PYTHONUNBUFFERED": "1",
        }


def work(machine: Machine, minutes: float, stages: Sequence[str], at_once: int | None) -> str:
    """Go through the stages until the minutes are over; what is done and what is left.

    Parameters
    ----------
    machine
        Where things lie.
    minutes
        How long it may take, the packing included.
    stages
        Which of ``STAGES``.
    at_once
        How many runs share the device; None: as many as were measured to be best.
    """
    clock = Clock(minutes)

    def stop(_number: int, _frame: object) -> None:
        clock.stopped = True

    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, stop)
    about = json.loads((machine.parcel / ABOUT).read_text(encoding="utf-8"))
    cells: list[Cell] = about["cells"]
    _check_place(machine.place / "overrides.json", about["overrides"])
    _set_up(machine)
    number = at_once

    def pack_now() -> str:
        return _pack(machine, about, number or best_number(machine.stages))

    for stage in stages:
        if clock.left() <= 0:
            break
        if stage == GRID:
            number = at_once or best_number(machine.stages)
            overrides = [*about["overrides"], f"strategy={'gpu' if machine.device == 'cuda' else 'cpu'}"]
            print(f"grid: {number} at once", flush=True)
            alone = [cell for cell in cells if cell.get("alone")]
            others = [cell for cell in cells if not cell.get("alone")]
            for part, share in (alone, 1), (others, number):
                runs = Runs(machine.runs, machine.stages, machine.tree, machine.environment(share), overrides)
                run_at_once(part, share, runs, clock, pack_now)
        else:
            refused = _measure(stage, machine, clock)
            pack_now()
            if refused is not None:
                raise refused
    return pack_now()


def _check_place(note: Path, overrides: Sequence[str]) -> None:
    """Raise UserError for a folder with runs of other settings: they would be gone on with."""
    note.parent.mkdir(parents=True, exist_ok=True)
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) != overrides:
        raise UserError("runs with other settings are there", where=note.parent, remedy="Give another --place")
    note.write_text(json.dumps(overrides), encoding="utf-8")


def _set_up(machine: Machine) -> None:
    """Unpack the parcel: tree, wheels of what is missing, data, and what earlier commands had reached."""
    shutil.rmtree(machine.tree, ignore_errors=True)
    for archive in (machine.parcel / TREE, *sorted(machine.parcel.glob("data_*.tar.gz"))):
        with tarfile.open(archive) as tar:
            tar.extractall(machine.place, filter="data")
    installed = install(sorted((machine.parcel / "wheels").glob("*.whl")), machine.place / "site")
    print(f"installed: {', '.join(installed) or 'nothing was missing'}", flush=True)
    machine.stages.mkdir(exist_ok=True)
    for file in (machine.parcel / "stages").glob("*"):
        if not (machine.stages / file.name).exists() and not file.name.startswith(FAILED):
            shutil.copy2(file, machine.stages / file.name)
    for reached in (machine.parcel / "runs").glob("*"):
        here = machine.runs / reached.name
        if not is_finished(here) and curve(here).epochs < curve(reached).epochs:
            shutil.rmtree(here, ignore_errors=True)
            shutil.copytree(reached, here)


def _measure(stage: str, machine: Machine, clock: Clock) -> UserError | None:
    """Run the script of a stage, unless it has come to its end before; one that was cut short goes on.

    Returns the reason for which no stage can run, if there is one.
    """
    result = machine.stages / f"{stage}.json"
    # Machines differ, so every one describes itself and checks its data.
    if stage != FOUND and read_json(result).get("cut") is False:
        return None
    print(f"{stage}: begins", flush=True)
    start = time.monotonic()
    log = machine.stages / f"{stage}.log"
    script = machine.tree / "studies" / "gpu_day" / f"stage_{PART_OF.get(stage, stage)}.py"
    asked = ["--device", machine.device, "--parcel", str(machine.parcel), "--result", str(result)]
    with log.open("w", encoding="utf-8") as output:
        run = subprocess.Popen(
            [sys.executable, str(script), *asked],
            cwd=machine.tree,
            env=machine.environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        while run.poll() is None and clock.left() > 0 and time.monotonic() - start < MEASURING[stage]:
            time.sleep(0.1)
        cut = run.poll() is None
        stop_all([run], clock.grace())
    seconds = round(time.monotonic() - start, 1)
    whole = read_json(result) | {"kind": machine.device, "code": run.returncode, "cut": cut, "seconds": seconds}
    result.write_text(json.dumps(whole, indent=1), encoding="utf-8")
    print(f"{stage}: {'was cut short' if cut else f'ended with code {run.returncode}'}, {seconds} s", flush=True)
    if stage != FOUND or cut or not run.returncode:
        return None
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return UserError(said[-1] if said else "it said nothing", where="what the machine has", remedy=f"Read {log}")


def read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def best_number(stages: Path) -> int:
    """How many runs at once were measured to be best; 1 where that was not measured."""
    parts = read_json(stages / "side_by_side.json").get("parts", {})
    return int(parts.get("best", {}).get("number", 1))


def _pack(machine: Machine, about: dict[str, Any], number: int) -> str:
    """Pack what was reached, in order of worth, and say what is done and what is left."""
    cells = about["cells"]
    names = [cell["cell"] for cell in cells]
    logs = [path for path in machine.stages.glob("[!.]*") if path.stat().st_size < 1 << 20]
    done = [name for name in names if is_finished(machine.runs / name)]
    begun = [name for name in names if name not in done and (machine.runs / name / "config.yaml").is_file()]
    # What took longest comes first: it would be the dearest to lose.
    begun.sort(key=lambda name: -(curve(machine.runs / name).epochs * (curve(machine.runs / name).seconds or 0)))
    units = [
        Unit("stages", tuple(sorted(logs))),
        *(Unit(f"done/{name}", tuple(machine.runs / name / file for file in SLIM)) for name in done),
        *(Unit(f"runs/{name}", tuple(machine.runs / name / file for file in STATE)) for name in begun),
    ]
    failed = [path.stem.removeprefix(FAILED) for path in logs if path.name.startswith(FAILED)]
    left_out = pack(machine.out, units, {"commit": about["commit"], "overrides": about["overrides"]})
    said = report(cells, [machine.runs], machine.device, number, about["without"])
    if failed:
        said += f"failed, tried again by the next command: {', '.join(failed)}\n"
    if left_out:
        said += f"no room on the way back, these start again on another machine: {', '.join(left_out)}\n"
    (machine.out / "report.txt").write_text(said, encoding="utf-8")
    return said
