"""The command line, as a person has it: another process, another folder."""

import atexit
import base64
import contextlib
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from hydra.core.global_hydra import GlobalHydra
from matplotlib.figure import Figure

from recsys_lt import __main__ as command_line
from recsys_lt.native.library import kernels
from recsys_lt.training import launch
from recsys_lt.training.write_results import Results

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


def _draw_dots(_results: Results, pictures: Mapping[str, list[Path]], _metrics: Mapping[str, Any]) -> None:
    for path in chain.from_iterable(pictures.values()):
        path.write_bytes(_DOT)


@contextlib.contextmanager
def dots_for_pictures() -> Iterator[None]:
    """Runs whose pictures are dots; test_train, test_api and tests/results/plots have them drawn."""
    with mock.patch.object(Results, "_draw", _draw_dots), mock.patch.object(Figure, "savefig", draw_dot):
        yield


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
            dots_for_pictures(),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            code = command_line.main()
        return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())

    return run


class Started:
    """A command in a process that began as a copy of this one, with everything imported."""

    def __init__(self, process: BaseProcess, output: Path) -> None:
        self._process, self._output = process, output
        process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def runs(self) -> bool:
        return self._process.exitcode is None

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def said(self) -> str:
        """Output and errors so far."""
        return self._output.read_text()

    def ended(self) -> int:
        """The exit code, once the process has ended; minus the number of a signal that killed it."""
        self._process.join(120)
        assert self._process.exitcode is not None, self.said()
        return self._process.exitcode


def _command(arguments: tuple[str, ...], cwd: Path, environment: Mapping[str, str], output: Path, first: Any) -> None:
    atexit._clear()
    written = os.open(output, os.O_WRONLY | os.O_CREAT)
    for number in (1, 2):
        os.dup2(written, number)
    first()
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    os.chdir(cwd)
    os.environ |= environment
    sys.argv = ["recsys_lt", *arguments]
    GlobalHydra.instance().clear()
    try:
        with dots_for_pictures():
            command_line.script()
    finally:
        # As the interpreter ends; a copied process would wait for the workers of joblib.
        threading._shutdown()
        atexit._run_exitfuncs()


Start = Callable[..., Started]


@pytest.fixture
def start(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start a command and return at once; ``first`` is called in its process before anything else."""
    started = []

    def run(*arguments: str, cwd: Path, first: Callable[[], object] = lambda: None) -> Started:
        output = tmp_path_factory.mktemp("started") / "output.txt"
        given = (arguments, cwd, environment, output, first)
        started.append(Started(multiprocessing.get_context("fork").Process(target=_command, args=given), output))
        return started[-1]

    yield run
    for process in started:
        if process.runs():
            process.signal(signal.SIGKILL)


@pytest.fixture
def forked_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of a run that begin with everything imported; test_processes and test_launchers have real ones."""
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(launch, "multiprocessing", SimpleNamespace(get_context=lambda _name: fork))
