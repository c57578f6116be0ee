import errno
import json
import os
import pickle
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys_lt.data.cache import content_hash
from recsys_lt.data.dataset import Dataset
from recsys_lt.data.sources.file import File
from recsys_lt.data.sources.synthetic import Synthetic
from recsys_lt.errors import UserError

SMALL = Synthetic(n_users=50, n_items=20, mean_length=8)


def load(tmp_path, source=SMALL, **settings):
    said: list[str] = []
    settings = {"name": "made", "k_core": 1, "cache_dir": str(tmp_path / "cache"), **settings}
    return Dataset(source, **settings).load(said.append), said


def prepared(tmp_path) -> list[Path]:
    return [path for path in (tmp_path / "cache" / "prepared").iterdir() if path.is_dir()]


def test_arrays_are_mapped_and_survive(tmp_path):
    first, said = load(tmp_path)
    second, _ = load(tmp_path)
    assert len(prepared(tmp_path)) == 1
    assert said == [f"made: 50 users, 20 items, {len(first.items)} interactions (no k-core, leave-one-out)"]
    assert first.fingerprint == second.fingerprint == prepared(tmp_path)[0].name
    for name in (
        "items",
        "offsets",
        "train_end",
        "valid_at",
        "test_at",
        "user_ids",
        "item_ids",
        "titles",
    ):
        assert isinstance(getattr(second, name), np.memmap)
        assert (getattr(first, name) == getattr(second, name)).all()
    assert isinstance(str(second.titles[0]), str)
    assert second.user_ids[np.array([1, 0])].tolist() == ["u1", "u0"]


def test_the_key_is_the_content_and_the_preparation(tmp_path):
    def key(content, folder="a", **settings):
        path = tmp_path / folder / "mine.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        return load(tmp_path, File(), name=None, path=str(path), **settings)[0].fingerprint

    content = "user,item,timestamp\nu,a,1\nu,b,2\nu,c,3\nv,a,1\nv,b,2\nv,c,3\n"
    one = key(content)
    assert key(content) == key(content, "b") == one
    assert key(content.replace("a,1", "a,0")) != one  # the same size
    assert key(content, k_core=2) != one
    assert key(content, duplicates="drop") != one
    assert key(content) == one


def test_popularity_is_counted_once_and_stored(tmp_path):
    data, _ = load(tmp_path)
    counted = replace(data, counted=None).popularity
    assert counted.sum() == data.train_end.sum()
    assert data.counted is not None
    assert data.popularity.dtype == counted.dtype == np.int64
    assert data.popularity.tolist() == counted.tolist()
    assert data.popularity.flags.writeable  # as a tensor over it must be


def test_a_copy_of_an_earlier_version_is_prepared_again_under_the_same_key(tmp_path):
    first, _ = load(tmp_path)
    titles = first.titles.tolist()
    (place,) = prepared(tmp_path)
    about = json.loads((place / "about.json").read_text())
    about |= {"titles": about.pop("version") - 1}
    (place / "about.json").write_text(json.dumps(about))
    again, said = load(tmp_path)
    assert "of an earlier version" in said[0]
    assert again.titles.tolist() == titles
    assert again.fingerprint == first.fingerprint
    assert len(load(tmp_path)[1]) == 1  # once


def test_times_of_events_are_kept_where_the_source_has_them(tmp_path):
    timed, _ = load(tmp_path)
    assert isinstance(timed.times, np.memmap)
    assert timed.times.dtype == np.float64
    for first, end in zip(timed.offsets[:-1], timed.offsets[1:], strict=True):
        assert (np.diff(timed.times[first:end]) > 0).all()
    assert sorted(timed.times) == sorted(SMALL.draw().times)


def test_times_of_a_source_that_has_none(tmp_path, monkeypatch):
    path = tmp_path / "mine.csv"
    path.write_text("user,item\nu,a\nu,b\nu,c\n")
    settings = {"source": File(), "name": None, "path": str(path)}
    assert load(tmp_path, **settings)[0].times is None
    monkeypatch.setattr("recsys_lt.data.preparation.Preparation.__call__", None)  # that is remembered
    assert load(tmp_path, **settings)[0].times is None


@pytest.mark.parametrize("damage", ["cut", "flip", "lose", "about", "empty", "popularity", "times"])
def test_a_damaged_copy_is_prepared_again(tmp_path, damage):
    whole, _ = load(tmp_path)
    expected = np.array(whole.items)
    del whole
    folder = prepared(tmp_path)[0]
    items = folder / "items.npy"
    content = items.read_bytes()
    if damage == "cut":
        items.write_bytes(content[:-8])
    elif damage == "flip":
        items.write_bytes(content[:-8] + bytes(255 - byte for byte in content[-8:]))
    elif damage == "lose":
        items.unlink()
    elif damage in ("popularity", "times"):
        (folder / f"{damage}.npy").unlink()
    elif damage == "about":
        (folder / "about.json").write_text("{")
    else:
        for path in folder.iterdir():
            path.unlink()
    again, said = load(tmp_path)
    assert said[0] == "made: the prepared copy is damaged or of an earlier version; preparing it again"
    assert (again.items == expected).all()
    assert len(load(tmp_path)[1]) == 1
    assert [path.name for path in (tmp_path / "cache" / "prepared").iterdir() if path.name[0] == "."] == []


@pytest.mark.parametrize(
    ("array", "place", "value"),
    [
        ("items", 3, 10**6),
        ("items", -1, -1),
        ("offsets", 0, 1),
        ("offsets", 2, 10**9),
        ("train_end", 0, 10**6),
        ("train_end", 1, -2),
        ("valid_at", 0, 10**6),
        ("test_at", 0, -5),
        ("user_ids", None, ["one"]),
        ("item_ids", None, ["one"]),
        ("popularity", None, [1]),
    ],
)
def test_a_copy_with_numbers_that_cannot_be_is_prepared_again(tmp_path, array, place, value):
    load(tmp_path)
    (folder,) = prepared(tmp_path)
    changed = np.load(folder / f"{array}.npy")
    if place is None:
        changed = np.array(value)
    else:
        changed[place] = value
    np.save(folder / f"{array}.npy", changed)
    about = json.loads((folder / "about.json").read_text())
    about["sums"][array] = zlib.crc32((folder / f"{array}.npy").read_bytes())
    (folder / "about.json").write_text(json.dumps(about))
    _, said = load(tmp_path)
    assert "damaged" in said[0]
    assert len(load(tmp_path)[1]) == 1


def test_two_processes_prepare_at_once(tmp_path):
    code = (
        "import sys; from recsys_lt.data.dataset import Dataset;"
        "from recsys_lt.data.sources.synthetic import Synthetic;"
        "s = Dataset(Synthetic(n_users=20000, n_items=500), name='made', k_core=1, cache_dir=sys.argv[1])"
        ".load(lambda line: None); print(s.fingerprint, int(s.items.sum()))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache")]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert len(prepared(tmp_path)) == 1


def test_what_a_killed_process_left_is_removed(tmp_path):
    load(tmp_path)
    folder = prepared(tmp_path)[0]
    (folder / "about.json").unlink()
    (folder / ".items.1.0123abcd.npy").write_bytes(b"half")
    load(tmp_path)
    assert not list(folder.glob(".*"))


def test_a_run_goes_on_with_the_arrays_it_has_mapped(tmp_path):
    data, _ = load(tmp_path)
    items = np.array(data.items)
    (prepared(tmp_path)[0] / "about.json").unlink()
    load(tmp_path)
    assert (data.items == items).all()


def test_a_failure_leaves_nothing_behind(tmp_path, load_file):
    with pytest.raises(UserError):
        load_file("user,item\nu,a\nu,b\n")
    assert prepared(tmp_path) == []


def test_hashes_are_remembered_and_not_trusted_blindly(tmp_path, monkeypatch):
    file, notes = tmp_path / "f", tmp_path / "hashes"
    file.write_bytes(b"content")
    right = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    assert content_hash(file, notes) == right
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", None)  # a second reading would fail
        assert content_hash(file, notes) == right
    for note in notes.iterdir():
        note.write_text("damaged")
    assert content_hash(file, notes) == right
    stat = file.stat()
    file.write_bytes(b"CONTENT")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same mtime
    assert content_hash(file, notes) != right


def test_a_cache_that_is_full_is_named(tmp_path, monkeypatch):
    def save(*_args, **_named):
        raise OSError("9000 requested and 512 written")

    monkeypatch.setattr(np, "save", save)
    with pytest.raises(
        UserError,
        match=rf"{tmp_path}/cache/prepared/\w+/items.npy: the file was only partly written.*dataset.cache_dir",
    ):
        load(tmp_path)
    assert list(prepared(tmp_path)[0].iterdir()) == []


def test_a_file_that_cannot_be_read_is_no_matter_of_the_cache(tmp_path, monkeypatch):
    path = tmp_path / "mine.csv"
    path.write_text("user,item\nu,a\nu,b\nu,c\n")
    real = Path.open

    def refuse(self, *args, **named):
        if self.name == "mine.csv":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, *args, **named)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"mine.csv: permission is denied") as refusal:
        load(tmp_path, File(), name=None, path=str(path))
    assert "cache_dir" not in str(refusal.value)


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"dataset.cache_dir"):
        load(tmp_path)


def test_columns_of_items_are_laid_beside_when_they_are_first_read(tmp_path):
    path = tmp_path / "sequences.txt"
    path.write_text("u 2 1 3\nv 1 2 3\n")
    (tmp_path / "items.tsv").write_text("item_id\ttitle\tgenres\n1\tA\tX|Y\n2\tB\t\n3\tC\tCaf&eacute;\n")

    def loaded():
        return load(tmp_path, File(), name=None, path=str(path))

    data, _ = loaded()
    assert sorted(data.item_data) == ["attributes", "genres", "title"]
    made = prepared(tmp_path)[0]
    files = {file.name: file.stat() for file in made.glob("*.npy")}
    assert [name for name in files if name.startswith("column")] == ["column_title.npy"]
    assert data.item_data["attributes"].tolist() == ["", "X, Y", "Caf\u00e9"]
    assert data.item_data["attributes"] is data.item_data["attributes"]
    assert data.titles.tolist() == ["B", "A", "C"]
    assert {file.name: file.stat() for file in made.glob("*.npy") if file.name in files} == files
    (made / "column_attributes.npy").write_bytes(b"damaged")
    again, said = loaded()
    assert again.item_data["attributes"].tolist() == ["", "X, Y", "Caf\u00e9"]
    assert said[-1] == "sequences: 1 of 3 items have no attributes"
    assert again.fingerprint == data.fingerprint


def test_a_column_s_name_leads_nowhere(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("user,item\nu,a\nu,b\nu,c\n")
    (tmp_path / "about.csv").write_text("item,../../x,\u540d\na,1,2\nb,3,4\nc,5,6\n")
    data, _ = load(tmp_path, File(), name=None, path=str(path), items=str(tmp_path / "about.csv"))
    assert data.item_data["../../x"].tolist() == ["1", "3", "5"]
    assert data.item_data["\u540d"].tolist() == ["2", "4", "6"]
    assert len(list(prepared(tmp_path)[0].glob("column_*.npy"))) == 2


def test_item_data_stay_in_their_process(tmp_path):
    data, _ = load(tmp_path)
    assert pickle.loads(pickle.dumps(data)).item_data == {}
