"""What travels back: one archive in a few files, small enough for a narrow way, checked member by member."""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any

MIB = 1 << 20
#: At most 8 files of 16 MiB, 64 MiB in all, come back of a command. One is the report, and one may be half written.
PIECE = 16 * MIB
MOST = 62 * MIB
_NAME = "gpu_day.{}"
_ABOUT = "about.json"
_MEMBER = re.compile(r"(about\.json|(stages|done|runs)/[\w.-]+(/[\w.-]+)?)")


@dataclass(frozen=True)
class Unit:
    """Files that travel together or not at all.

    Parameters
    ----------
    name
        Their folder in the archive, such as ``runs/<cell>``.
    files
        In the order in which they are read.
    """

    name: str
    files: tuple[Path, ...]


def pack(out: Path, units: Sequence[Unit], about: dict[str, Any], most: int = MOST, piece: int = PIECE) -> list[str]:
    """Write units to a folder as an archive in pieces; the names of those that have no room.

    A unit that is too large is left out and the next ones are tried. A reader of the pieces notices what a killed
    writer left half-way, and takes the members before it.

    Parameters
    ----------
    out
        The folder.
    units
        In order of worth.
    about
        What else the receiver must know; plain values.
    most
        Bytes of the archive.
    piece
        Bytes of a file.
    """
    packed: list[tuple[str, bytes]] = []
    left_out: list[str] = []
    room = most - 4 * MIB  # for the list of members
    for unit in units:
        contents = [(f"{unit.name}/{file.name}", file.read_bytes()) for file in unit.files if file.is_file()]
        size = sum(len(content) + 2 * tarfile.BLOCKSIZE for _, content in contents)
        if size > room:
            left_out.append(unit.name)
            continue
        room -= size
        packed += contents
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in packed}
    first = json.dumps(about | {"sums": sums, "left_out": left_out}, indent=1).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in [(_ABOUT, first), *packed]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    whole = buffer.getbuffer()
    out.mkdir(parents=True, exist_ok=True)
    pieces = range(0, len(whole), piece)
    for number, start in enumerate(pieces):
        draft = out / "gpu_day.draft"
        draft.write_bytes(whole[start : start + piece])
        draft.replace(out / _NAME.format(number))
    for number, old in _numbered(out).items():
        if number >= len(pieces):
            old.unlink()
    return left_out


def _numbered(folder: Path) -> dict[int, Path]:
    return {int(path.suffix[1:]): path for path in folder.glob("gpu_day.*") if path.suffix[1:].isdigit()}


def _pieces(folder: Path) -> list[Path]:
    """The pieces in their order, up to the first that is absent."""
    found = _numbered(folder)
    return [found[number] for number in takewhile(found.__contains__, count())]


def unpack(folder: Path, place: Path) -> dict[str, Any] | None:
    """Write the members of the archive in a folder to ``place``, each only if it is whole.

    Returns
    -------
    dict or None
        What ``pack`` was given as ``about``, with ``whole`` (the names of units that are whole) and ``left_out``; None
        where no archive is there.
    """
    pieces = _pieces(folder)
    if not pieces:
        return None
    stream = io.BytesIO(b"".join(path.read_bytes() for path in pieces))
    about: dict[str, Any] | None = None
    seen: set[str] = set()
    for name, content in _members(stream):
        if about is None:
            about = _about(name, content)
            if about is None:
                return None
            continue
        if hashlib.sha256(content).hexdigest() != about["sums"].get(name):
            continue
        seen.add(name)
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    if about is None:
        return None
    broken = {name.rpartition("/")[0] for name in about["sums"].keys() - seen}
    about["whole"] = sorted({name.rpartition("/")[0] for name in seen} - broken)
    return about


def _about(name: str, content: bytes) -> dict[str, Any] | None:
    try:
        about = json.loads(content)
    except ValueError:
        return None
    if name != _ABOUT or not isinstance(about, dict) or not isinstance(about.get("sums"), dict):
        return None
    return about


def _members(stream: io.BytesIO) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the plain files of an archive, as far as it can be read."""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                if not member.isfile() or not _MEMBER.fullmatch(member.name) or ".." in member.name:
                    continue
                opened = archive.extractfile(member)
                assert opened is not None  # it is a plain file
                yield member.name, opened.read()
    except tarfile.TarError:
        return
