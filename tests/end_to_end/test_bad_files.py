"""Whatever is wrong with a file of data: one line that names it and, where there is one, the line in it."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from recsys_lt import CONF
from recsys_lt.errors import UserError
from tests.end_to_end.bad_files import FILES, PUBLISHED, write
from tests.end_to_end.test_bad_commands import SMALL, Refused, refused

__all__ = ["refused"]  # a fixture

#: These also through the command; the others through what it calls on its composed configuration.
_WHOLE = [name for number, name in enumerate(FILES) if number % 20 == 0]


@cache
def dataset_of(choice: str) -> Any:
    """The configuration of a dataset, composed once."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("config", [choice]).dataset)


def refusal_of(choice: str, **keys: object) -> str:
    """What loading the dataset of this choice, with these keys, is refused with."""
    config = OmegaConf.create({"dataset": dataset_of(choice) | keys, "seed": 0})
    with pytest.raises(UserError) as refusal:
        instantiate(config.dataset).load(lambda _line: None)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_ones_own(tmp_path: Path, name: str) -> None:
    files, words = FILES[name]
    path = write(files, tmp_path)
    line = refusal_of("dataset=file", path=str(path))
    assert [word for word in words if word not in line] == [], line


@pytest.mark.parametrize("name", _WHOLE)
def test_a_file_of_ones_own_through_the_command(refused: Refused, tmp_path: Path, name: str) -> None:
    files, words = FILES[name]
    path = write(files, tmp_path)
    line = refused("dataset=file", *SMALL[1:5], f"dataset.path={path}")
    assert [word for word in words if word not in line] == [], line


@pytest.mark.parametrize("name", PUBLISHED)
def test_files_of_a_published_dataset(tmp_path: Path, name: str) -> None:
    files, words = PUBLISHED[name]
    write(files, tmp_path)
    line = refusal_of(f"dataset={name.split()[0]}", raw_dir=str(tmp_path))
    assert [word for word in words if word not in line] == [], line


def test_a_split_that_leaves_no_targets_says_what_to_do(tmp_path: Path) -> None:
    rows = "".join(f"u{u},i{(u + j) % 12},{7}\n" for u in range(30) for j in range(8))
    path = write({"mine.csv": f"user,item,timestamp\n{rows}".encode()}, tmp_path)
    line = refusal_of("dataset=file", path=str(path), split="temporal")
    assert [word for word in ("dataset.temporal_cuts", "leave_one_out") if word not in line] == [], line
    assert "three events" not in line
