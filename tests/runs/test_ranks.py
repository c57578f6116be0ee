"""ranks.parquet: what is read, and what is refused in one line."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from recsys_lt.errors import UserError
from recsys_lt.runs.ranks import read_ranks

GOOD = {"user": [3, 1, 2], "target": [7, 8, 9], "rank": [1, 0, 400], "group": [0, 1, 2]}


def write(folder, **columns):
    path = folder / "ranks.parquet"
    whole = {name: values for name, values in (GOOD | columns).items() if values is not None}
    parquet.write_table(pa.table(whole), path)
    return path


def test_users_come_in_order_with_what_is_theirs(tmp_path):
    ranks = read_ranks(write(tmp_path))
    assert [column.tolist() for column in ranks] == [[1, 2, 3], [8, 9, 7], [0, 400, 1], [1, 2, 0]]
    assert all(column.dtype == np.int64 for column in ranks)
    assert len(read_ranks(write(tmp_path, **{name: pa.array([], pa.int32()) for name in GOOD})).user) == 0


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"rank": ["1", "2", "3"]}, "a rank is no whole number"),
        ({"rank": [-1, 2, 3]}, "a rank is below 0"),
        ({"rank": [1.5, 2.0, 3.0]}, "a rank is no whole number"),
        ({"rank": [float("nan"), 2.0, 3.0]}, "a rank is no whole number"),
        ({"rank": [None, 2, 3]}, "a rank is no whole number"),
        ({"rank": [[1], [2], [3]]}, "a rank is no whole number"),
        ({"rank": [True, True, False]}, "a rank is no whole number"),
        ({"rank": [1 << 40, 2, 3]}, "a rank is below 0 or above"),
        ({"rank": pa.array([1 << 63, 2, 3], pa.uint64())}, "a rank is below 0 or above"),
        ({"rank": None}, "it has no one column rank"),
        ({"user": None}, "it has no one column user"),
        ({"group": None}, "it has no one column group"),
        ({"user": [1, 1, 2]}, "a user is there twice"),
        ({"user": [-1, 1, 2]}, "a user is below 0"),
        ({"target": [-1, 1, 2]}, "a target is below 0"),
        ({"target": [1 << 31, 1, 2]}, "a target is below 0 or above"),
        ({"group": [0, 1, 3]}, "a group is below 0 or above 2"),
        ({"group": [0, 1, -1]}, "a group is below 0 or above 2"),
    ],
)
def test_what_no_run_writes_is_refused(tmp_path, columns, reason):
    path = write(tmp_path, **columns)
    with pytest.raises(UserError, match=rf"^{path}: cannot be read as per-user ranks \({reason}.*\)\. "):
        read_ranks(path)


@pytest.mark.parametrize("kind", ["no file", "a folder", "text", "half of it", "a column twice"])
def test_what_is_no_such_file_is_refused(tmp_path, kind):
    path = write(tmp_path)
    if kind in ("no file", "a folder"):
        path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("user,rank\n1,1\n")
    elif kind == "half of it":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "a column twice":
        arrays = [pa.array(values) for values in GOOD.values()]
        parquet.write_table(pa.Table.from_arrays([*arrays, arrays[2]], names=[*GOOD, "rank"]), path)
    with pytest.raises(UserError, match="cannot be read as per-user ranks"):
        read_ranks(path)
