"""Wheels of the packages a machine without a network may lack."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from recsys_lt.errors import UserError

#: What a machine with a GPU has, or what is too large to carry: these, and what only they need, do not travel.
THERE = frozenset(["torch", "numpy", "scipy", "pandas", "pyarrow", "matplotlib", "transformers", "wandb"])
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def wanted(project: Path) -> dict[str, str]:
    """The project's dependencies and pytest, with all they need: names and the versions installed here.

    Parameters
    ----------
    project
        The folder of ``pyproject.toml``.
    """
    from packaging.requirements import Requirement

    roots = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    waiting = [*roots, "pytest"]
    found: dict[str, str] = {}
    while waiting:
        requirement = Requirement(waiting.pop())
        name = plain(requirement.name)
        if name in THERE or name in found:
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        distribution = importlib.metadata.distribution(requirement.name)
        found[name] = distribution.version
        waiting += distribution.requires or []
    return found


def plain(name: str) -> str:
    """A package's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def fetch(folder: Path, project: Path, python: str) -> None:
    """Fetch the wheels from the package index for Linux on x86-64.

    Parameters
    ----------
    folder
        Where they are put; wheels of the right version that lie there are not fetched again.
    project
        The folder of ``pyproject.toml``.
    python
        Version of the other machine's Python, such as 3.12.

    Raises
    ------
    UserError
        Where pip cannot have them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    versions = wanted(project)
    for path in folder.iterdir():
        name, version = path.name.split("-")[:2]
        if versions.get(plain(name)) == version:
            versions.pop(plain(name))
        else:
            path.unlink()
    if not versions:
        return
    platforms = [word for platform in _PLATFORMS for word in ("--platform", platform)]
    target = ["--no-deps", "--python-version", python, "--implementation", "cp", *platforms]
    _pip("download", "--dest", str(folder), *target, *(f"{name}=={version}" for name, version in versions.items()))
    for source in [path for path in folder.iterdir() if path.suffix != ".whl"]:
        # A package without wheels: what pip builds of it here must run on any machine.
        _pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(source))
        source.unlink()


def _pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError(
            f"pip could not do it ({' '.join(done.stderr.split())[-300:]})",
            where=f"pip {arguments[0]}",
            remedy="Give a folder of wheels with --wheels",
        )


def install(wheels: Iterable[Path], site: Path) -> list[str]:
    """Install, from files alone, the wheels of packages that this machine lacks; their names.

    Parameters
    ----------
    wheels
        The files.
    site
        Where they are installed, to be put on PYTHONPATH.
    """
    path = [str(site), *sys.path]
    there = {plain(each.metadata["Name"]) for each in importlib.metadata.distributions(path=path)}
    missing = [wheel for wheel in wheels if plain(wheel.name.split("-")[0]) not in there]
    if missing:
        draft = site.with_name(f"{site.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        if site.exists():
            shutil.copytree(site, draft)
        where = ["--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check", "--target", str(draft)]
        _pip("install", *where, *map(str, missing))
        shutil.rmtree(site, ignore_errors=True)
        draft.rename(site)
    return [plain(wheel.name.split("-")[0]) for wheel in missing]
