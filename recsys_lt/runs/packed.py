"""Packed runs: the finished runs of a study in one Parquet file, a row a run, read wherever a folder of runs is.

A path below such a file names what it would in a folder: ``runs.parquet/trials/adam_0/metrics.json``. The columns are
the run's path, the texts of its files, and its per-user ranks as lists.
"""

from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from recsys_lt.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

#: The name by which a search for runs knows a pack.
FILE = "runs.parquet"
#: The files of a run, and the columns that hold their texts.
TEXTS = {"metrics.json": "metrics", "config.yaml": "config", "learning_curve.csv": "learning_curve"}
#: The file of the ranks, and the columns that hold its columns.
RANKS_FILE, RANKS = "ranks.parquet", ("user", "target", "rank", "group")
_MOST = 1 << 31  # bytes of a pack's columns; a hundred times what ours take


class _Packed(NamedTuple):
    """A packed run: the texts of its files by their names, and the columns of its ranks (None where there are none)."""

    texts: dict[str, bytes]
    ranks: "pa.Table | None"


def _place(path: Path) -> tuple[Path, str] | None:
    """The pack that a path leads into, and the path below it ("" for all of it); None where it leads into none."""
    if path.is_dir():
        return None
    above = next((above for above in (path, *path.parents) if above.exists()), path)
    if not above.is_file() or above.suffix != ".parquet" or above.name == RANKS_FILE:
        return None
    return above, "" if above == path else path.relative_to(above).as_posix()


def pack_of(path: Path) -> Path | None:
    """The pack that a path is, or leads into; None where it leads into none."""
    place = _place(path)
    return None if place is None else place[0]


def runs_in(path: Path) -> list[Path] | None:
    """The runs of a pack, or below a path in it, as paths; None for a path into no pack, UserError for a broken one."""
    place = _place(path)
    if place is None:
        return None
    file, below = place
    below = f"{below}/" if below else ""
    return [file / name for name in _runs(file, file.stat().st_mtime_ns) if f"{name}/".startswith(below)]


def _run(path: Path) -> _Packed | None:
    """The packed run of a path; None where there is none."""
    place = _place(path)
    return None if place is None else _runs(place[0], place[0].stat().st_mtime_ns).get(place[1])


def content(path: Path, most: int = -1) -> bytes | None:
    """The first ``most`` bytes (-1: all) of a run's text file, in a folder or in a pack; None where it is absent."""
    if path.is_file():
        with path.open("rb") as file:
            return file.read(most)
    run = _run(path.parent) if path.name in TEXTS else None
    return None if run is None else run.texts.get(path.name)


def has(path: Path) -> bool:
    """Whether a run's text file is there, in a folder or in a pack."""
    return path.is_file() or content(path) is not None


def ranks_changed(run: Path) -> int | None:
    """When the per-user ranks of a run were last written, in nanoseconds; None for a run without them."""
    path = run / RANKS_FILE
    if path.is_file():
        return path.stat().st_mtime_ns
    return None if packed_ranks(path) is None else pack_of(run).stat().st_mtime_ns  # type: ignore[union-attr]


def packed_ranks(path: Path) -> "pa.Table | None":
    """The columns of a packed run's ``ranks.parquet``; None where they are absent, or the path leads into no pack."""
    run = None if path.is_file() else _run(path.parent)
    return None if run is None else run.ranks


@lru_cache(maxsize=4)
def _runs(file: Path, changed: int) -> dict[str, _Packed]:
    """The runs of a pack that was last changed at that time, by their paths in it, in the order of the rows."""
    import pyarrow as pa

    table = _read(file)
    found: dict[str, _Packed] = {}
    for number, row in enumerate(table.select(["run", *TEXTS.values()]).to_pylist()):
        name = row["run"]
        if not name or not name.isprintable() or name in found or str(PurePosixPath("/x", name)) != f"/x/{name}":
            raise _unreadable(file, f"{name!r} is no path of a run, or is there twice")
        if ".." in PurePosixPath(name).parts:
            raise _unreadable(file, f"{name!r} leads out of it")
        texts = {key: row[column].encode() for key, column in TEXTS.items() if row[column] is not None}
        ranks = {key: table[key][number].values for key in RANKS if table[key][number].is_valid}
        found[name] = _Packed(texts, pa.table(ranks) if ranks else None)
    return found


def _read(file: Path) -> "pa.Table":
    from pyarrow import ArrowException, parquet, types

    try:
        with parquet.ParquetFile(file) as opened:
            schema, about = opened.schema_arrow, opened.metadata
            for name in (columns := ["run", *TEXTS.values(), *RANKS]):
                if schema.names.count(name) != 1:
                    raise ValueError(f"it has no one column {name}")
                kind = schema.field(name).type
                if not (types.is_list(kind) if name in RANKS else types.is_string(kind)):
                    raise ValueError(f"its column {name} is of {kind}")
            if sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups)) > _MOST:
                raise ValueError("it is larger than any of ours")
            return opened.read(columns=columns)
    except (OSError, ValueError, ArrowException) as error:
        raise _unreadable(file, (str(error) or type(error).__name__).splitlines()[0]) from error


def _unreadable(file: Path, reason: str) -> UserError:
    return UserError(f"cannot be read as packed runs ({reason})", where=file, remedy="Name another file, or mend it")
