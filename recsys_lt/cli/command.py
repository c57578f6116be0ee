"""What all commands beside the main one end with."""

import contextlib
import os
import sys
from collections.abc import Callable

from recsys_lt.errors import UserError
from recsys_lt.system import stopping
from recsys_lt.system.machine import refusals
from recsys_lt.system.stopping import Stop


def exit_code(work: Callable[[], None]) -> int:
    """Do the work and say in one line on standard error what ended it, if something did; the exit code.

    It is 0; 2 for what the user can mend; 128 and the number of a signal. Whatever else the work raises is a fault of
    ours and keeps its traceback.
    """
    line = None
    with Stop().listening() as heard:
        try:
            with refusals():
                _print_all(work)
            heard.patient = True
        except BaseException as error:
            heard.patient = True
            if isinstance(error, UserError):
                line = f"error: {error}"
            elif not heard.number:
                raise
    if heard.number:
        line = f"interrupted ({stopping.name(heard.number)})"
    if line is None:
        return 0
    with contextlib.suppress(BrokenPipeError):
        print(line, file=sys.stderr)
    return 128 + heard.number if heard.number else 2


def _print_all(work: Callable[[], None]) -> None:
    """Do the work and flush what it prints; a closed pipe is a ``BrokenPipeError`` here, not at Python's own end."""
    try:
        work()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes again as it ends
        raise
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # rich ends the program so
            raise end.__context__ from None
        raise
