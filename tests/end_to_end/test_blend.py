"""Blends of trained runs, from the command line."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.end_to_end.conftest import TINY, Cli

RUN = (*TINY, "logger=none", "strategy=cpu", "trainer.max_epochs=3", "model.width=16")
MIX = (*TINY, "logger=none", "strategy=cpu", "model=blend")


@pytest.fixture(scope="module")
def place(here: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two seeds, and one of other events."""
    place = tmp_path_factory.mktemp("blend")
    for name, *more in (("one", "seed=1"), ("two", "seed=2"), ("other", "dataset.source.seed=7")):
        ended = here(*RUN, *more, f"hydra.run.dir={name}", cwd=place)
        assert ended.returncode == 0, ended.stderr
    return place


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_a_blend_of_one_run_is_that_run(here: Cli, place: Path) -> None:
    ended = here(*MIX, "model.parts=[one]", "hydra.run.dir=alone", cwd=place)
    assert ended.returncode == 0, ended.stderr
    assert metrics(place / "alone")["test"] == metrics(place / "one")["test"]
    assert pd.read_parquet(place / "alone/ranks.parquet").equals(pd.read_parquet(place / "one/ranks.parquet"))


def test_the_search_ranks_as_the_run_does_where_nothing_is_masked(here: Cli, place: Path) -> None:
    ended = here(*MIX, "model.parts=[one,two]", "metrics.mask_seen=none", "hydra.run.dir=unmasked", cwd=place)
    assert ended.returncode == 0, ended.stderr
    trials = json.loads((place / "unmasked/needs/model.mixture/trials.json").read_text())
    best = max(trial["valid/ndcg@10"] for trial in trials)
    assert metrics(place / "unmasked")["valid"]["ndcg@10"] == pytest.approx(best, abs=1e-6)


def test_a_part_with_users_of_its_own_makes_no_lists_for_others(here: Cli, place: Path) -> None:
    assert here(*RUN, "model=caser", "hydra.run.dir=caser", cwd=place).returncode == 0
    ended = here(*MIX, "model.parts=[one,caser]", "hydra.run.dir=with_caser", cwd=place)
    assert ended.returncode == 0, ended.stderr
    item = pd.read_parquet(place / "one/ranks.parquet")["target"][0]
    lists = here("recommend", "with_caser", "--history", f"i{item}", cwd=place)
    assert (lists.returncode, "only for the users it was trained on" in lists.stderr) == (2, True), lists.stderr


def test_two_seeds_are_mixed_by_what_validation_says(here: Cli, place: Path) -> None:
    ended = here(*MIX, "model.parts=[one,two]", "hydra.run.dir=both", cwd=place)
    assert ended.returncode == 0, ended.stderr
    trials = json.loads((place / "both/needs/model.mixture/trials.json").read_text())
    chosen = json.loads((place / "both/needs/model.mixture/mixture.json").read_text())
    best = max(trials, key=lambda trial: (trial["valid/ndcg@10"], trial["valid/nonhead/ndcg@10"]))
    assert chosen == {key: best[key] for key in ("weights", "temperatures")}
    assert all(abs(sum(trial["weights"]) - 1) < 1e-9 for trial in trials)
    # The blend ranks as its search did: all validation users are fewer than tune_users.
    found = metrics(place / "both")["valid"]
    assert found["nonhead/ndcg@10"] == pytest.approx(best["valid/nonhead/ndcg@10"], abs=1e-6)
    valid = found["ndcg@10"]
    assert valid == pytest.approx(best["valid/ndcg@10"], abs=1e-6)
    assert valid >= max(metrics(place / name)["valid"]["ndcg@10"] for name in ("one", "two"))
    lists = here("recommend", "both", "--all", "--k", "3", "--csv", "lists.csv", cwd=place)
    assert lists.returncode == 0, lists.stderr
    assert len(pd.read_csv(place / "lists.csv")) == 3 * 400


def test_a_blend_names_folders_of_this_machine_and_is_not_pushed(here: Cli, place: Path) -> None:
    assert here(*MIX, "model.parts=[one]", "hydra.run.dir=single", cwd=place).returncode == 0
    ended = here("push", "single", "pushed", cwd=place)
    assert (ended.returncode, "model.part_0 is one of several runs" in ended.stderr) == (2, True), ended.stderr
    assert not (place / "pushed").exists()


def test_a_share_of_the_best_is_given_for_rare_targets(here: Cli, place: Path) -> None:
    ended = here("-m", *MIX, "model.parts=[one,two]", "model.keep=1,0.8", "hydra.sweep.dir=kept", cwd=place)
    assert ended.returncode == 0, ended.stderr
    runs = [metrics(path.parent)["valid"] for path in place.glob("kept/*/metrics.json")]
    kept, best = sorted(runs, key=lambda valid: valid["ndcg@10"])
    assert kept["ndcg@10"] >= 0.8 * best["ndcg@10"] - 1e-6
    assert kept["nonhead/ndcg@10"] > best["nonhead/ndcg@10"]
    ended = here(*MIX, "model.parts=[one,two]", "model.keep=0", cwd=place)
    assert (ended.returncode, "model.keep: it is 0" in ended.stderr) == (2, True), ended.stderr


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ("[one,other]", "it was trained on another dataset"),
        ("[one,nowhere]", "there is no such folder"),
        ("[one,one]", "model.parts: a run is there twice"),
        ("[]", "model.parts: they are []. Give run folders"),
        ("one", "model.parts: it is"),
    ],
)
def test_parts_that_do_not_fit_are_refused(here: Cli, place: Path, tmp_path: Path, parts: str, line: str) -> None:
    ended = here(*MIX, f"model.parts={parts}", f"hydra.run.dir={tmp_path}", cwd=place)
    assert (ended.returncode, len(ended.stderr.strip().splitlines())) == (2, 1), ended.stderr
    assert line in ended.stderr
