"""An item graph as a run: trained by nobody, resumed, recommended from, set in a table, a retriever, not exported."""

# ruff: noqa: F811  (fixtures)

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from recsys_lt import load
from recsys_lt.errors import UserError
from tests.end_to_end.conftest import TINY, Cli, environment, here  # noqa: F401

RUN = (*TINY, "logger=none", "strategy=cpu")


@pytest.fixture(scope="module")
def tuned(here: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("graph")
    done = here(*RUN, "model=itemgraph", "model.tune=true", "model.tune_users=100", "hydra.run.dir=run", cwd=place)
    assert done.returncode == 0, done.stderr
    return place


def test_the_record_has_what_was_chosen(tuned: Path) -> None:
    metrics = json.loads((tuned / "run" / "metrics.json").read_text())
    trials = json.loads((tuned / "run" / "needs" / "model.graph" / "trials.json").read_text())
    best = max(trials, key=lambda trial: trial["valid/ndcg@10"])
    assert metrics["chosen"] == {key: value for key, value in best.items() if not key.startswith("valid/")}
    assert len(trials) > 20
    assert metrics["test"]["ndcg@10"] > 0.2
    assert (metrics["epochs"], metrics["train"]["parameters"]) == (0, 0)


def test_it_is_resumed_to_the_same_numbers(tuned: Path, here: Cli) -> None:
    before = json.loads((tuned / "run" / "metrics.json").read_text())
    done = here("resume", "run", cwd=tuned)
    assert done.returncode == 0, done.stderr
    assert "is made first" not in done.stdout
    after = json.loads((tuned / "run" / "metrics.json").read_text())
    assert [after[part] for part in ("test", "valid", "chosen")] == [
        before[part] for part in ("test", "valid", "chosen")
    ]


def test_it_recommends_to_users_it_never_saw(tuned: Path, here: Cli) -> None:
    done = here("recommend", "run", "--history", "i1,i2,i3", "--k", "5", "--csv", "new.csv", cwd=tuned)
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(tuned / "new.csv")
    assert len(found) == 5
    assert not set(found["item"]) & {"i1", "i2", "i3"}
    assert found["score"].is_monotonic_decreasing
    done = here("recommend", "run", "--user", "u7", "--reasons", cwd=tuned)
    assert done.returncode == 0, done.stderr
    assert "because of" in done.stdout


def test_it_is_reported_shared_and_not_exported(
    tuned: Path, here: Cli, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (("report", "run"), ("table", "run"), ("push", "run", "shared"), ("pull", "shared", "pulled")):
        done = here(*command, cwd=tuned)
        assert done.returncode == 0, done.stderr
    done = here("recommend", "pulled", "--history", "i1,i2,i3", "--k", "5", cwd=tuned)
    assert done.returncode == 0, done.stderr
    done = here("export", "run", "--vectors", "file", cwd=tuned)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "ItemGraph scores items by ScoreMatrix, not by a vector an item" in done.stderr
    monkeypatch.setenv("RECSYS_LT_CACHE", environment["RECSYS_LT_CACHE"])
    with pytest.raises(UserError, match="ItemGraph has no padded form"):  # what --onnx says
        load(tuned / "run").model.model.padded_states(torch.zeros(1, 50, dtype=torch.int64), torch.ones(1, 50) > 0)


def test_texts_that_the_data_lack_are_refused_in_one_line(here: Cli, tmp_path: Path) -> None:
    done = here(*RUN, "model=itemgraph", "model.columns=[title,brand]", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "'brand'" in done.stderr
    assert "model.columns" in done.stderr


def test_it_is_the_retriever_of_a_language_model(tuned: Path, here: Cli) -> None:
    done = here(
        *RUN, "model=llamarec", "llm=tiny_random", f"model.retriever={tuned / 'run'}", "model.train=false",
        "model.title_tokens=4", "metrics.max_users=20", "hydra.run.dir=reranked", cwd=tuned,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tuned / "reranked" / "metrics.json").read_text())
    assert metrics["test"]["retriever/hr@20"] > 0
