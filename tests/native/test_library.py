import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recsys_lt.native import library

ASK = """
import warnings, torch
from recsys_lt.native.library import kernels
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    print(kernels() is not None, len(said), said[0].message if said else "")
"""


def ask(tmp_path: Path, **environment: str) -> str:
    root = Path(__file__).resolve().parents[2]
    settings = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root), "RECSYS_LT_CACHE": str(tmp_path)} | environment
    return subprocess.run([sys.executable, "-c", ASK], env=settings, capture_output=True, text=True, check=True).stdout


def test_they_can_be_turned_off(tmp_path: Path) -> None:
    assert ask(tmp_path, RECSYS_LT_NATIVE="0").split() == ["False", "0"]
    assert not (tmp_path / "native").exists()


def test_without_a_compiler_one_line_says_so(tmp_path: Path) -> None:
    said = ask(tmp_path, CC=str(tmp_path / "no-such-compiler"))
    assert said.startswith("False 1 no compiled kernels (")
    assert "plain PyTorch is used" in said
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'kernels.c:1: error: this compiler is broken' >&2\nexit 1\n")
    broken.chmod(0o755)
    assert "error: this compiler is broken" in ask(tmp_path, CC=str(broken))


def test_a_compiler_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path))
    monkeypatch.setattr(library, "_SECONDS", 0.1)
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 5\n")
    slow.chmod(0o755)
    monkeypatch.setenv("CC", str(slow))
    monkeypatch.delenv("RECSYS_LT_NATIVE", raising=False)
    with pytest.warns(UserWarning, match=r"slow took more than 0 s\): plain PyTorch is used"):
        assert library.kernels.__wrapped__() is None
    assert list((tmp_path / "native").iterdir()) == []


def test_without_a_home_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("RECSYS_LT_CACHE", raising=False)
    monkeypatch.delenv("RECSYS_LT_NATIVE", raising=False)
    monkeypatch.setattr(Path, "expanduser", lost)
    with pytest.warns(UserWarning, match="home directory"):
        assert library.kernels.__wrapped__() is None


def test_the_compiler_may_come_with_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "ccache 'my gcc' -m64")
    assert library._compiler() == ["ccache", "my gcc", "-m64"]


def test_they_are_built_once(compiled: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path))
    first = library._built()
    written = first.stat().st_mtime_ns
    assert library._built() == first
    assert first.stat().st_mtime_ns == written
    assert [path.name for path in (tmp_path / "native").iterdir()] == [first.name]  # nothing unfinished is left


PLANTED = """
#include <stdio.h>
__attribute__((constructor)) static void run(void) { FILE *mark = fopen(MARK, "w"); if (mark) fclose(mark); }
"""


@pytest.fixture
def planted(compiled: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A cache whose library was exchanged for one that leaves a mark when it is loaded, and the mark."""
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path))
    monkeypatch.delenv("RECSYS_LT_NATIVE", raising=False)
    shutil.copytree(Path(compiled._name).parent, tmp_path / "native")
    mark, source, kept = tmp_path / "mark", tmp_path / "planted.c", library._built()
    source.write_text(PLANTED.replace("MARK", f'"{mark}"'))
    subprocess.run([*library._compiler(), "-shared", "-fPIC", str(source), "-o", str(kept)], check=True)
    return kept, mark


def test_a_library_that_is_not_what_was_built_is_made_anew(planted: tuple[Path, Path]) -> None:
    kept, mark = planted
    assert library.kernels.__wrapped__() is not None
    assert not mark.exists()
    begun = kept.read_bytes()[:1000]  # loading it would end the process
    kept.unlink()  # it is loaded by now, and must not be cut short under the process
    kept.write_bytes(begun)
    assert library.kernels.__wrapped__() is not None
    ctypes.CDLL(str(kept.rename(kept.with_name("whole.so"))))


def test_a_planted_library_leaves_its_mark_where_it_is_loaded(planted: tuple[Path, Path]) -> None:
    kept, mark = planted
    ctypes.CDLL(str(kept))
    assert mark.exists()


@pytest.mark.parametrize("others", ["a folder they may write to", "a file they may write to", "their folder"])
def test_what_others_could_have_put_there_is_not_loaded(
    planted: tuple[Path, Path], others: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, mark = planted
    planted_name = kept.with_name(f"{kept.name[:24]}-{library._content(kept)}.so")  # as if it had been built
    kept.rename(planted_name)
    if others == "a file they may write to":
        planted_name.chmod(0o777)
        assert library.kernels.__wrapped__() is not None
    else:
        if others == "their folder":
            monkeypatch.setattr(library.os, "getuid", lambda: 12_345)
        else:
            planted_name.parent.chmod(0o777)
        with pytest.warns(UserWarning, match="others may write to it: chmod go-w\\): plain PyTorch is used"):
            assert library.kernels.__wrapped__() is None
    assert not mark.exists()


@pytest.mark.parametrize("command", ["'unbalanced", "  "])
def test_a_compiler_that_is_no_command_is_said(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", command)
    monkeypatch.delenv("RECSYS_LT_NATIVE", raising=False)
    with pytest.warns(UserWarning, match=r"CC is no command: .*plain PyTorch is used"):
        assert library.kernels.__wrapped__() is None
