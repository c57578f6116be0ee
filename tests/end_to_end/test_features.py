"""Item features from the command line: what text is worth, runs that go on, sweeps, lists, refusals."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.end_to_end.conftest import Cli

TOPICS, EACH, LENGTH = 40, 10, 6
RUN = ("dataset=file", "dataset.path=events.csv", "dataset.k_core=1", "logger=none", "strategy=cpu",
       "trainer.batch_rows=64", "optimizer.lr=0.01", "features=tfidf")  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users stay within a topic of ten items; the title says the topic, or in ``shuffled.csv`` that of another item."""
    place = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{topic * EACH + item}")
        for user in range(240)
        for topic in [rng.integers(TOPICS)]
        for item in rng.permutation(EACH)[:LENGTH]
    ]
    pd.DataFrame(rows, columns=["user", "item"]).to_csv(place / "events.csv", index=False)
    items = [f"i{item}" for item in range(TOPICS * EACH)]
    titles = np.array([f"thing of topic{item // EACH}" for item in range(TOPICS * EACH)])
    pd.DataFrame({"item": items, "title": titles}).to_csv(place / "titles.csv", index=False)
    pd.DataFrame({"item": items, "title": rng.permutation(titles)}).to_csv(place / "shuffled.csv", index=False)
    np.save(place / "wide.npy", np.eye(3, dtype=np.float32))
    return place


def run(here: Cli, place: Path, *arguments: str) -> dict:
    folder = next(one.partition("=")[2] for one in arguments if one.startswith("hydra.run.dir="))
    ended = here(*RUN, "model.width=16", *arguments, cwd=place)
    assert ended.returncode == 0, ended.stderr
    return json.loads((place / folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def trained(here: Cli, place: Path) -> dict:
    return run(here, place, "dataset.items=titles.csv", "trainer.max_epochs=10", "hydra.run.dir=titles")


def test_text_helps_and_shuffled_text_does_not(here: Cli, place: Path, trained: dict) -> None:
    shuffled = run(here, place, "dataset.items=shuffled.csv", "trainer.max_epochs=10", "hydra.run.dir=shuffled")
    told, lost = trained["test"]["ndcg@10"], shuffled["test"]["ndcg@10"]
    assert told > 0.3
    assert lost < told / 2


def test_a_run_that_goes_on_is_the_run_that_was_not_stopped(here: Cli, place: Path, trained: dict) -> None:
    run(here, place, "dataset.items=titles.csv", "trainer.max_epochs=5", "hydra.run.dir=stopped")
    ended = here("resume", "stopped", "trainer.max_epochs=10", cwd=place)
    assert ended.returncode == 0, ended.stderr
    assert json.loads((place / "stopped/metrics.json").read_text())["test"] == trained["test"]


def test_items_without_a_training_event_are_ranked_by_content(here: Cli, place: Path) -> None:
    cold = ("dataset.items=titles.csv", "dataset.split=cold_items", "trainer.max_epochs=10")
    found = run(here, place, *cold, "features.mode=only", "hydra.run.dir=cold")
    by_id = run(here, place, *cold, "~features", "hydra.run.dir=by_id")
    assert found["test"]["users"] == found["test"]["tail/users"] > 40
    assert found["test"]["ndcg@10"] > 0.2
    assert by_id["test"]["ndcg@10"] < 0.05


def test_items_of_the_file_without_an_event_join_the_catalogue(here: Cli, place: Path) -> None:
    titles = pd.read_csv(place / "titles.csv")
    new = pd.DataFrame({"item": ["new"], "title": ["thing of topic3"]})
    pd.concat([titles, new]).to_csv(place / "more.csv", index=False)
    more = ("dataset.items=more.csv", "dataset.all_items=true", "features.mode=only", "trainer.max_epochs=10")
    found = run(here, place, *more, "hydra.run.dir=more")
    assert found["protocol"]["items"] == TOPICS * EACH + 1
    ended = here("recommend", "more", "--history", "i31,i32", "--k", "12", cwd=place)
    assert ended.returncode == 0, ended.stderr
    assert "new" in ended.stdout


def test_a_run_that_starts_from_another_keeps_its_own_vectors(here: Cli, place: Path, trained: dict) -> None:
    start = ("dataset.items=shuffled.csv", "model.start_from=titles", "trainer.max_epochs=0")
    found = run(here, place, *start, "hydra.run.dir=started")
    assert found["test"]["ndcg@10"] < trained["test"]["ndcg@10"] / 2  # the weights of one text on another


def test_texts_without_a_word_in_common_are_refused(here: Cli, place: Path, tmp_path: Path) -> None:
    titles = pd.read_csv(place / "titles.csv")
    titles.assign(title=[f"word{n}" for n in range(len(titles))]).to_csv(place / "apart.csv", index=False)
    ended = here(*RUN, "dataset.items=apart.csv", f"hydra.run.dir={tmp_path}", cwd=place)
    assert (ended.returncode, "share a word" in ended.stderr) == (2, True), ended.stderr


def test_lists_are_of_the_topic(here: Cli, place: Path, trained: dict) -> None:
    ended = here("recommend", "titles", "--history", "i31,i32", "--k", "5", cwd=place)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("thing of topic3") >= 3


def test_cells_of_a_sweep_share_the_vectors(here: Cli, place: Path) -> None:
    more = ("dataset.items=titles.csv", "features.mode=add,only,init", "trainer.max_epochs=1", "hydra.sweep.dir=sweep")
    ended = here("-m", *RUN, *more, cwd=place)
    assert ended.returncode == 0, ended.stderr
    assert len(list((place / "sweep/.needs").glob("TfIdf_*[0-9a-f]"))) == 1
    assert len(list((place / "sweep").glob("*/metrics.json"))) == 3


@pytest.mark.parametrize("optimizer", ["eisam optimizer.form=rowwise", "sam optimizer.perturb=table", "lazy_adam"])
def test_update_rules_find_the_id_table(here: Cli, place: Path, optimizer: str) -> None:
    choices = (f"optimizer={optimizer}".split(), "dataset.items=titles.csv", "trainer.max_epochs=1")
    ended = here(*RUN, *choices[0], *choices[1:], "hydra.run.dir=rule_" + optimizer.split()[0], cwd=place)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "features.encoder.columns: the items' column 'title' is read, which events lacks"),
        (("dataset.all_items=true",), "dataset.all_items: there is no file of items"),
        (
            ("dataset.items=titles.csv", "dataset.all_items=true", "dataset.k_core=5"),
            "dataset.all_items: an item without an event is in no 5-core",
        ),
        (("dataset.items=titles.csv", "model=pop"), "features: this model has no item table that is trained"),
        (("dataset.items=titles.csv", "features.encoder.columns=[brand]"), "'brand' is read, which events lacks"),
        (("dataset.items=titles.csv", "features.encoder.width=0"), "features.encoder.width: it is 0"),
        (("dataset.items=titles.csv", "features.mode=replace"), "features.mode: it is 'replace'"),
        (("dataset.items=titles.csv", "features=file"), "features.encoder.column"),
        (
            ("dataset.items=titles.csv", "features=file", "features.encoder.column=title"),
            "the column 'title' of events holds texts, not vectors",
        ),
        (("dataset.items=wide.npy", "features=file", "features.encoder.column=wide"), "wide"),
        (
            ("dataset.items=titles.csv", "optimizer=sam", "optimizer.perturb=table", "features.mode=only"),
            "optimizer.perturb: the model has no such parameter",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_line(here: Cli, place: Path, tmp_path: Path, arguments: tuple, line: str) -> None:
    ended = here(*RUN, *arguments, f"hydra.run.dir={tmp_path}", cwd=place)
    assert (ended.returncode, len(ended.stderr.strip().splitlines())) == (2, 1), ended.stderr
    assert line in ended.stderr
