"""What the repository keeps of finished runs: a row each in the study's ``runs.parquet`` (``recsys_lt.runs.packed``).

``python studies/shared/kept.py unpack studies/published/runs.parquet FOLDER`` makes run folders of it again, and
``python studies/shared/kept.py pack FOLDER FILE`` adds the finished runs below a folder.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recsys_lt.errors import UserError
from recsys_lt.runs.packed import RANKS, RANKS_FILE, TEXTS, content, packed_ranks, runs_in
from recsys_lt.system.atomic import locked, replacing

#: The packs of the studies. Where several have a run of a cell with the same seed, the first counts.
PACKS = tuple(
    Path(__file__).resolve().parents[1] / study / "runs.parquet"
    for study in ("published", "llm", "long_tail", "generative")
)
#: The files of a run that are kept.
SLIM = (*TEXTS, RANKS_FILE)
# One page a column: the users and targets of the runs of a dataset are the same, and compress as one.
_WRITING = {
    "compression": "zstd",
    "compression_level": 15,
    "data_page_size": 1 << 30,
    "use_dictionary": False,
    "column_encoding": {
        f"{name}.list.element": encoding
        for name, encoding in (("user", "DELTA_BINARY_PACKED"), ("rank", "BYTE_STREAM_SPLIT"))
    },
}


def text(path: Path) -> str:
    """The content of a run's file, in a folder or in a pack.

    Raises
    ------
    FileNotFoundError
        If it is absent.
    """
    found = content(path)
    if found is None:
        raise FileNotFoundError(path)
    return found.decode("utf-8")


def is_finished(run: Path) -> bool:
    """Whether a finished run is there, in a folder or in a pack."""
    try:
        return json.loads(text(run / "metrics.json"))["finished"] is True
    except (OSError, ValueError, KeyError, TypeError):
        return False


def keep(folder: Path, run: Path, ranks: bool = True) -> bool:
    """Add the run in a folder to a pack; False, and nothing, if it is not finished.

    Processes may add to the same pack at the same time.

    Parameters
    ----------
    folder
        The run folder.
    run
        Its path in the pack, such as ``runs.parquet/trials/adam_0``; the file is made if it is absent.
    ranks
        Whether the ranks of the users are kept too.

    Raises
    ------
    UserError
        If the pack has a run of that name.
    """
    if not is_finished(folder):
        return False
    file = next((path for path in run.parents if path.suffix == ".parquet"), None)
    if file is None:
        raise UserError("finished runs are kept in a Parquet file", where=run.parent, remedy="Name one: runs.parquet")
    add(file, {run.relative_to(file).as_posix(): folder}, ranks)
    return True


def add(file: Path, folders: dict[str, Path], ranks: bool = True) -> None:
    """Add runs to a pack by their names in it, all or none."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("run", *TEXTS.values())),
            *((name, pa.list_(pa.int8() if name == "group" else pa.int32())) for name in RANKS),
        ]
    )
    new = pa.Table.from_pylist([{"run": name} | _row(folder, ranks) for name, folder in folders.items()], schema)
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.with_name(f".{file.name}.lock"), lambda: None):
        if file.is_file():
            old = parquet.read_table(file).select(schema.names).cast(schema)
            if twice := set(old["run"].to_pylist()) & set(folders):
                raise UserError(
                    "a run of this name is kept already", where=file / min(twice), remedy="Give another name"
                )
            new = pa.concat_tables([old, new])
        with replacing(file) as draft:
            parquet.write_table(new.sort_by("run"), draft, **_WRITING)


def _row(folder: Path, ranks: bool) -> dict[str, Any]:
    from pyarrow import parquet

    row: dict[str, Any] = {
        column: (folder / name).read_bytes().decode() for name, column in TEXTS.items() if (folder / name).is_file()
    }
    if ranks and (folder / RANKS_FILE).is_file():
        table = parquet.read_table(folder / RANKS_FILE)
        row |= {name: table[name].to_numpy() for name in RANKS if name in table.column_names}
    return row


def unpack(run: Path, folder: Path) -> None:
    """Make the run folder again of a packed run, or those of all runs below a path in a pack.

    Parameters
    ----------
    run
        A pack, or a path in one.
    folder
        Where the folders are made; one run's is this one itself.
    """
    from pyarrow import parquet

    for each in runs_in(run) or []:
        place = folder / each.relative_to(run)
        place.mkdir(parents=True, exist_ok=True)
        for name in TEXTS:
            if (written := content(each / name)) is not None:
                (place / name).write_bytes(written)
        if (ranks := packed_ranks(each / RANKS_FILE)) is not None:
            parquet.write_table(ranks, place / RANKS_FILE, compression="zstd")


def main(argv: Sequence[str] | None = None) -> int:
    """Pack or unpack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pack", "unpack"))
    parser.add_argument("source", type=Path, help="a folder with runs below it; or a pack")
    parser.add_argument("target", type=Path, help="the pack; or the folder of the run folders")
    asked = parser.parse_args(argv)
    if asked.what == "unpack":
        unpack(asked.source, asked.target)
        return 0
    found = (path.parent for path in sorted(asked.source.rglob("metrics.json")))
    add(asked.target, {run.relative_to(asked.source).as_posix(): run for run in found if is_finished(run)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
