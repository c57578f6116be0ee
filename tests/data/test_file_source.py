import datetime
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_lt.data.dataset import Dataset
from recsys_lt.data.sources.file import File
from recsys_lt.errors import UserError

HEADER = "user,item,timestamp\n"
NOTHING = pa.array([], pa.int64())
GOOD = HEADER + "u,a,3\nu,b,1\nu,c,2\n"


def order(sequences) -> list[str]:
    return sequences.item_ids[sequences.items].tolist()


def parquet(**columns) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def test_csv(load_file):
    sequences = load_file(GOOD)
    assert order(sequences) == ["b", "c", "a"]
    assert sequences.name == "mine"
    assert sequences.split == "leave-one-out"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.tsv", GOOD.replace(",", "\t")),
        ("x.csv", "\ufeff" + GOOD),  # a byte-order mark
        ("x.csv", GOOD.replace("\n", "\r\n")),
        ("x.csv", 'rating,item,"user",review,timestamp\n1,a,u,"x,\ny",3\n1,b,u,,1\n1,"c",u,,2\n'),
        ("x.csv", "user,item\nu,b\n\nu,c\nu,a\n"),
        ("x.csv", "user,item,timestamp\nu,a,2020-01-03\nu,b,2020-01-01\nu,c,2020-01-02\n"),
        ("x.csv", HEADER + "u,a,2020-01-03T00:00:00Z\nu,b,2020-01-01T00:00:00Z\nu,c,2020-01-02T00:00:00Z\n"),
        ("x.csv", "user,item,timestamp\nu,a,3e0\nu,b,1.5\nu,c,2\n"),
        ("x.inter", "user_id:token\titem_id:token\ttimestamp:float\nu\ta\t3\nu\tb\t1\nu\tc\t2\n"),
        ("x.txt", "u b c a\n"),
        ("x.parquet", parquet(user=["u"] * 3, item=["a", "b", "c"], timestamp=[3, 1, 2])),
        (
            "x.parquet",
            parquet(
                user=["u"] * 3,
                item=pa.array(["a", "b", "c"]).dictionary_encode(),
                timestamp=[datetime.datetime(2020, 1, day) for day in (3, 1, 2)],
            ),
        ),
    ],
)  # fmt: skip
def test_every_way_to_write_the_same(load_file, name, content):
    sequences = load_file(content, name)
    assert order(sequences) == ["b", "c", "a"]
    assert sequences.user_ids.tolist() == ["u"]


def test_ids_are_text(load_file):
    assert order(load_file('user,item\n1,"007"\n"1",7\n1,NA\n1,null\n')) == ["007", "7", "NA", "null"]


def test_numbers_in_parquet_become_text(load_file):
    content = parquet(user=[1, 1, 1], item=np.array([7.0, 8.0, 9.0]))
    sequences = load_file(content, "x.parquet")
    assert order(sequences) == ["7", "8", "9"]
    assert sequences.user_ids.tolist() == ["1"]


def test_whole_numbers_of_nanoseconds_are_not_rounded(load_file):
    base = 1_700_000_000_000_000_000
    assert order(load_file(f"user,item,timestamp\nu,a,{base + 2}\nu,b,{base + 1}\nu,c,{base}\n")) == list("cba")


def test_titles_beside_an_inter(load_file, tmp_path):
    (tmp_path / "x.item").write_text("item_id:token\ttitle:token_seq\na\tA title\n")
    sequences = load_file("user_id:token\titem_id:token\nu\ta\nu\tb\nu\tc\n", "x.inter")
    assert sequences.titles.tolist() == ["A title", "", ""]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "", "x.csv: the file is empty"),
        ("x.csv", "\n\n", "the file is empty"),
        ("x.tsv", "user\titem\n", "it has a header and no rows"),
        ("x.csv", "u,item\na,b\n", r"no column named user \(found: u, item\)"),
        ("x.csv", "uid, item\na,b\n", r"no column named user or item \(found: uid, ' item'\)"),
        ("x.csv", "user,item,user\na,b,c\n", "two columns are named user"),
        ("x.csv", GOOD + "u,d,soon\n", r"x.csv, line 5: the timestamp 'soon' is not a time.*ISO-8601"),
        ("x.csv", GOOD + "\n\nu,d,nan\n", r"x.csv, line 7: the timestamp 'nan' is not a time"),
        ("x.csv", HEADER + "u,a,2020-01-01\nu,b,2020-13-01\n", "line 3: the timestamp '2020-13-01'"),
        ("x.csv", HEADER + "u,a,2020-01-01\nu,b,2020-01-01T00:00:00Z\n", "timestamps are not of one kind"),
        ("x.csv", "user,item,timestamp\nu,a,2020-01-01\nu,b,5\n", "line 3: the timestamp '5'"),
        ("x.csv", GOOD + "u,d,\n", "line 5: the timestamp is missing"),
        ("x.csv", GOOD + ",d,4\n", "line 5: the user is missing"),
        ("x.csv", GOOD + "u,,4\n", "line 5: the item is missing"),
        ("x.csv", 'user,item,note\nu,a,"x\ny"\nu,,z\n', "line 4: the item is missing"),
        ("x.csv", GOOD + "u,d\n", "line 5: 2 columns where the first line has 3"),
        ("x.csv", "user,item\nu,1\nu,2\nu,1.0\n", r"line 4: item ids are text, and both 1 and 1.0 occur"),
        ("x.csv", GOOD.encode() + b"u,\xe9,4\n", "it is not UTF-8 text. Save it as UTF-8"),
        ("x.csv", GOOD + "u,a,3\n", r"^x, line 5: user u and item a at 3 are there a second time \(1 such"),
        ("x.csv", "user,item\nu,a\nu,b\nu,a\n", "line 4: user u and item a are there a second time"),
        ("x.csv", "user,item\nu,a\nu,b\n", "no user has a validation target"),
        ("x.csv", "user,item,timestamp\nu,a,1\nu,a,2\nu,a,3\n", "the catalogue has one item"),
        ("x.inter", "user,item\nu,a\n", r"x.inter: the columns are separated by ',', not by '\\t'"),
        ("x.csv", "user;item\nu;a\n", r"separated by ';', not by ','. Save it as .csv with commas"),
        ("x.inter", "user_id\nu\n", r"no column named item_id \(found: user_id\)"),
        ("x.txt", "", "the file is empty"),
        ("x.txt", "1\n2\n", "no line has a user and an item"),
        ("x.parquet", b"", r"it cannot be read as Parquet \(.*0 bytes"),
        ("x.parquet", b"user,item\n1,2\n", "it cannot be read as Parquet"),
        ("x.parquet", parquet(who=[1], item=[2]), r"no column named user \(found: who, item\)"),
        ("x.parquet", parquet(user=["u", None], item=[1, 2]), "row 2: the user is missing"),
        ("x.parquet", parquet(user=["u", ""], item=[1, 2]), "row 2: the user is missing"),
        ("x.parquet", parquet(user=[1, 2], item=[1.5, 2.0]), "the item column holds fractions"),
        ("x.parquet", parquet(user=[1, 2], item=[[1], [2]]), "the item column is of type list"),
        ("x.parquet", parquet(user=NOTHING, item=NOTHING), "there are no interactions in it"),
        ("x.parquet", parquet(user=[1], item=[1], timestamp=[float("nan")]), "row 1: the timestamp nan"),
        ("x.xlsx", b"PK", r"a file named \*.xlsx cannot be read. Give a file that ends in .csv"),
    ],
)  # fmt: skip
def test_bad_files_get_one_clear_line(load_file, name, content, message):
    with pytest.raises(UserError, match=message) as caught:
        load_file(content, name)
    assert "\n" not in str(caught.value)


def test_duplicates_say_what_to_do_and_it_works(load_file):
    content = GOOD + "u,a,3\n"
    with pytest.raises(UserError, match=r"Set dataset.duplicates=drop .* or dataset.duplicates=keep"):
        load_file(content)
    assert order(load_file(content, duplicates="drop")) == ["b", "c", "a"]
    assert order(load_file(content, duplicates="keep")) == ["b", "c", "a", "a"]


def test_k_core_that_leaves_nothing(load_file):
    with pytest.raises(UserError, match=r"1 users, 3 items and 3 interactions is in a 5-core.*dataset.k_core="):
        load_file(GOOD, k_core=5)


def test_temporal_without_times(load_file):
    with pytest.raises(UserError, match=r"temporal split needs the time"):
        load_file("user,item\nu,a\nu,b\nu,c\n", split="temporal")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (None, "dataset.path: no file is named. Set dataset.path="),
        ("absent.csv", "absent.csv: there is no such file"),
        (".", "it is not a file"),
    ],
)
def test_path(tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        Dataset(File(), path=path, cache_dir=str(tmp_path / "cache")).load(print)


def test_a_folder_is_not_read_instead(tmp_path):
    with pytest.raises(UserError, match=r"dataset.raw_dir: .*dataset.path"):
        Dataset(File(), path="x.csv", raw_dir=str(tmp_path), cache_dir=str(tmp_path)).load(print)


@pytest.mark.parametrize(
    "times",
    [
        ["2020-01-01", "2020-01-03", "2020-01-03T12:00:00"],
        ["2020-01-01T00:00:00Z", "2020-01-03T00:00:00Z", "2020-01-03T12:00:00Z"],
        [1577836800, 1578009600, 1578052800],
        [1577836800.0, 1578009600.0, 1578052800.0],
        [1577836800000, 1578009600000, 1578052800000],
        [1577836800000000, 1578009600000000, 1578052800000000],
        pa.array([1577836800, 1578009600, 1578052800], pa.timestamp("s")),
        pa.array([1577836800000000000, 1578009600000000000, 1578052800000000000], pa.timestamp("ns")),
        pa.array([1577836800000, 1578009600000, 1578052800000], pa.timestamp("ms", tz="UTC")),
        [0, 172800, 216000],
    ],
    ids=str,
)
def test_times_are_told_in_seconds_whatever_their_unit(tmp_path, times):
    path = tmp_path / "mine.parquet"
    path.write_bytes(parquet(user=["u"] * 3, item=["a", "b", "c"], timestamp=times))
    dataset = Dataset(File(), path=str(path), cache_dir=str(tmp_path / "cache"), k_core=1)
    sequences = dataset.load(lambda line: None)
    assert np.diff(sequences.times).tolist() == [172800.0, 43200.0]


def test_dates_are_days(tmp_path):
    path = tmp_path / "mine.parquet"
    days = [datetime.date(2020, 1, day) for day in (1, 3, 4)]
    path.write_bytes(parquet(user=["u"] * 3, item=["a", "b", "c"], timestamp=days))
    dataset = Dataset(File(), path=str(path), cache_dir=str(tmp_path / "cache"), k_core=1)
    assert np.diff(dataset.load(lambda line: None).times).tolist() == [172800.0, 86400.0]


SPLIT = "user,item,timestamp,part\nu,a,4,test\nu,b,1,train\nu,c,3,valid\nu,d,2,train\n"


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("x.csv", SPLIT, {"split": "part"}),
        ("x.tsv", SPLIT.replace(",", "\t").replace("part", "split"), None),
        ("x.inter", SPLIT.replace(",", "\t"), {"user": "user", "item": "item", "split": "part"}),
        (
            "x.parquet",
            parquet(user=["u"] * 4, item=[*"abcd"], timestamp=[4, 1, 3, 2], split=["test", "train", "valid", "train"]),
            None,
        ),
    ],
)  # fmt: skip
def test_a_split_of_ones_own(load_file, name, content, columns):
    sequences = load_file(content, name, split="as_given", columns=columns)
    assert order(sequences) == ["b", "d", "c", "a"]
    assert (sequences.train_end.tolist(), sequences.valid_at.tolist(), sequences.test_at.tolist()) == ([2], [2], [3])
    assert sequences.split == "as given by the source"


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        (SPLIT, None, r"no column named split \(found: user, item, timestamp, part\).*dataset.columns=\{split: "),
        (
            SPLIT.replace("valid", "dev"),
            {"split": "part"},
            r"line 4: 'dev' is no part of a split. Write train, ",
        ),
        (SPLIT.replace("valid", ""), {"split": "part"}, r"x.csv, line 4: the split is missing"),
        (SPLIT.replace("d,2,train", "d,5,train"), {"split": "part"}, r"user u has an event after one of a later part"),
        (SPLIT.replace("valid", "train"), {"split": "part"}, r"no user has a validation target \(split as given"),
    ],
)
def test_a_split_of_ones_own_that_is_none(load_file, content, columns, message):
    with pytest.raises(UserError, match=message):
        load_file(content, "x.csv", split="as_given", columns=columns)


def test_a_column_split_is_not_read_with_another_split(load_file):
    assert load_file(SPLIT.replace("part", "split"), split="leave_one_out").split == "leave-one-out"
