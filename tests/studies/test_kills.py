import random
from pathlib import Path

import pytest

from studies.kills import kills
from tests.end_to_end.conftest import dots_for_pictures


def test_a_run_that_is_killed_twice_ends_as_one_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path / "cache"))
    with dots_for_pictures():
        alone, seconds = kills.left_alone("adam", tmp_path)
        run = kills.killed("adam", tmp_path / "run", alone, seconds / 2, random.Random(2))  # twice at most
    assert run.kills
    assert run.identical
    assert kills.result(tmp_path / "run") == alone
    assert kills.result(tmp_path / "run") | {"best_epoch": -1} != alone
