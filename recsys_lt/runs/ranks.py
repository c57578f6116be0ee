"""``ranks.parquet`` of a run folder: where each user's test target was ranked."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_lt.errors import UserError
from recsys_lt.metrics.groups import GROUPS
from recsys_lt.runs.packed import packed_ranks

_LARGEST = 1 << 31  # numbers of users and items fit in 32 bits


class Ranks(NamedTuple):
    """The test targets of a run, users in order.

    ``user`` are their numbers, each once; ``target`` item ids; ``rank`` is 1-based, 0 for a target that was not listed;
    ``group`` is the target's: 0 head, 1 mid, 2 tail; all [n].
    """

    user: NDArray[np.int64]
    target: NDArray[np.int64]
    rank: NDArray[np.int64]
    group: NDArray[np.int64]


def read_ranks(path: Path) -> Ranks:
    """Read and check the ranks.parquet of a run; UserError for one that is absent, or not what a run writes."""
    from pyarrow import ArrowException, parquet, types

    columns = {}
    try:
        packed = packed_ranks(path)
        if packed is not None:
            table = packed.select(_checked(packed.column_names))
        elif path.is_file():
            with parquet.ParquetFile(path) as file:
                table = file.read(columns=_checked(file.schema_arrow.names))
        else:
            raise ValueError("there is no such file")
        for name in table.column_names:
            column = table[name]
            if not types.is_integer(column.type) or column.null_count:
                raise ValueError(f"a {name} is no whole number")
            columns[name] = column.to_numpy()
            largest = len(GROUPS) if name == "group" else _LARGEST
            if len(column) and not 0 <= columns[name].min() <= columns[name].max() < largest:
                raise ValueError(f"a {name} is below 0 or above {largest - 1}")
        order = np.argsort(columns["user"], kind="stable")
        sorted_columns = {name: column[order].astype(np.int64) for name, column in columns.items()}
        if (np.diff(sorted_columns["user"]) == 0).any():
            raise ValueError("a user is there twice")
    except (OSError, KeyError, ValueError, ArrowException) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"cannot be read as per-user ranks ({reason})", where=path, remedy="Mend or remove that file"
        ) from error
    return Ranks(**sorted_columns)


def _checked(known: list[str]) -> list[str]:
    if lacking := [name for name in Ranks._fields if known.count(name) != 1]:
        raise ValueError(f"it has no one column {lacking[0]}")
    return list(Ranks._fields)
