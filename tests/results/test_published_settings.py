import re
from pathlib import Path

import pytest
import yaml

# Our own settings, which say so, are not among the published ones.
CONF = Path(__file__).parents[2] / "conf"
SETTINGS = sorted(path for path in (CONF / "setting").glob("*.yaml") if "not published" not in path.read_text())
KNOWN = {
    "optimizer": {"lr": float, "weight_decay": float},
    "model": {"dropout": float, "max_length": int},
    "trainer": {"max_epochs": int, "batch_rows": int, "eval_every": int},
    "loss": {"k": int, "alpha": int, "c": int, "pool": str},
}
LOSS_KEYS = {"ce": None, "sce": {"k", "pool", "alpha"}, "nce": {"k", "pool", "c"}, "bce": {"k", "pool"}}


def default(name):
    return yaml.safe_load((CONF / f"{name}.yaml").read_text())


def test_every_published_cell_has_one():
    names = {path.stem for path in SETTINGS}
    cells = {
        f"{dataset}_{model}_{loss}"
        for dataset in ("beauty", "yelp", "ml-1m")
        for model in ("sasrec", "gru4rec", "caser", "fmlp_rec")
        for loss in ("ce", "sce", "nce", "bce", "bpr")
    }
    assert names == cells | {"beauty_bsarec_ce"}


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_parses_and_holds_known_keys_only(path):
    first, second, *_ = path.read_text().splitlines()
    assert first == "# @package _global_"
    assert re.fullmatch(r"# .*arXiv .*: test NDCG@10 0\.\d{4} \+- 0\.\d{4} \(5 seeds\)", second)
    setting = yaml.safe_load(path.read_text())  # YAML 1.1: 5e-4 would be a string
    for group, values in setting.items():
        for key, value in values.items():
            assert type(value) is KNOWN[group][key], f"{group}.{key}"
    loss = path.stem.rsplit("_", 1)[1]
    wanted = LOSS_KEYS["bce" if loss == "bpr" else loss]
    assert setting.get("loss", {}).keys() <= (wanted or set())
    assert setting.get("loss", {}).get("pool", "all") in ("all", "unseen", "non_target")


def test_numbers_of_one_cell():
    path = next(path for path in SETTINGS if path.stem == "yelp_caser_sce")
    assert yaml.safe_load(path.read_text()) == {
        "optimizer": {"lr": 5e-3, "weight_decay": 1e-8},
        "model": {"dropout": 0.7},
        "trainer": {"max_epochs": 50, "eval_every": 1},
        "loss": {"alpha": 100},  # the default is 100.0, which a table of runs tells apart
    }


def test_the_published_values_that_are_defaults():
    """A setting holds differences alone, so another default would change what is published."""
    assert {key: default("trainer/default")[key] for key in ("batch_rows", "eval_every")} == {
        "batch_rows": 512,
        "eval_every": 5,
    }
    published = {
        "sce": {"k": 100, "pool": "all", "alpha": 100},
        "nce": {"k": 100, "pool": "all", "c": 10},
        "bce": {"k": 1, "pool": "unseen"},
        "bpr": {"k": 1, "pool": "unseen"},
    }
    for loss, values in published.items():
        assert values.items() <= default(f"loss/{loss}").items(), loss
