"""What travels to the machine with the GPU: the tree, wheels, prepared data, and what is done already."""

import json
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_lt.errors import UserError
from studies.gpu_day.grid import ROOT, Cell, curve
from studies.gpu_day.packed import MIB
from studies.shared.kept import is_finished

ABOUT = "parcel.json"
TREE = "tree.tar.gz"
#: Not needed there: what earlier runs left, and their pages.
_STAYS = (":!studies/*/runs.parquet", ":!docs/figures", ":!docs/long_tail", ":!docs/statistics")
#: What a run needs to go on. ``last.ckpt`` is read first: the best weights in an archive are never older than it says.
STATE = ("config.yaml", "last.ckpt", "best.ckpt", "learning_curve.csv", "metrics.json")


@dataclass(frozen=True)
class Asked:
    """What a parcel is made of.

    Parameters
    ----------
    cells
        The cells that are to be carried, in order of worth.
    without
        Names of cells of the grid that have no published setting.
    overrides
        Further overrides for all of them.
    state
        Folder of what came back earlier: ``runs/`` and ``stages/``.
    wheels
        Folder of wheels.
    limit
        Bytes of one parcel.
    """

    cells: tuple[Cell, ...]
    without: tuple[str, ...]
    overrides: tuple[str, ...]
    state: Path
    wheels: Path
    limit: int = 64 * MIB


def make(asked: Asked, out: Path) -> list[tuple[Path, list[str]]]:
    """Write parcels, each enough to work with; for each its folder and the lines that say what is in it.

    Where the datasets do not fit into one, each parcel has some of them, with the cells on them.

    Parameters
    ----------
    asked
        What they are made of.
    out
        A folder; ``parcel_1``, ``parcel_2`` and so on are written to it in place of earlier ones.

    Raises
    ------
    UserError
        Where the tree has changes that are not committed, or one dataset is too large.
    """
    commit = _commit()
    draft = out / "parcel.draft"
    shutil.rmtree(draft, ignore_errors=True)
    base = draft / "base"
    base.mkdir(parents=True)
    _git(
        "archive",
        "--format=tar.gz",
        "--prefix=tree/",
        f"--output={(base / TREE).resolve()}",
        "HEAD",
        "--",
        ".",
        *_STAYS,
    )
    shutil.copytree(asked.wheels, base / "wheels", ignore=lambda _, names: [n for n in names if n[-4:] != ".whl"])
    if (asked.state / "stages").is_dir():
        shutil.copytree(asked.state / "stages", base / "stages")
    cells = [with_epochs(cell, asked.overrides) for cell in asked.cells]
    used = _size(base) + MIB  # what parcel.json says
    data = _data(cells, asked.overrides, draft)
    made = []
    for number, names in enumerate(_shared_out({n: d.size for n, d in data.items()}, asked.limit - used), 1):
        folder = draft / f"parcel_{number}"
        shutil.copytree(base, folder)
        for name in names:
            shutil.move(data[name].archive, folder / data[name].archive.name)
        order = [cell for cell in cells if cell["choose"]["dataset"] in names]
        room = asked.limit - used - sum(data[name].size for name in names)
        starts_again = _carry_state(order, asked.state / "runs", folder / "runs", room)
        about = {
            "commit": commit,
            "cells": order,
            "without": asked.without,
            "overrides": asked.overrides,
            "datasets": {name: data[name].fingerprint for name in names},
        }
        (folder / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
        lines = [f"{len(order)} cells on {', '.join(names)}, {_size(folder) / MIB:.1f} MiB, commit {commit}"]
        if starts_again:
            lines.append(f"no room for what these had reached, they start again: {', '.join(starts_again)}")
        made.append((folder, lines))
    for old in out.glob("parcel_[0-9]*"):
        shutil.rmtree(old)
    placed = [(folder.rename(out / folder.name), lines) for folder, lines in made]
    shutil.rmtree(draft)
    return placed


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError(f"git {arguments[0]} failed ({' '.join(done.stderr.split())})", where=ROOT)
    return done.stdout.strip()


def _commit() -> str:
    if changed := _git("status", "--porcelain", "--untracked-files=no"):
        raise UserError(
            f"{len(changed.splitlines())} files differ from the last commit", where=ROOT, remedy="Commit them first"
        )
    return _git("describe", "--always", "--abbrev=12", "--exclude=*")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def choices(cell: Cell, overrides: Sequence[str]) -> list[str]:
    """The overrides that a cell is run with, as ``run_cells.py`` writes them."""
    from studies.published.run_cells import command

    return command(cell, Path("run"), list(overrides))[3:-2]  # without the logger and the folder


def composed(cell: Cell, overrides: Sequence[str]) -> Any:
    from hydra import compose, initialize_config_dir

    from recsys_lt import CONF

    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", choices(cell, overrides))


def with_epochs(cell: Cell, overrides: Sequence[str]) -> Cell:
    return cell | {"epochs": int(composed(cell, overrides).trainer.max_epochs)}


@dataclass(frozen=True)
class _Data:
    """A dataset that is ready to travel."""

    archive: Path
    size: int
    fingerprint: str


def _data(cells: Sequence[Cell], overrides: Sequence[str], draft: Path) -> dict[str, _Data]:
    """An archive for each dataset, in order of need."""
    from hydra.utils import instantiate

    from recsys_lt.data.sources.source import Request

    made: dict[str, _Data] = {}
    for cell in cells:
        name = cell["choose"]["dataset"]
        if name in made:
            continue
        config = composed(cell, overrides).dataset
        data = instantiate(config).load(lambda _line: None)
        cache = Path(config.cache_dir).expanduser()
        raw_dir = None if config.raw_dir is None else Path(config.raw_dir).expanduser()
        request = Request(config.name, None, raw_dir, cache / "downloads", lambda _line: None)
        archive = draft / f"data_{name}.tar.gz"
        with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
            # The key of a prepared copy is made of the files' content: without them it is not found.
            for file in instantiate(config.source).locate(request).files:
                tar.add(file.resolve(), f"raw/{config.name}/{file.name}")
            tar.add(cache / "prepared" / data.fingerprint, f"cache/prepared/{data.fingerprint}")
        made[name] = _Data(archive, archive.stat().st_size, data.fingerprint)
    return made


def _shared_out(sizes: Mapping[str, int], room: int) -> list[list[str]]:
    """Which datasets go into which parcel, in order of need.

    Raises
    ------
    UserError
        Where one is too large for a parcel of its own.
    """
    parts: list[list[str]] = []
    for name, size in sizes.items():
        if size > room:
            raise UserError(
                f"its files and prepared copy are {size / MIB:.1f} MiB, and {room / MIB:.1f} MiB are free",
                where=name,
                remedy="Raise --limit, or leave its cells out with --only",
            )
        if parts and sum(sizes[each] for each in parts[-1]) + size <= room:
            parts[-1].append(name)
        else:
            parts.append([name])
    return parts


def _carry_state(cells: Sequence[Cell], runs: Path, place: Path, room: int) -> list[str]:
    """Copy what the cells had reached, as far as there is room; the names of those left out."""
    left_out = []
    for cell in cells:
        source = runs / cell["cell"]
        files = [source / name for name in STATE if (source / name).is_file()]
        if not curve(source).epochs or is_finished(source):
            continue
        size = sum(file.stat().st_size for file in files)
        if size > room:
            left_out.append(cell["cell"])
            continue
        room -= size
        (place / cell["cell"]).mkdir(parents=True)
        for file in files:
            shutil.copy2(file, place / cell["cell"] / file.name)
    return left_out
