import json
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from recsys_lt.data.dataset import Dataset

ROOT = Path(__file__).parents[2]
RAW = ROOT.parent / "shared" / "data"
CONF = ROOT / "conf" / "dataset"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml") if not path.stem.startswith("_"))


def dataset(*overrides: str) -> Dataset:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose(overrides=list(overrides))
    made = instantiate(config.dataset)
    assert isinstance(made, Dataset)
    return made


def test_all_are_here():
    assert sorted(["beauty", "toys", "sports", "yelp", "ml-100k", "ml-1m", "lastfm", "file", "synthetic"]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_instantiates_and_says_what_it_is(name):
    assert dataset(f"+dataset={name}", "dataset.path=mine/own.csv").name == ("own" if name == "file" else name)
    first = (CONF / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    base = OmegaConf.load(CONF / "_base.yaml")
    own = set(OmegaConf.load(CONF / f"{name}.yaml")) - {"defaults"}
    assert own <= set(base)


def test_cache_dir_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path / "here"))
    dataset("+dataset=synthetic", "dataset.source.n_users=20").load(lambda line: None)
    assert (tmp_path / "here" / "prepared").is_dir()


@pytest.mark.parametrize("name", ["beauty", "yelp", "ml-1m", "lastfm"])
def test_published_counts(name, tmp_path):
    if not (RAW / name).is_dir():
        pytest.skip(f"../shared/data/{name} is not here")
    said: list[str] = []
    data = dataset(f"+dataset={name}", f"dataset.raw_dir={RAW / name}", f"dataset.cache_dir={tmp_path}").load(
        said.append
    )  # the counts are checked in there
    assert np.bincount(data.items, minlength=data.n_items).min() >= (1 if name == "lastfm" else 5)
    if name != "lastfm":
        assert (data.train_end == np.diff(data.offsets) - 2).all()
        assert (data.test_at == data.valid_at + 1).all()
        titled = {"beauty": 12_094, "yelp": 20_033, "ml-1m": 3_416}[name]
        assert (data.titles != "").sum() == titled
        return
    rows = {part: (RAW / name / f"{part}.jsonl").read_text().splitlines() for part in ("train", "val", "test")}
    assert data.train_end.sum() == len(rows["train"])
    assert (data.valid_at >= 0).sum() == len(rows["val"])
    assert (data.test_at >= 0).sum() == len(rows["test"])
    user = int(np.flatnonzero(data.test_at >= 0)[0])
    row = json.loads(rows["test"][0])
    events = data.item_ids[data.items[data.offsets[user] : data.offsets[user + 1]]]
    assert events.tolist() == [str(item) for item in [*row["seq"], row["next"]]]


def test_sequences_are_those_of_the_file(tmp_path):
    if not (RAW / "beauty").is_dir():
        pytest.skip("../shared/data/beauty is not here")
    data = dataset("+dataset=beauty", f"dataset.raw_dir={RAW / 'beauty'}", f"dataset.cache_dir={tmp_path}").load(
        lambda line: None
    )
    for line, user in zip((RAW / "beauty" / "sequences.txt").read_text().splitlines(), range(99), strict=False):
        numbers = np.array(line.split()[1:], dtype=int) - 1  # numbered by first appearance there too
        assert data.items[data.offsets[user] : data.offsets[user + 1]].tolist() == numbers.tolist()
