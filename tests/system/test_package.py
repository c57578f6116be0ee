"""The commit a run notes is of the code that made it, or nothing."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys_lt.system import package as module


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package in a repository, not yet part of it."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "somebody's work")
    monkeypatch.setattr("recsys_lt.system.package.PACKAGE", folder)
    module.commit.cache_clear()
    yield folder
    module.commit.cache_clear()


def test_it_is_that_of_the_code_and_says_where_files_differ(package: Path) -> None:
    git(package, "add", ".")
    git(package, "commit", "-m", "x")
    git(package, "tag", "v1")  # a tag would be a name, and may be moved
    known = git(package, "rev-parse", "--short=12", "HEAD")
    assert module.commit() == known
    (package / "__init__.py").write_text("changed = True")
    assert module.commit() == known  # as it was when it was first asked
    module.commit.cache_clear()
    assert module.commit() == f"{known}-dirty"


def test_an_installed_package_has_no_commit_of_the_repository_it_lies_in(package: Path) -> None:
    assert module.commit() is None


def test_without_git_there_is_none(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(package, "add", ".")
    monkeypatch.setenv("PATH", "")
    assert module.commit() is None
