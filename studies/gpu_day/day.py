"""A GPU for an hour, used from its first minute: what travels there, the work there, and what comes back.

``parcel`` and ``collect`` run on the machine with the repository, ``work`` on the one with the GPU. The page
docs/gpu_hour.md says how.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # nothing is installed there

from recsys_lt.errors import UserError
from recsys_lt.system.machine import refusals
from studies.gpu_day.collect import FINISHED
from studies.gpu_day.grid import CELLS, RUNS, Cell, grid, report
from studies.gpu_day.packed import MIB
from studies.gpu_day.work import STAGES, Machine, work
from studies.shared.kept import is_finished

DAY = ROOT / "outputs" / "gpu_day"
STATE = DAY / "state"
#: Run first and alone, for its time: a run of this cell may be kept already, from a processor.
_TIMED = {
    "cell": "timed_beauty_sasrec_ce_seed0",
    "choose": {"dataset": "beauty", "model": "sasrec", "loss": "ce", "seed": 0},
    "alone": True,
}


def _cells(arguments: argparse.Namespace) -> tuple[list[Cell], list[str]]:
    import yaml

    if arguments.overrides and (arguments.runs == RUNS or arguments.state == STATE):
        raise UserError(
            "runs with other settings are not the published cells",
            where="--set",
            remedy="Give folders of their own with --runs and --state",
        )
    cells: list[Cell] = yaml.safe_load((arguments.cells or CELLS).read_text(encoding="utf-8"))
    chosen, without = (cells, []) if arguments.cells else grid(cells)
    if not arguments.cells:
        chosen = [_TIMED, *chosen]
    if arguments.only:
        known = {cell["cell"] for cell in chosen}
        unknown = [name for name in arguments.only if name not in known]
        if unknown:
            raise UserError(
                f"no cell is named {unknown[0]!r}", where="--only", remedy=f"Choose from {', '.join(known)}"
            )
        chosen = [cell for cell in chosen if cell["cell"] in arguments.only]
    return chosen, without


def _places(arguments: argparse.Namespace) -> list[Path]:
    state = arguments.state
    return [arguments.runs, state / FINISHED, state / "runs"]


def _parcel(arguments: argparse.Namespace) -> None:
    from studies.gpu_day import wheels
    from studies.gpu_day.parcel import Asked, make

    cells, without = _cells(arguments)
    left = [cell for cell in cells if not any(is_finished(place / cell["cell"]) for place in _places(arguments))]
    if not left:
        print("every cell is done")
        return
    folder = arguments.wheels
    if folder is None:
        folder = DAY / f"wheels-{arguments.python}"
        wheels.fetch(folder, ROOT, arguments.python)
    asked = Asked(
        tuple(left),
        tuple(without),
        tuple(arguments.overrides),
        arguments.state,
        folder,
        round(arguments.limit * MIB),
    )
    for place, lines in make(asked, arguments.out):
        print("\n  ".join([f"{place}:", *lines]))


def _work(arguments: argparse.Namespace) -> None:
    parcel = arguments.parcel.resolve()
    if not (parcel / "parcel.json").is_file():
        raise UserError("no parcel is there", where=parcel, remedy="Give the folder that `day.py parcel` wrote")
    place = (arguments.place or parcel.parent / "there").resolve()
    machine = Machine(parcel, place, arguments.out.resolve(), arguments.device)
    print(work(machine, arguments.minutes, arguments.stages, arguments.side_by_side), end="")


def _collect(arguments: argparse.Namespace) -> None:
    from studies.gpu_day.collect import Places, collect

    cells, _ = _cells(arguments)
    for line in collect(arguments.folder, cells, Places(arguments.runs, arguments.state), arguments.overrides):
        print(line)
    _left(arguments)


def _left(arguments: argparse.Namespace) -> None:
    from studies.gpu_day.parcel import with_epochs
    from studies.gpu_day.work import best_number, read_json

    cells, without = _cells(arguments)
    stages = arguments.state / "stages"
    device = read_json(stages / "found.json").get("kind")
    with_them = [with_epochs(cell, arguments.overrides) for cell in cells]
    print(report(with_them, _places(arguments), device, best_number(stages), without), end="")


def _number(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("give a number above 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("give 1 or more")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Any, words: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=words, description=words)
        added.set_defaults(function=function)
        return added

    def on_this_side(added: argparse.ArgumentParser) -> None:
        added.add_argument("--cells", type=Path, help="a file like cells.yaml, all of which is run (default: the grid)")
        added.add_argument("--only", nargs="+", metavar="CELL", help="names of cells (default: all)")
        added.add_argument("--runs", type=Path, default=RUNS, help="the pack of the finished runs that are kept")
        added.add_argument("--state", type=Path, default=STATE, help="what came back and is not finished")
        added.add_argument("--set", dest="overrides", nargs="+", default=[], metavar="KEY=VALUE", help="for all cells")

    packing = command("parcel", _parcel, "write what travels to the machine with the GPU")
    on_this_side(packing)
    packing.add_argument("--out", type=Path, default=DAY, help="folder of the parcels")
    packing.add_argument("--limit", type=_number, default=64, metavar="MIB", help="size of a parcel (default: 64)")
    packing.add_argument("--python", default="3.12", help="version of the other machine's Python (default: 3.12)")
    packing.add_argument("--wheels", type=Path, help="a folder of wheels (default: they are fetched from the index)")

    working = command("work", _work, "work on the machine with the GPU until the minutes are over")
    working.add_argument("--parcel", type=Path, default=DAY / "parcel_1", help="the parcel")
    working.add_argument("--minutes", type=_number, default=9, help="how long it may take, all in all (default: 9)")
    working.add_argument("--out", type=Path, required=True, help="what is in it travels back")
    working.add_argument("--place", type=Path, help="folder to work in (default: `there`, beside the parcel)")
    working.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="what computes")
    working.add_argument("--side-by-side", type=_count, metavar="N", help="runs at once (default: as measured)")
    working.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="what is done, in this order")

    collecting = command("collect", _collect, "put what came back where it belongs")
    collecting.add_argument("folder", type=Path, help="what came back")
    on_this_side(collecting)

    on_this_side(command("left", _left, "say what is done, what is left, and how long it takes"))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0, or 2 with one line on standard error for what the user can mend."""
    arguments = _parser().parse_args(argv)
    try:
        with refusals():
            arguments.function(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
