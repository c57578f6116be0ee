"""Files that cannot be read as events or items: one line each that names the place."""

import gzip
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from recsys_lt import CONF
from recsys_lt.errors import UserError
from tests.end_to_end.test_bad_commands import SMALL, Refused, refused

#: Name of a case -> names and contents of its files (the first is the one asked for), words of the answer.
Case = tuple[dict[str, bytes], tuple[str, ...]]

_EVENTS = [(f"u{u}", f"i{(u + j) % 12}", 100 * u + j) for u in range(30) for j in range(8)]
_LONG = "x" * 60_000


def _rows(separator: str) -> str:
    return "".join(separator.join(map(str, event)) + "\n" for event in _EVENTS)


def _with(header: str, separator: str, row: str) -> bytes:
    """A file that is right but for its last row."""
    return f"{header}\n{_rows(separator)}{row}\n".encode()


def _delimited(ending: str, separator: str, names: tuple[str, str, str]) -> dict[str, Case]:
    user, item, time = names
    header, name = separator.join(names), f"mine{ending}"

    def row(*values: str) -> bytes:
        return _with(header, separator, separator.join(values))

    bad: dict[str, tuple[bytes, tuple[str, ...]]] = {
        "empty": (b"", ("empty",)),
        "of blank lines": (b"\n\n\n", ("empty",)),
        "only a header": (f"{header}\n".encode(), ("no rows",)),
        "without users": (separator.join((item, time)).encode() + b"\n", ("column", "user")),
        "without items": (separator.join((user, time)).encode() + b"\n", ("column", "item")),
        "with another header": (separator.join("abc").encode() + b"\n", ("column", "a, b, c")),
        "with blanks in its header": (separator.join(f" {n}" for n in names).encode() + b"\n", ("column", "' ")),
        "with a column twice": (
            separator.join((*names, names[0])).encode() + b"\n" + separator.join("1234").encode() + b"\n",
            ("two columns",),
        ),
        "a user missing": (row("", "i1", "3"), ("user is missing", "line 242")),
        "an item missing": (row("u1", "", "3"), ("item is missing", "line 242")),
        "a time missing": (row("u1", "i2", ""), ("timestamp is missing", "line 242")),
        "a time that is a word": (row("u1", "i2", "soon"), ("'soon'", "line 242")),
        "a time in hexadecimal": (row("u1", "i2", "0x1F"), ("'0x1F'", "line 242")),
        "a time with a blank before": (row("u1", "i2", " 7"), ("' 7'", "line 242")),
        "a time with a blank behind": (row("u1", "i2", "7 "), ("'7 '", "line 242")),
        "a time that is infinite": (row("u1", "i2", "inf"), ("'inf'", "line 242")),
        "a time that is none": (row("u1", "i2", "nan"), ("'nan'", "line 242")),
        "a time that is a date among numbers": (row("u1", "i2", "2020-01-01"), ("2020-01-01", "line 242")),
        "a column too many": (row("u1", "i2", "3", "4"), ("columns", "line 242")),
        "a column too few": (row("u1", "i2"), ("columns", "line 242")),
        "not UTF-8": (row("u1", "i2", "3") + b"u\xff1,i2,3\n", ("UTF-8",)),
        "UTF-16": (_with(header, separator, "").decode().encode("utf-16"), (name,)),
        "of zeros": (bytes(1000), (name,)),
        "compressed": (gzip.compress(row("u1", "i2", "3")), (name,)),
        "a user's id too long": (row(_LONG, "i2", "3"), ("60,000 characters", "line 242")),
        "an item's id too long": (row("u1", _LONG, "3"), ("60,000 characters", "line 242")),
        "the same event twice": (row("u0", "i0", "0"), ("dataset.duplicates=drop", "line 242")),
        "an id in two ways": (row("u1", "1", "9998") + row("u1", "1.0", "9999").partition(b"\n")[2][-12:], (name,)),
        "of one event": (
            separator.join(names).encode() + b"\n" + separator.join(("u", "i", "1")).encode(),
            ("k_core",),
        ),
    }
    return {f"{ending} {kind}": ({name: content}, words) for kind, (content, words) in bad.items()}


def _parquet(columns: dict[str, object] | pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), file)
    return file.getvalue()


def _parquets() -> dict[str, Case]:
    users, items, times = (list(column) for column in zip(*_EVENTS, strict=True))
    good: dict[str, object] = {"user": users, "item": items, "timestamp": times}
    twice = pa.Table.from_arrays([pa.array(users), pa.array(users), pa.array(items)], ["user", "user", "item"])
    bad: dict[str, tuple[bytes, tuple[str, ...]]] = {
        "empty": (b"", ("Parquet", "0 bytes")),
        "of zeros": (bytes(500), ("Parquet",)),
        "cut short": (_parquet(good)[:-100], ("Parquet",)),
        "of text": (b"user,item\n1,2\n", ("Parquet",)),
        "without rows": (_parquet({"user": pa.array([], pa.string()), "item": pa.array([], pa.string())}), ("no ",)),
        "without users": (_parquet({"item": items}), ("column", "user")),
        "without items": (_parquet({"user": users}), ("column", "item")),
        "with a column twice": (_parquet(twice), ("two columns", "user")),
        "with times twice": (
            _parquet(
                pa.Table.from_arrays(
                    [pa.array(users), pa.array(items), *[pa.array(times)] * 2],
                    ["user", "item", "timestamp", "timestamp"],
                )
            ),
            ("two columns", "timestamp"),
        ),
        "a user missing": (_parquet(good | {"user": [None, *users[1:]]}), ("user is missing", "row 1")),
        "an item missing": (_parquet(good | {"item": [*items[:-1], None]}), ("item is missing", "row 240")),
        "a time missing": (_parquet(good | {"timestamp": [*times[:-1], None]}), ("timestamp", "row 240")),
        "times beyond 63 bits": (
            _parquet(good | {"timestamp": pa.array([*times[:-1], 2**63], pa.uint64())}),
            ("9223372036854775808", "row 240"),
        ),
        "times that are infinite": (
            _parquet(good | {"timestamp": [*map(float, times[:-1]), float("inf")]}),
            ("row 240",),
        ),
        "times that are words": (_parquet(good | {"timestamp": ["soon"] * 240}), ("soon", "row 1")),
        "times that are lists": (_parquet(good | {"timestamp": [[1]] * 240}), ("timestamp column is of type",)),
        "times that are true": (_parquet(good | {"timestamp": [True] * 240}), ("timestamp column is of type",)),
        "users that are fractions": (_parquet(good | {"user": [0.5] * 240}), ("fractions",)),
        "users that are lists": (_parquet(good | {"user": [[1]] * 240}), ("user column is of type",)),
        "users that are true": (_parquet(good | {"user": [True] * 240}), ("user column is of type",)),
        "users that are bytes": (_parquet(good | {"user": [b"\xff"] * 240}), ("user column is of type",)),
        "a user's id too long": (_parquet(good | {"user": [_LONG, *users[1:]]}), ("60,000 characters", "row 1")),
        "the same event twice": (
            _parquet({key: [*values, values[0]] for key, values in good.items()}),  # type: ignore[index,misc,attr-defined]
            ("dataset.duplicates=drop", "row 241"),
        ),
    }
    return {f".parquet {kind}": ({"mine.parquet": content}, words) for kind, (content, words) in bad.items()}


def _sequences() -> dict[str, Case]:
    lines = "".join(f"u{u} " + " ".join(f"{(u + j) % 12}" for j in range(8)) + "\n" for u in range(30))
    table = "item\traw_id\ttitle\n" + "".join(f"{i}\tr{i}\tItem {i}\n" for i in range(12))
    good = lines.encode()

    def items(text: str | bytes) -> dict[str, bytes]:
        return {"mine.txt": good, "items.tsv": text if isinstance(text, bytes) else text.encode()}

    bad: dict[str, Case] = {
        "empty": ({"mine.txt": b""}, ("empty",)),
        "of users alone": ({"mine.txt": b"u1\nu2\n"}, ("no line has",)),
        "of blank lines": ({"mine.txt": b"\n \n"}, ("no line has",)),
        "with line ends of old Macs": ({"mine.txt": good.replace(b"\n", b"\r")}, ("carriage return", "line 1")),
        "with one such line end": ({"mine.txt": good + b"u8 1\ru9 2 3\n"}, ("carriage return", "line 31")),
        "not UTF-8": ({"mine.txt": good + b"u\xff 1 2 3\n"}, ("UTF-8",)),
        "a user's id too long": ({"mine.txt": good + f"{_LONG} 1 2 3 4 5\n".encode()}, ("60,000", "line 31")),
        "an item's id too long": ({"mine.txt": good + f"u {_LONG}\n".encode() * 5}, ("60,000", "line 31")),
        "too short": ({"mine.txt": b"a 1 2\nb 2 1\n"}, ("k_core",)),
        "an empty table": (items(""), ("empty", "items.tsv")),
        "a table of a header": (items(table.partition("\n")[0]), ("no rows", "items.tsv")),
        "a table that lacks an item": (items(table.rpartition("\n11\t")[0] + "\n"), ("item 11", "items.tsv")),
        "a table with an item twice": (items(table + "3\tr99\tagain\n"), ("item 3", "second time", "line 14")),
        "a table with a column twice": (items(table.replace("title", "raw_id")), ("two columns", "raw_id")),
        "a table with two raw ids": (items(table.replace("r11", "r10")), ("one raw_id",)),
        "a table with a column too few": (items(table + "12\tr12\n"), ("2 columns", "line 14")),
        "a table with a column too many": (items(table + "12\tr12\ta\tb\n"), ("4 columns", "line 14")),
        "a table not UTF-8": (items(table.encode() + b"12\tr12\t\xff\n"), ("UTF-8", "items.tsv")),
        "a raw id too long": (items(table.replace("r11", _LONG)), ("60,000",)),
    }
    return {f".txt {kind}": case for kind, case in bad.items()}


def _recbole_items() -> dict[str, Case]:
    inter = _with("user_id:token\titem_id:token\ttimestamp:float", "\t", "u1\ti1\t9999")
    bad: dict[str, tuple[bytes, tuple[str, ...]]] = {
        "without ids": (b"id:token\ttitle:token_seq\ni1\tOne\n", ("item_id", "id, title")),
        "empty": (b"", ("empty",)),
        "with ids twice": (b"item_id:token\titem_id:float\ni1\t1\n", ("two columns", "item_id")),
        "with a column too few": (b"item_id:token\ttitle:token_seq\ni1\n", ("1 columns", "line 2")),
        "not UTF-8": (b"item_id:token\ttitle:token_seq\ni1\t\xff\n", ("UTF-8",)),
    }
    return {f".item {kind}": ({"mine.inter": inter, "mine.item": text}, words) for kind, (text, words) in bad.items()}


def _other_paths() -> dict[str, Case]:
    good = _with("user,item,timestamp", ",", "u1,i1,9999")
    return {
        "a file that ends in .json": ({"mine.json": good}, (".json", ".parquet")),
        "a file without an ending": ({"mine": good}, ("mine", ".parquet")),
        "a file that ends in .csv.gz": ({"mine.csv.gz": gzip.compress(good)}, (".gz", ".parquet")),
        "a file that ends in .npz": ({"mine.npz": b"PK"}, (".npz",)),
        "a folder": ({"mine.csv/x": b""}, ("not a file",)),
    }


FILES: dict[str, Case] = (
    _delimited(".csv", ",", ("user", "item", "timestamp"))
    | _delimited(".tsv", "\t", ("user", "item", "timestamp"))
    | _delimited(".inter", "\t", ("user_id:token", "item_id:token", "timestamp:float"))
    | _parquets()
    | _sequences()
    | _recbole_items()
    | _other_paths()
)


def _json_lines(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _published() -> dict[str, Case]:
    """By the name of a dataset and the kind of fault."""
    review = "yelp_academic_dataset_review.json"
    yelp = [{"user_id": f"u{u}", "business_id": f"b{(u + j) % 9}", "date": f"2019-02-{j + 1:02} 10:00:00"}
            for u in range(20) for j in range(8)]  # fmt: skip
    beauty = [{"reviewerID": f"u{u}", "asin": f"b{(u + j) % 9}", "unixReviewTime": u + j}
              for u in range(20) for j in range(8)]  # fmt: skip
    ratings = "".join(f"{u}::{(u + j) % 9}::5::{u + j}\n" for u in range(20) for j in range(8)).encode()
    last = {"id2name.txt": b"0::a\n1::b\n2::c\n", "train.jsonl": b'{"seq": [0, 1], "next": 2}\n',
            "val.jsonl": b'{"seq": [0], "next": 1}\n', "test.jsonl": b'{"seq": [0], "next": 2}\n'}  # fmt: skip
    amazon = "reviews_Beauty_5.json"
    return {
        "ml-100k nothing": ({"notes.txt": b""}, ("no files of ml-100k", "u.data")),
        "ml-100k empty": ({"u.data": b""}, ("u.data", "empty")),
        "ml-100k ragged": ({"u.data": b"1\t2\t3\t4\n1\t2\n"}, ("u.data", "columns")),
        "ml-100k a word": ({"u.data": b"1\t2\t3\tsoon\n"}, ("u.data", "soon")),
        "ml-1m of another separator": ({"ratings.dat": ratings.replace(b"::", b",")}, ("ratings.dat",)),
        "ml-1m ragged": ({"ratings.dat": ratings + b"1::2\n"}, ("ratings.dat", "columns")),
        "ml-1m another header": ({"ratings.csv": b"user,item\n1,2\n"}, ("ratings.csv", "userId")),
        "ml-1m movies without titles": (
            {"ratings.csv": b"userId,movieId,rating,timestamp\n1,2,3,4\n", "movies.csv": b"id,name\n1,a\n"},
            ("movies.csv", "movieId"),
        ),
        "yelp cut short": ({review: _json_lines(yelp)[:-20]}, (review, "JSON")),
        "yelp of text": ({review: b"not json\n"}, (review, "JSON")),
        "yelp without users": ({review: _json_lines([{"business_id": "b"}])}, (review,)),
        "yelp of another year": (
            {review: _json_lines([row | {"date": "2018-01-01 00:00:00"} for row in yelp])},
            (review, "no interactions"),
        ),
        "yelp numbers for users": ({review: _json_lines([row | {"user_id": 5} for row in yelp])}, (review, "JSON")),
        "yelp the wrong size": ({review: _json_lines(yelp)}, ("not the published dataset",)),
        "beauty cut short": ({f"{amazon}.gz": gzip.compress(_json_lines(beauty))[:-20]}, (amazon,)),
        "beauty not compressed": ({f"{amazon}.gz": _json_lines(beauty)}, (amazon,)),
        "beauty without times": ({amazon: _json_lines([{"reviewerID": "u", "asin": "b"}])}, (amazon, "timestamp")),
        "beauty products of another kind": (
            {amazon: _json_lines(beauty), "meta_Beauty.json": b"{'asin': 'b1', 'title': 5}\n"},
            ("meta_Beauty.json", "line 1"),
        ),
        "beauty code for products": (
            {amazon: _json_lines(beauty), "meta_Beauty.json": b"{'asin': 'b1', 'title': open('x')}\n"},
            ("meta_Beauty.json", "line 1"),
        ),
        "lastfm a name missing": (last | {"id2name.txt": b"0::a\n1::b\n"}, ("train.jsonl", "no name")),
        "lastfm not a name": (last | {"id2name.txt": b"0::a\nnonsense\n"}, ("id2name.txt", "line 2")),
        "lastfm no names": (last | {"id2name.txt": b""}, ("id2name.txt", "empty")),
        "lastfm not JSON": (last | {"train.jsonl": b"nonsense\n"}, ("train.jsonl", "line 1")),
        "lastfm another row": (last | {"val.jsonl": b'{"seq": 5, "next": 1}\n'}, ("val.jsonl", "line 1")),
        "lastfm not UTF-8": (last | {"val.jsonl": b'{"seq": ["\xff"], "next": 1}\n'}, ("val.jsonl",)),
        "lastfm empty": (last | {"train.jsonl": b"", "val.jsonl": b"", "test.jsonl": b""}, ("no rows",)),
    }  # fmt: skip


PUBLISHED = _published()


def write(files: dict[str, bytes], folder: Path) -> Path:
    """Write a case's files; the first of them."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder / next(iter(files)).partition("/")[0]


__all__ = ["refused"]  # a fixture

#: These also through the command; the others through what it calls on its composed configuration.
_WHOLE = [name for number, name in enumerate(FILES) if number % 20 == 0]


@cache
def dataset_of(choice: str) -> Any:
    """The configuration of a dataset, composed once."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("config", [choice]).dataset)


def refusal_of(choice: str, **keys: object) -> str:
    """What loading the dataset of this choice, with these keys, is refused with."""
    config = OmegaConf.create({"dataset": dataset_of(choice) | keys, "seed": 0})
    with pytest.raises(UserError) as refusal:
        instantiate(config.dataset).load(lambda _line: None)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_ones_own(tmp_path: Path, name: str) -> None:
    files, words = FILES[name]
    path = write(files, tmp_path)
    line = refusal_of("dataset=file", path=str(path))
    assert [word for word in words if word not in line] == [], line


@pytest.mark.parametrize("name", _WHOLE)
def test_a_file_of_ones_own_through_the_command(refused: Refused, tmp_path: Path, name: str) -> None:
    files, words = FILES[name]
    path = write(files, tmp_path)
    line = refused("dataset=file", *SMALL[1:5], f"dataset.path={path}")
    assert [word for word in words if word not in line] == [], line


@pytest.mark.parametrize("name", PUBLISHED)
def test_files_of_a_published_dataset(tmp_path: Path, name: str) -> None:
    files, words = PUBLISHED[name]
    write(files, tmp_path)
    line = refusal_of(f"dataset={name.split()[0]}", raw_dir=str(tmp_path))
    assert [word for word in words if word not in line] == [], line


def test_a_split_that_leaves_no_targets_says_what_to_do(tmp_path: Path) -> None:
    rows = "".join(f"u{u},i{(u + j) % 12},{7}\n" for u in range(30) for j in range(8))
    path = write({"mine.csv": f"user,item,timestamp\n{rows}".encode()}, tmp_path)
    line = refusal_of("dataset=file", path=str(path), split="temporal")
    assert [word for word in ("dataset.temporal_cuts", "leave_one_out") if word not in line] == [], line
    assert "three events" not in line
