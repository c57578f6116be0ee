"""``items.parquet`` of a pulled run: its items, so that it can recommend without its dataset."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.item_data import LONGEST_TEXT, ItemColumn
from recsys_lt.data.preparation import LONGEST_ID
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.metrics.groups import GROUPS

#: The file's name in a run folder.
ITEMS = "items.parquet"
_MOST = 1 << 33  # bytes
_DATA = "data."  # before the names of the items' own columns


class Catalogue(NamedTuple):
    """Items of a run, without its users."""

    data: Sequences
    groups: NDArray[np.int8]  # of each item, [I]: head 0, mid 1, tail 2


def write_catalogue(path: Path, data: Sequences, groups: NDArray[np.int8]) -> None:
    """Write ids, groups, popularity and the columns of the items of some data."""
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, Any] = {
        "item": pa.array(data.item_ids.tolist(), pa.string()),
        "group": pa.array([GROUPS[group] for group in groups], pa.string()),
        "training_interactions": pa.array(data.popularity, pa.int64()),
    }
    for name, column in data.item_data.items():
        if column.ndim == 1:
            columns[_DATA + name] = pa.array(column.tolist(), pa.string())
        else:
            flat = pa.array(np.ascontiguousarray(column).ravel(), pa.float32())
            columns[_DATA + name] = pa.FixedSizeListArray.from_arrays(flat, column.shape[1])
    parquet.write_table(pa.table(columns), path, compression="zstd")


def read_catalogue(path: Path, name: str) -> Catalogue:
    """Read what ``write_catalogue`` wrote, for the dataset of this name; UserError for anything else."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            about = file.metadata
            if sum(about.row_group(n).total_byte_size for n in range(about.num_row_groups)) > _MOST:
                raise ValueError("it is larger than any of ours")
            table = file.read()
        ids = _column(table, "item", pa.string()).to_pylist()
        words = _column(table, "group", pa.string()).to_pylist()
        counts = _column(table, "training_interactions", pa.int64()).to_numpy()
        item_data = {
            each.removeprefix(_DATA): _values(_column(table, each))
            for each in table.column_names
            if each.startswith(_DATA)
        }
        groups = np.array([GROUPS.index(word) for word in words], dtype=np.int8)
        if not ids or len(set(ids)) < len(ids) or max(map(len, ids)) > LONGEST_ID or counts.min() < 0:
            raise ValueError("its ids or counts are not those of items")
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"it is no catalogue of items ({reason})", where=path, remedy="Pull the run again") from error
    none = np.zeros(0, dtype=np.int64)
    data = Sequences(
        name=name,
        items=np.zeros(0, dtype=np.int32),
        offsets=np.zeros(1, dtype=np.int64),
        train_end=none,
        valid_at=none,
        test_at=none,
        n_items=len(ids),
        user_ids=np.zeros(0, dtype=np.str_),
        item_ids=np.array(ids, dtype=np.str_),
        split="no users",
        fingerprint="",
        counted=counts.copy(),
        item_data=item_data,
    )
    return Catalogue(data, groups)


def _column(table: Any, name: str, kind: Any = None) -> Any:
    column = table.column(name) if name in table.column_names else None
    if column is None or column.null_count or (kind is not None and column.type != kind):
        raise ValueError(f"its column {name} is not one of ours")
    return column.combine_chunks()


def _values(column: Any) -> ItemColumn:
    """Texts [I] or vectors [I, d]."""
    import pyarrow as pa

    if column.type == pa.string():
        texts = column.to_pylist()
        if max(map(len, texts), default=0) > LONGEST_TEXT:
            raise ValueError("it has longer texts than any of ours")
        return np.array(texts, dtype=np.str_)
    if not pa.types.is_fixed_size_list(column.type) or column.type.value_type != pa.float32():
        raise ValueError("a column holds neither texts nor vectors")
    return np.asarray(column.flatten().to_numpy(), dtype=np.float32).reshape(len(column), -1)
