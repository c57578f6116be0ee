import os
import socket
from pathlib import Path

import pytest

from recsys_lt.errors import UserError
from recsys_lt.system.atomic import remove_unfinished, replacing, temporary_beside


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = [temporary_beside(tmp_path / name) for name in ("last.ckpt", "metrics.json", "plain")]
    kept = [tmp_path / name for name in ("last.ckpt", ".hidden", ".config.yaml", "a.1.deadbeef.ckpt")]
    for path in left + kept:
        path.write_text("x")
    remove_unfinished(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_after_an_error_the_file_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError), replacing(path) as partial:
        partial.write_text("half, and then this: \ud800", encoding="utf-8")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["a link", "a link to nothing", "a device", "a pipe", "a socket"])
def test_nothing_but_a_file_is_replaced(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    path, target = Path("out.csv"), Path("target.csv")
    if kind == "a link":
        target.write_text("before")
    if kind.startswith("a link"):
        path.symlink_to(target)
    elif kind == "a device":
        path = Path("/dev/null")
    elif kind == "a pipe":
        os.mkfifo(path)
    else:
        socket.socket(socket.AF_UNIX).bind(str(path))
    before, mode = sorted(tmp_path.iterdir()), path.lstat().st_mode
    with pytest.raises(UserError, match=kind.split(" to ")[0]), replacing(path) as partial:
        partial.write_text("after")
    assert (sorted(tmp_path.iterdir()), path.lstat().st_mode) == (before, mode)
    assert not target.exists() or target.read_text() == "before"
