"""Arguments as Hydra takes them, and how commands end: errors of the machine, faults of ours, signals."""

import errno
import os
import signal
import socket
import urllib.error
from pathlib import Path

import pytest
import requests

from recsys_lt.cli.arguments import as_meant, in_order
from recsys_lt.cli.command import Command, exit_code
from recsys_lt.errors import UserError
from recsys_lt.system.machine import MachineError, refusals


@pytest.mark.parametrize(
    ("typed", "ordered"),
    [
        ("loss=ce --config-dir x seed=1", "--config-dir x loss=ce seed=1"),
        ("seed=1 -m optimizer.lr=-1", "--multirun seed=1 optimizer.lr=-1"),
        ("~seed --cfg=job -cd x", "--cfg job --config-dir x ~seed"),
        ("a=1 --hydra-help", "--hydra-help"),
    ],
)
def test_flags_come_first_with_their_values(typed: str, ordered: str) -> None:
    assert in_order(typed.split()) == ordered.split()


@pytest.mark.parametrize("typed", ["--nothing", "--config-dir", "seed=1 --cfg x"])
def test_a_flag_that_is_unknown_or_incomplete(typed: str) -> None:
    with pytest.raises(UserError, match=r"command line: .*--help says"):
        in_order(typed.split())


@pytest.mark.parametrize("adding", ["", "+", "++"])
def test_a_path_gets_quotes_however_its_key_is_given(adding: str, tmp_path: Path) -> None:
    (tmp_path / "a,b.csv").touch()
    typed = f"{adding}dataset.path={tmp_path}/a,b.csv"
    assert as_meant([typed]) == [f"{adding}dataset.path='{tmp_path}/a,b.csv'"]


@pytest.mark.parametrize("kind", [errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST])
def test_a_path_error_without_a_path_is_a_fault_of_ours(kind: int) -> None:
    def work() -> None:
        raise OSError(kind, os.strerror(kind))

    with pytest.raises(OSError, match=os.strerror(kind)):
        exit_code(work)
    with pytest.raises(MachineError, match=r"^here: "), refusals("here"):
        work()


def test_a_path_error_with_a_path_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda: (tmp_path / "none").unlink()) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'none'}: there is no such file or folder. Check the path.\n"
    )


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(errno.ECONNRESET, "reset"),
        TimeoutError("timed out"),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        OSError(errno.ENETUNREACH, "Network is unreachable"),
        requests.ConnectionError("HTTPSConnectionPool: no route"),
        urllib.error.URLError("no host"),
    ],
)
def test_the_network_is_named_with_a_remedy(error: OSError, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise error

    assert exit_code(work) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: the network failed ({error}")
    assert said.endswith(". Check the network.\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("swallowed", [False, True])
def test_a_signal_ends_a_command_with_one_line(
    number: signal.Signals, code: int, swallowed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(_arguments: object) -> None:
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt as stop:
            if swallowed:
                raise ImportError("half imported") from stop
            raise

    before = signal.getsignal(number)
    assert Command(lambda _parser: None, slow)([]) == code
    assert capsys.readouterr().err == f"interrupted ({number.name})\n"
    assert signal.getsignal(number) is before
