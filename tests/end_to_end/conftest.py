"""The command line, as a person has it: another process, another folder."""

import base64
import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hydra.core.global_hydra import GlobalHydra
from matplotlib.figure import Figure

from recsys_lt import __main__ as command_line
from recsys_lt.native.library import kernels

ROOT = Path(__file__).resolve().parents[2]

# Seconds, not minutes; real sequences to learn from.
TINY = (
    "dataset=synthetic",
    "dataset.source.n_users=400",
    "dataset.source.n_items=120",
    "trainer.batch_rows=64",
)

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

_DOT = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")


_draw = Figure.savefig


def draw_dot(figure: Figure, path: Any, **how: Any) -> None:
    """Draw a dot in the place of a PNG or PDF, which takes half of the time of a small run; a report's SVG is drawn."""
    if how["format"] in ("png", "pdf"):
        Path(path).write_bytes(_DOT)
    else:
        _draw(figure, path, **how)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = tmp_path_factory.mktemp("cache")
    # Whoever has no C compiler is told so once a command; here that is known.
    native = {"RECSYS_LT_NATIVE": "0"} if kernels() is None else {}
    return dict(os.environ) | {"PYTHONPATH": str(ROOT), "RECSYS_LT_CACHE": str(cache), "COLUMNS": "120"} | native


@pytest.fixture(scope="session")
def cli(environment: dict[str, str]) -> Cli:
    """Run ``python -m recsys_lt <arguments>`` in a folder; output and errors apart, exit code not checked."""

    def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "recsys_lt", *arguments]
        try:
            return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
        except subprocess.TimeoutExpired as stuck:
            pytest.fail(f"{stuck}, having said\n{stuck.stdout!r}\n{stuck.stderr!r}")

    return run


@pytest.fixture(scope="session")
def here(environment: dict[str, str]) -> Cli:
    """What ``cli`` does, in this process: a new one takes seconds to import everything, and most tests need none.

    Warnings are pytest's here, and pictures are of one pixel: a test that nothing at all is said takes ``cli``.
    """

    def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
        output, errors = io.StringIO(), io.StringIO()
        GlobalHydra.instance().clear()
        with (
            contextlib.chdir(cwd),
            mock.patch.dict(os.environ, environment),
            mock.patch.object(sys, "argv", ["recsys_lt", *arguments]),
            mock.patch.object(Figure, "savefig", draw_dot),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            code = command_line.main()
        return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())

    return run


@pytest.fixture(scope="session")
def start(environment: dict[str, str]) -> Callable[..., "subprocess.Popen[str]"]:
    """Start ``python -m recsys_lt <arguments>`` and return at once."""

    def run(*arguments: str, cwd: Path) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "recsys_lt", *arguments],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run
