from pathlib import Path

import pytest

from recsys_lt.atomic import remove_unfinished, replacing, temporary_beside


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
