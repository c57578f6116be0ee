"""Training from another run's weights."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from recsys_lt.errors import UserError
from tests.end_to_end.conftest import Cli, environment, forked_ranks, here

__all__ = ["environment", "forked_ranks", "here"]

RUN = ("dataset=file", "dataset.path=events.csv", "dataset.k_core=1", "logger=none", "strategy=cpu",
       "trainer.batch_rows=16", "model.width=8")  # fmt: skip
USERS, ITEMS = 40, 30


def events(path: Path, users: int = USERS, items: int = ITEMS, length: int = 8) -> None:
    """Every item is there whatever the users, in the same order of first appearance."""
    rows = [
        f"u{user},i{(user * 7 + place * (1 + user % 3)) % items}" for user in range(users) for place in range(length)
    ]
    path.write_text("\n".join(["user,item", *rows]) + "\n")


@pytest.fixture(scope="module")
def source(here: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run, ``first``."""
    place = tmp_path_factory.mktemp("start")
    events(place / "events.csv")
    ended = here(*RUN, "trainer.max_epochs=2", "hydra.run.dir=first", cwd=place)
    assert ended.returncode == 0, ended.stderr
    return place


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def refusal(here: Cli, place: Path, *arguments: str) -> str:
    ended = here(*RUN, *arguments, cwd=place)
    assert (ended.returncode, len(ended.stderr.strip().splitlines())) == (2, 1), ended.stderr
    return ended.stderr


def test_without_training_it_ranks_as_the_source_does(here: Cli, source: Path) -> None:
    ended = here(*RUN, "model.start_from=first", "trainer.max_epochs=0", "hydra.run.dir=same", cwd=source)
    assert ended.returncode == 0, ended.stderr
    first, same = metrics(source / "first"), metrics(source / "same")
    assert first["test"] == same["test"]
    assert pd.read_parquet(source / "first/ranks.parquet").equals(pd.read_parquet(source / "same/ranks.parquet"))
    assert (first["protocol"]["start_from"], same["protocol"]["start_from"]) == (None, str(source / "first"))


def test_it_goes_on_in_a_sweep_and_after_a_stop(here: Cli, source: Path) -> None:
    two = ("model.start_from=first", "trainer.max_epochs=2", "loss=ce,bce")
    ended = here("-m", *RUN, *two, "hydra.sweep.dir=sweep", cwd=source)
    assert ended.returncode == 0, ended.stderr
    ended = here(*RUN, "model.start_from=first", "trainer.max_epochs=1", "hydra.run.dir=one", cwd=source)
    assert ended.returncode == 0, ended.stderr
    ended = here("resume", "one", "trainer.max_epochs=2", cwd=source)
    assert ended.returncode == 0, ended.stderr
    (cell,) = (source / "sweep").glob("*_ce_*")
    assert metrics(cell)["test"] == metrics(source / "one")["test"]
    assert metrics(cell)["test"] != metrics(source / "first")["test"]


@pytest.mark.usefixtures("forked_ranks")
def test_two_processes_start_from_the_same_weights(here: Cli, source: Path) -> None:
    ended = here(*RUN[:4], *RUN[5:], "strategy=ddp", "strategy.accelerator=cpu", "trainer.devices=2",
                "model.start_from=first", "trainer.max_epochs=0", "hydra.run.dir=both", cwd=source)  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert metrics(source / "both")["test"] == metrics(source / "first")["test"]


def test_other_events_of_the_same_items(here: Cli, source: Path, tmp_path: Path) -> None:
    events(tmp_path / "events.csv", users=USERS + 5)
    given = f"model.start_from={source / 'first'}"
    ended = here(*RUN, given, "trainer.max_epochs=0", "hydra.run.dir=more", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    one, other = metrics(source / "first")["protocol"], metrics(tmp_path / "more")["protocol"]
    assert one["item_fingerprint"] == other["item_fingerprint"]
    assert one["fingerprint"] != other["fingerprint"]


def test_what_does_not_fit_is_one_line(here: Cli, source: Path, tmp_path: Path) -> None:
    events(tmp_path / "events.csv", items=ITEMS - 1)
    assert "other items" in refusal(here, tmp_path, f"model.start_from={source / 'first'}")
    assert "model.start_from" in refusal(here, source, "model.start_from=first", "model.width=16")
    assert "model.start_from" in refusal(here, source, "model.start_from=first", "model=gru4rec")
    itself = refusal(here, source, "model.start_from=first", "hydra.run.dir=first")  # it would be its own reference
    assert "another run is in this folder" in itself
    assert "no such checkpoint" in refusal(here, source, "model.start_from=nowhere")
    assert "model.start_from" in refusal(here, source, "model.start_from=5")


def test_a_model_that_keeps_users_is_of_the_same_events(here: Cli, source: Path, tmp_path: Path) -> None:
    caser = ("model=caser", "trainer.max_epochs=1")
    ended = here(*RUN, *caser, "hydra.run.dir=users", cwd=source)
    assert ended.returncode == 0, ended.stderr
    events(tmp_path / "events.csv", users=USERS + 5)
    assert "only for the users it was trained on" in refusal(
        here, tmp_path, *caser, f"model.start_from={source / 'users'}"
    )


def test_a_run_recommends_to_a_user_who_came_later(
    here: Cli, source: Path, tmp_path: Path, monkeypatch, environment
) -> None:
    from recsys_lt.training.trained import Run

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    place = shutil.copytree(source, tmp_path / "place")
    text = (place / "first/config.yaml").read_text().replace(str(source), str(place))
    (place / "first/config.yaml").write_text(text)
    (known,) = Run(place / "first").lists(["u3"], k=5)
    with (place / "events.csv").open("a") as file:
        file.write("new,i3\nnew,i4\nnew,i5\n")
    later, new = Run(place / "first").lists(["u3", "new"], k=5)
    assert [item.item for item in later.items] == [item.item for item in known.items]
    assert len(new.items) == 5
    assert not {item.item for item in new.items} & {"i3", "i4", "i5"}
    with pytest.raises(UserError, match="other events"):
        Run(place / "first").check_events()
    with (place / "events.csv").open("a") as file:
        file.write("new,brand-new\n")
    with pytest.raises(UserError, match="other items"):
        Run(place / "first").lists(["u3"], k=5)
