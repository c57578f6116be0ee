"""What all commands beside the main one end with."""

import sys
from collections.abc import Callable

from recsys_lt.errors import UserError
from recsys_lt.machine import refusals


def exit_code(work: Callable[[], None]) -> int:
    """Do the work; 0, or 2 with one line on standard error for what the user can mend."""
    try:
        with refusals():
            work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
