"""Columns of items: from the user's own files, in the order of the vocabulary, to a model."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys_lt.data.dataset import Dataset
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.item_data import LONGEST_TEXT, LONGEST_TITLE, RawColumn, write_column
from recsys_lt.data.sources.file import File
from recsys_lt.data.sources.synthetic import Synthetic
from recsys_lt.errors import UserError

IDS = np.array(["b", "c", "a"])
EVENTS = {
    "mine.csv": b"user,item\nu,b\nu,c\nu,a\n",
    "mine.tsv": b"user\titem\nu\tb\nu\tc\nu\ta\n",
    "mine.inter": b"user_id:token\titem_id:token\nu\tb\nu\tc\nu\ta\n",
    "mine.txt": b"u b c a\n",
}


def parquet(**columns) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


EVENTS["mine.parquet"] = parquet(user=["u"] * 3, item=["b", "c", "a"])
ITEMS = {
    "about.csv": b'item,title,category\na,"A, or\nnot",X|Y\nc,C &amp; D,\nz,Z,X\n',
    "about.tsv": b"item_id\tname\tgenres\na\tA, or not\tX, Y\nc\tC & D\t\nz\tZ\tX\n",
    "about.item": b"item_id:token\tlong_title:token_seq\tclass:token_seq\na\tA, or not\tX Y\nc\tC & D\t\nz\tZ\tX\n",
    "about.parquet": parquet(
        item=["a", "c", "z"], title=["A, or not", "C & D", None], attributes=[["X", "Y"], None, ["X"]]
    ),
}  # fmt: skip


@pytest.fixture
def load(tmp_path):
    """Load events with files of items; the sequences and what was said."""

    def loaded(items, events="mine.csv", more=None, **settings):
        (tmp_path / events).write_bytes(EVENTS[events])
        paths = []
        for name, content in items.items():
            if isinstance(content, np.ndarray):
                np.save(tmp_path / name, content)
            else:
                (tmp_path / name).write_bytes(content)
            if not name.endswith(".ids.txt"):
                paths.append(str(tmp_path / name))
        settings = (
            {"path": str(tmp_path / events), "items": paths if len(paths) != 1 else paths[0]} | settings | (more or {})
        )
        said = []
        dataset = Dataset(File(), k_core=1, cache_dir=str(tmp_path / "cache"), **settings)
        return dataset.load(said.append), said

    return loaded


def facts_of(data) -> DataFacts:
    return DataFacts(data.n_users, data.n_items, torch.from_numpy(data.popularity), data.name, data.item_data)


@pytest.mark.parametrize("events", EVENTS)
@pytest.mark.parametrize("items", ITEMS)
def test_every_table_of_items_beside_every_file_of_events(load, events, items):
    data, said = load({items: ITEMS[items]}, events)
    assert data.item_ids.tolist() == IDS.tolist()
    assert data.titles.tolist() == ["", "C & D", "A, or not"]
    assert data.item_data["attributes"].tolist() == ["", "", "X, Y"]
    assert said[0] == "mine: 1 of 3 items have no title"
    assert said[1] == "mine: title: 1 of 3 rows are of items that are not in the data; they are ignored"


def test_headers_are_mapped(load, tmp_path):
    (tmp_path / "shop.csv").write_text("user_id,asin,ts\nu,a,3\nu,b,1\nu,c,2\n")
    data, _ = load(
        {"about.csv": b"asin,name,what\nb,B,1\nc,C,2\na,A,3\n"},
        path=str(tmp_path / "shop.csv"),
        columns={"user": "user_id", "item": "asin", "time": "ts", "label": "what"},
    )
    assert data.item_ids[data.items].tolist() == ["b", "c", "a"]
    assert sorted(data.item_data) == ["label", "name", "title"]
    assert dict(zip(data.item_ids, data.item_data["label"], strict=True)) == {"b": "1", "c": "2", "a": "3"}


def test_other_headers_are_another_dataset(load):
    plain, _ = load({"about.csv": b"item,x\nb,1\n"})
    mapped, _ = load({"about.csv": b"item,x\nb,1\n"}, columns={"y": "x"})
    assert plain.fingerprint != mapped.fingerprint
    assert plain.item_fingerprint == mapped.item_fingerprint


VECTORS = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float64)


@pytest.mark.parametrize(
    "items",
    [
        {"image.npy": VECTORS, "image.ids.txt": b"a\nz\nb\n"},
        {"image.npy": VECTORS.astype(np.int16), "image.ids.txt": b"a\nz\nb"},
        {"v.parquet": parquet(item=["a", "z", "b", "c"], image=[*VECTORS.tolist(), None])},
        {"v.parquet": parquet(item=["a", "z", "b"], image=pa.FixedSizeListArray.from_arrays(VECTORS.ravel(), 2))},
    ],
    ids=["npy", "whole numbers", "parquet", "parquet of a fixed size"],
)
def test_vectors(load, items):
    data, said = load(items)
    vectors = facts_of(data).vectors("image")
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[5, 6], [0, 0], [1, 2]]
    assert isinstance(data.item_data["image"], np.memmap)
    assert "mine: 1 of 3 items have no image" in said
    assert [line for line in said if "image: " in line and line.endswith("they are ignored")]
    with pytest.raises(UserError, match=r"holds vectors, not texts"):
        facts_of(data).texts("image")


def test_vectors_are_written_in_pieces(tmp_path, monkeypatch):
    ids = np.array([f"i{n}" for n in range(50)])
    vectors = np.random.default_rng(0).normal(size=(50, 3))
    order = np.random.default_rng(1).permutation(50)
    monkeypatch.setattr("recsys_lt.data.item_data.PIECE", 12)
    write_column(tmp_path / "v.npy", "v", RawColumn(ids[order].astype(object), vectors[order], "made"), ids)
    assert np.load(tmp_path / "v.npy").tolist() == vectors.astype(np.float32).tolist()


def test_texts_are_plain_and_cut(tmp_path):
    texts = np.array(["Cr&egrave;me &amp;\n Oil, 4&frac12; inch", "x" * 9999, "R&B,  AT&T"], dtype=object)
    for name, longest in (("title", LONGEST_TITLE), ("story", LONGEST_TEXT)):
        write_column(tmp_path / "t.npy", name, RawColumn(IDS.astype(object), texts, "made"), IDS)
        assert np.load(tmp_path / "t.npy").tolist() == ["Crème & Oil, 4½ inch", "x" * longest, "R&B, AT&T"]


@pytest.mark.parametrize(
    ("items", "line"),
    [
        ({"image.npy": VECTORS}, r"image.npy: there is no file .*image.ids.txt with the item ids of its rows"),
        ({"image.npy": VECTORS, "image.ids.txt": b"a\nb\n"}, r"image.ids.txt: 2 ids for the 3 rows of image.npy"),
        ({"image.npy": VECTORS, "image.ids.txt": b"a\nb\nb\n"}, r"item b is there a second time \(row 3\)"),
        ({"image.npy": VECTORS, "image.ids.txt": b"1\n2\n3\n"}, r"none of its 3 rows is of one of the 3 items"),
        ({"image.npy": VECTORS, "image.ids.txt": b"\xff\nb\nc\n"}, r"ids of the array's rows cannot be read.*UTF-8"),
        ({"image.npy": VECTORS[0], "image.ids.txt": b"a\nb\n"}, r"array of float64 of shape \[2\]"),
        ({"image.npy": VECTORS.astype(str), "image.ids.txt": b"a\nb\nc\n"}, r"array of <U32 of shape \[3, 2\]"),
        ({"image.npy": VECTORS.astype(object), "image.ids.txt": b"a\nb\nc\n"}, r"cannot be read as an array"),
        ({"image.npy": b"PK", "image.ids.txt": b"a\n"}, r"cannot be read as an array"),
        ({"image.npy": VECTORS * [1, np.nan], "image.ids.txt": b"a\nb\nc\n"}, r"vector of item b .* not finite"),
        ({"image.npy": VECTORS * 1e300, "image.ids.txt": b"a\nb\nc\n"}, r"vector of item b .* not finite"),
        ({"v.parquet": parquet(item=["a", "b"], image=[[1.0], [1.0, 2.0]])}, r"image is lists of 1 and 2 numbers"),
        ({"v.parquet": parquet(item=["a", "b"], image=[[1.0], [None]])}, r"column image is lists of 1 numbers"),
        ({"v.parquet": parquet(item=["a"], image=[{"x": 1}])}, r"column image is of type struct"),
        ({"v.parquet": parquet(item=["a"], image=[[[1.0]]])}, r"column image is of type list"),
    ],
)  # fmt: skip
def test_bad_vectors_get_one_line_before_anything_is_trained(load, items, line):
    with pytest.raises(UserError, match=line) as refusal:
        facts_of(load(items)[0]).vectors("image")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("items", "settings", "line"),
    [
        ({"about.csv": b"id,title\na,A\n"}, {}, r"no column named item \(found: id, title\).*columns=\{item: \.\.\.\}"),
        ({"about.csv": b"item,title,title\na,A,B\n"}, {}, r"two columns are named title"),
        ({"about.csv": b"item,title\na\n"}, {}, r"about.csv, line 2: 1 columns where the first line has 2"),
        ({"about.csv": b""}, {}, r"about.csv: the file is empty"),
        ({"about.xlsx": b"PK"}, {}, r"files of this kind are not read. Give one that ends in .csv, "),
        ({}, {"items": "absent.csv"}, r"dataset.items=absent.csv: there is no such file"),
        ({}, {"items": "."}, r"it is not a file"),
        ({"a.csv": b"item,x\na,1\n", "b.csv": b"item,x\na,1\n"}, {}, r"b.csv: a file before it has a column 'x' too"),
        ({"a.csv": b"item,x\na,1\n"}, {"columns": {"y": "z"}}, r"columns.y: no file of items has the column 'z'.*x"),
        ({}, {"columns": {"usr": "who"}}, r"columns.usr: no file of items.*user, item, time and split"),
        ({}, {"columns": {"who": "user", "sku": "item"}}, r"columns: .*way round. Write \{user: who, item: sku\}"),
        ({}, {"columns": {"user": "who"}}, r"no column named who \(found: user, item\).*dataset.columns=\{user: "),
        ({}, {"columns": {"time": "when"}}, r"no column named when \(found: user, item\)"),
    ],
)  # fmt: skip
def test_bad_tables_get_one_line_when_the_dataset_is_loaded(load, items, settings, line):
    with pytest.raises(UserError, match=line) as refusal:
        load(items, more=settings)
    assert "\n" not in str(refusal.value)


def test_what_a_model_reads_and_the_data_lack(load):
    facts = facts_of(load({"about.csv": b"item,story\nb,\nc, \n"})[0])
    line = r"model=x: the items' column 'title' is read, which mine lacks \(columns: story\)"
    with pytest.raises(UserError, match=line):
        facts.texts("title", "model=x")
    with pytest.raises(UserError, match=r"no item of mine has a text in the column 'story'"):
        facts.texts("story")
    with pytest.raises(UserError, match=r"holds texts, not vectors"):
        facts.vectors("story")


def test_a_table_beside_the_file_is_said_to_be_unread(load, tmp_path):
    (tmp_path / "items.tsv").write_text("item\ttitle\na\tA\nb\tB\nc\tC\n")
    _, said = load({})
    assert said[0].startswith(f"mine: {tmp_path}/items.tsv is not used. To use it add dataset.items=")
    assert not [line for line in load({}, "mine.txt")[1] if "not used" in line]  # it is
    assert not [line for line in load({"about.csv": ITEMS["about.csv"]})[1] if "not used" in line]


def test_own_items_beside_another_source(tmp_path):
    (tmp_path / "more.csv").write_text("item,title,story\ni3,Third,Once\n")
    source = Synthetic(n_users=20, n_items=9, mean_length=8)
    dataset = Dataset(source, "made", k_core=1, cache_dir=str(tmp_path / "cache"), items=str(tmp_path / "more.csv"))
    data = dataset.load(lambda _line: None)
    of_third = int(np.flatnonzero(data.item_ids == "i3")[0])
    assert data.item_data["story"][of_third] == "Once"
    assert data.titles[of_third] == "Third"
    with pytest.raises(UserError, match=r"dataset.columns.user: dataset=made reads no column of events by"):
        Dataset(source, "made", cache_dir=str(tmp_path / "cache"), columns={"user": "x"}).load(print)
