"""What came back from the machine with the GPU, put where it belongs."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_lt.errors import UserError
from recsys_lt.system.atomic import write_json
from studies.gpu_day.at_once import FAILED
from studies.gpu_day.grid import Cell, curve
from studies.gpu_day.packed import unpack
from studies.shared.kept import is_finished, keep

#: A pack of runs that are measurements too.
FINISHED = "finished.parquet"


@dataclass(frozen=True)
class Places:
    """Where things belong on this side.

    Parameters
    ----------
    runs
        The pack of the runs that the repository keeps.
    state
        What the next parcel takes along: ``runs/`` (unfinished cells), ``stages/`` (measurements), and
        ``FINISHED`` (runs that are measurements too).
    """

    runs: Path
    state: Path


def collect(folder: Path, cells: Sequence[Cell], places: Places, overrides: Sequence[str] = ()) -> list[str]:
    """Put what came back where it belongs; lines that say what it was.

    A finished cell that is kept already stays as it is, as does an unfinished one that was further.

    Parameters
    ----------
    folder
        What came back.
    cells
        The cells that are known.
    places
        Where things belong.
    overrides
        Those of the parcel.

    Raises
    ------
    UserError
        Where nothing came back, or what was run with other overrides.
    """
    with tempfile.TemporaryDirectory(prefix="gpu_day_") as temporary:
        place = Path(temporary)
        about = unpack(folder, place)
        if about is None:
            raise UserError("nothing of a GPU day is in it", where=folder, remedy="Name the folder that came back")
        if about.get("overrides", []) != list(overrides):
            raise UserError(
                f"it was run with other settings ({' '.join(about['overrides']) or 'none'})",
                where=folder,
                remedy="Give --set, --runs and --state as for the parcel",
            )
        lines = []
        broken = {name.rpartition("/")[0] for name in about["sums"]} - set(about["whole"])
        lines += [f"{name}: came back broken, left out" for name in sorted(broken)]
        by_name = {cell["cell"]: cell for cell in cells}
        for unit in about["whole"]:
            kind, _, name = unit.partition("/")
            if kind == "stages":
                _merge_stages(place / unit, places.state / "stages")
            elif name not in by_name:
                lines.append(f"{name}: no cell has this name, left out")
            elif kind == "done":
                lines.append(f"{name}: {_land(place / unit, by_name[name], str(about['commit']), places)}")
            else:
                lines.append(f"{name}: {_take_along(place / unit, places.state / 'runs' / name)}")
        return lines


def _land(folder: Path, cell: Cell, commit: str, places: Places) -> str:
    """Keep a finished run."""
    from recsys_lt.runs.metrics_file import read_metrics

    name = cell["cell"]
    target = (places.state / FINISHED if cell.get("alone") else places.runs) / name
    if is_finished(target):
        return "was kept before, left as it is"
    try:
        metrics = read_metrics(folder / "metrics.json")
    except UserError as error:
        return f"left out ({error})"
    other = [key for key, value in cell["choose"].items() if metrics.get(key) != value]
    if other or not is_finished(folder):
        return f"left out, it is another run ({', '.join(other)})" if other else "left out, it is not finished"
    # The other machine has the tree without its history.
    versions: dict[str, Any] = metrics.get("versions", {})
    if versions.get("commit") is None:
        versions["commit"] = commit
        write_json(folder / "metrics.json", metrics)
    keep(folder, target)
    shutil.rmtree(places.state / "runs" / name, ignore_errors=True)
    return f"done, test NDCG@10 {metrics['test']['ndcg@10']:.4f}, kept in {target}"


def _take_along(folder: Path, target: Path) -> str:
    """Keep what an unfinished run had reached for the next parcel."""
    there, here = curve(folder).epochs, curve(target).epochs
    if there <= here:
        return f"{there} epochs, {here} are here already"
    draft = target.with_name(f".{target.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, draft)
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
    return f"{there} epochs, goes on with the next parcel"


def _merge_stages(folder: Path, target: Path) -> None:
    """Keep measurements; one that was cut short never takes the place of one that was not."""
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob(f"{FAILED}*.txt"):
        old.unlink()
    for file in folder.iterdir():
        known = target / file.name
        if file.suffix == ".json" and known.exists() and _cut(file) and not _cut(known):
            continue
        shutil.copy2(file, known)


def _cut(path: Path) -> bool:
    return json.loads(path.read_text(encoding="utf-8")).get("cut") is not False
