"""The command line: ``recsys_lt <command> ...``; without a command, a training run or a sweep."""

import logging
import sys
from importlib import import_module

from recsys_lt.cli.command import COMMANDS
from recsys_lt.system import package, stopping

#: Commands that train nothing.
_RANKING = {"dataset", "prior", "protocols", "candidates", "recommend", "export", "serve", "push", "pull"}


def main() -> int:
    """Run the command line of this process.

    Returns
    -------
    int
        0; 1 after a fault of the program; 2 for what the user can mend; 128 and the number of a signal.
    """
    arguments = sys.argv[1:]
    command = arguments[0] if arguments else ""
    if command in COMMANDS and command != "resume":  # which is a training run that exists already
        code: int = import_module(f"recsys_lt.cli.{command}").main(arguments[1:])
        return code
    return import_module("recsys_lt.cli.train").main()


def script() -> None:
    """Entry point of the console script: ends the process with the exit code."""
    stopping.end_at_once()  # the imports of a command take seconds
    package.only_ranks = bool(_RANKING & set(sys.argv[1:2]))
    code = main()
    if code > 128:
        logging.disable()  # what a half-imported library logs at exit helps nobody
    sys.exit(code)


if __name__ == "__main__":
    script()
