"""Published datasets: files the user has, else files fetched before, else fetched now."""

import os
from collections.abc import Sequence
from pathlib import Path

from recsys_lt.data.formats.next_item import NextItemLines
from recsys_lt.data.formats.recbole import RecBoleAtomic
from recsys_lt.data.formats.sequence_text import SEQUENCE_TEXT
from recsys_lt.data.interactions import EventsAndItems, Material
from recsys_lt.data.sources.download import FetchError, Route
from recsys_lt.data.sources.source import Request
from recsys_lt.errors import UserError
from recsys_lt.system.atomic import locked

RAW_FOLDERS = "RECSYS_LT_RAW"  # environment variable: a folder with one folder of raw files per dataset


#: A way in which files may lie in a folder: ``find(folder)`` is their material, or None where they do not lie
#: so, and ``wanted`` names the files in words.
Layout = EventsAndItems | RecBoleAtomic | NextItemLines


def find_or_fetch(request: Request, official: Sequence[Layout], routes: Sequence[Route], by_hand: str) -> Material:
    """The dataset's files: the user's own, else those fetched before, else fetched by the first route that works.

    ``official`` are layouts of the owner's own files; RecBole's atomic files, sequence text and next-item lines are
    looked for as well. ``by_hand`` says which file to get from where, as a sentence without a full stop. Raises
    UserError where the user's folder holds none of the layouts, or no route works.
    """
    request.refuse_path()
    layouts: Sequence[Layout] = (*official, RecBoleAtomic(request.name), SEQUENCE_TEXT, NextItemLines())
    own = request.raw_dir
    if own is None and (folders := os.environ.get(RAW_FOLDERS)):
        folder = Path(folders).expanduser() / request.name
        own = folder if folder.is_dir() else None
    if own is not None:
        material = _find(own, request.name, layouts)
        if material is None:
            raise UserError(
                f"no files of {request.name} are there; looked for {'; or '.join(layout.wanted for layout in layouts)}",
                where=own if own.is_dir() else f"{own} (no such folder)",
                remedy="Name the folder that holds them in dataset.raw_dir",
            )
        return material
    request.downloads.mkdir(parents=True, exist_ok=True)
    waiting = f"{request.name}: waiting for another process that fetches it"
    with locked(request.downloads / f"{request.name}.lock", lambda: request.announce(waiting)):
        return _fetched(request, layouts, routes, by_hand)


def _fetched(request: Request, layouts: Sequence[Layout], routes: Sequence[Route], by_hand: str) -> Material:
    folder = request.downloads / request.name
    material = _find(folder, request.name, layouts)
    if material is not None:
        return material
    if routes and (folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir())))):
        raise UserError(  # this program made none like it, and removes none
            "other files are where the fetched ones belong",
            where=folder,
            remedy="Move them away, or set dataset.cache_dir to another folder",
        )
    failures: list[str] = []
    for route in routes:
        # Fetched whole before it gets its name: half the files would be another dataset.
        part = folder.with_name(f"{request.name}.part")
        part.mkdir(exist_ok=True)
        try:
            request.announce(f"{request.name}: fetching {route.origin}")
            route.fetch(part)
        except FetchError as failure:
            failures.append(str(failure))
            continue
        if _find(part, request.name, layouts) is None:
            failures.append(f"{route.origin} does not hold {layouts[0].wanted}")
            continue
        part.rename(folder)
        material = _find(folder, request.name, layouts)
        assert material is not None
        return material
    tried = f" ({'; '.join(failures)})" if failures else ""
    what = f"{'it could not be fetched' if routes else 'it cannot be fetched by a program'}{tried}"
    raise UserError(what, where=request.name, remedy=f"{by_hand}, and name the folder with it in dataset.raw_dir")


def _find(folder: Path, name: str, layouts: Sequence[Layout]) -> Material | None:
    """The first layout found in the folder, or in one of the dataset's name in it, as archives make."""
    found = (layout.find(place) for place in (folder, folder / name) for layout in layouts)
    return next((material for material in found if material is not None), None)
