"""Lock files, and what may lie in their place."""

import os
from pathlib import Path

import pytest

from recsys_lt.errors import UserError
from recsys_lt.system.atomic import locked


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with locked(path, lambda: None), locked(path) as mine:
        assert not mine
    with locked(path) as mine:
        assert mine


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_is_no_file_is_not_locked(tmp_path: Path, kind: str) -> None:
    path, victim = tmp_path / "a.lock", tmp_path / "victim"
    {"pipe": os.mkfifo, "folder": os.mkdir, "link": lambda at: at.symlink_to(victim)}[kind](path)
    with pytest.raises(UserError, match="it is not a file"), locked(path):
        pass
    with pytest.raises(UserError, match="it is not a file"), locked(path, lambda: None):
        pass
    assert not victim.exists()
