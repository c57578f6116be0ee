"""Parquet with columns user, item and, if there are times, timestamp."""

from pathlib import Path

from recsys_lt.data.formats.columns import interactions_of
from recsys_lt.data.interactions import Interactions
from recsys_lt.errors import UserError


def read_parquet(path: Path) -> Interactions:
    """Read the events of a Parquet file, in its order; other columns are not read.

    Raises
    ------
    UserError
        The file is not Parquet, is empty, or lacks a column or a value.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.stat().st_size == 0:
        raise UserError("the file is empty", where=path, remedy="Give a file with events")
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow.names
            missing = [name for name in ("user", "item") if name not in found]
            if missing:
                raise UserError(
                    f"no column named {' or '.join(missing)} (found: {', '.join(found)})",
                    where=path,
                    remedy="Name the columns user, item and, if there are times, timestamp",
                )
            twice = [name for name in ("user", "item", "timestamp") if found.count(name) > 1]
            if twice:
                raise UserError(f"two columns are named {twice[0]}", where=path, remedy="Rename one of them")
            wanted = ["user", "item", *(["timestamp"] if "timestamp" in found else [])]
            table = file.read(columns=wanted)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"it cannot be read as Parquet ({error})", where=path, remedy="Write it again") from error
    return interactions_of(
        table.column("user"),
        table.column("item"),
        table.column("timestamp") if "timestamp" in wanted else None,
        path=path,
        place=lambda row: f"row {row + 1}",
    )
