"""Signals that end the program, all alike: SIGINT (Ctrl-C), SIGTERM and SIGHUP.

While a run trains, the first one asks for a clean stop and the second stops at once; elsewhere the first stops at once.
The exit code is 128 and the signal's number. It imports little, so that its handlers are set before the slow imports.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

#: On Windows there is no SIGHUP.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

_PR_SET_PDEATHSIG = 1  # of Linux's prctl

Handler = Callable[[int, FrameType | None], None]


class Stopped(KeyboardInterrupt):
    """The work was ended by a signal of this number; ``advice`` is how to go on, if that is known."""

    def __init__(self, number: int, advice: str | None = None) -> None:
        super().__init__(number, advice)
        self.number, self.advice = number, advice


class Stop:
    """A handler of signals that notes the first one and acts on it.

    The first signal calls ``begin`` with its number, to stop cleanly, and the second raises ``Stopped``; without
    ``begin`` the first one raises. If ``patient``, none does. The number is kept because not every library lets such
    an exception pass.
    """

    def __init__(self, begin: Callable[[int], None] | None = None, patient: bool = False) -> None:
        self.begin, self.patient = begin, patient
        self.number = 0  # of the first signal; 0 before that

    def listen(self) -> None:
        """Take the signals over."""
        _take(self)

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        """Take the signals over while the block runs."""
        raise_lost()
        with _restored():
            self.listen()
            yield self

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        _leave_lost_terminal()
        first, self.number = not self.number, self.number or number
        if first and self.begin is not None:
            self.begin(number)
        elif not self.patient:
            raise Stopped(number)


def end_at_once() -> None:
    """Let a signal end the process without a word: what happens before ``main`` and after it loses nothing."""
    _take(lambda number, _frame: os._exit(128 + number))


@contextmanager
def held_back() -> Iterator[None]:
    """Have these signals wait while the block runs, and in the processes it starts until they call ``let_through``."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_through() -> None:
    """Have a process that was started under ``held_back`` receive its signals."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def end_with(parent: int) -> None:
    """Have the system kill this process when ``parent`` dies, however that dies; it may have died already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def leave_to_parent(parent: int, _worker: int) -> None:
    """Leave the signals that a terminal or a scheduler sends to all processes to the one that started this one.

    A second SIGTERM is from that one, and ends this process.
    """
    end_with(parent)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    let_through()


def raise_lost() -> None:
    """Raise ``Stopped`` for a signal that came before, if a library has made another error of it, or nothing."""
    heard = signal.getsignal(signal.SIGTERM)
    if isinstance(heard, Stop) and heard.number and not heard.patient:
        raise Stopped(heard.number)


def say(line: str) -> None:
    """Print a line on standard error from a signal's handler, which may have interrupted another print."""
    with suppress(OSError):
        os.write(2, f"{line}\n".encode())


def name(number: int) -> str:
    """What a signal is called."""
    return signal.Signals(number).name


@contextmanager
def _restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _take(heard: Handler) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # Python has signals in the main thread alone: whoever embeds us handles them
    for number in SIGNALS:
        # nohup has a process ignore SIGHUP, and so it stays.
        if number is signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, heard)


def _leave_lost_terminal() -> None:
    """Print nowhere from now on if the terminal is gone: a print would be an error, and end what is to end well."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
