"""Base of all commands except training: arguments, exit code, one-line errors."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recsys_lt.errors import UserError
from recsys_lt.system import stopping
from recsys_lt.system.machine import refusals
from recsys_lt.system.stopping import Stop

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: Every command but training, and what it does; each is a module of ``recsys_lt.cli``.
COMMANDS = {
    "resume": "continue a run that was stopped",
    "table": "one table of a sweep, with spread over seeds and significance",
    "report": "one HTML page about a run or a sweep",
    "dataset": "a dataset's size, popularity and repeats, and how much counting reaches on it",
    "prior": "what a language model knows about the items, and the accuracy of runs by it",
    "protocols": "one run ranked under every protocol, to find why a number differs from a paper's",
    "candidates": "each target ranked among 19 unseen items, the same for every run",
    "recommend": "top-k lists for users, from a finished run",
    "export": "a trained model as ONNX, its item vectors as Parquet",
    "serve": "answer HTTP requests with recommendations",
    "push": "share a run: safetensors, config, items and card, to a folder or Hugging Face",
    "pull": "fetch a run that was pushed",
    "sharpness": "how much a trained model's loss rises under perturbation, by item group",
    "dashboard": "create a W&B workspace for a project",
}


@dataclass(frozen=True)
class Command:
    """A command that calls ``work``, whose docstring is its help and whose module gives its name.

    ``options`` adds its arguments. A call returns the exit code: 0, or 2 after one line on standard error for an error
    that the user can mend.
    """

    options: Callable[[argparse.ArgumentParser], None]
    work: Callable[[argparse.Namespace], None]

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        return exit_code(lambda: self.do(argv))

    def do(self, argv: Sequence[str] | None) -> None:
        """Do the work; what ends it is raised."""
        name = self.work.__module__.rpartition(".")[2]
        parser = argparse.ArgumentParser(prog=f"python -m recsys_lt {name}", description=self.work.__doc__)
        self.options(parser)
        given = parser.parse_args(argv)
        from recsys_lt.runs.trust import trusting  # --help answers without it

        with trusting(vars(given).get("trust", ())):
            self.work(given)


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


def check_least(least: int, **options: int | None) -> None:
    """Raise UserError for an option, with ``_`` for ``-`` in its name, whose number is below the least."""
    for name, value in options.items():
        if value is not None and value < least:
            remedy = f"Give a whole number of at least {least}"
            raise UserError(f"it is {value}", where=f"--{name.replace('_', '-')}", remedy=remedy)


def add_comparison(parser: argparse.ArgumentParser) -> None:
    """Add the options of the commands that compare cells."""
    parser.add_argument(
        "--metric",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="test metrics to show, by their names in metrics.json, such as ndcg@10 tail/hr@5 gini@10; the "
        "first decides which cell is best (default: NDCG@10 overall and by group, HR@10)",
    )
    parser.add_argument(
        "--against",
        metavar="CELL",
        help="test against this cell, not the one that is best on validation: names that single it out, as sasrec/ce",
    )


def wide_enough(console: "Console", table: "Table") -> "Console":
    """A console for a table: a file has no edge to fold at, and a narrow terminal wraps where rich drops columns."""
    from rich.console import Console
    from rich.measure import Measurement

    wanted = Measurement.get(console, console.options.update(max_width=10_000), table)
    width = wanted.minimum if console.is_terminal else wanted.maximum
    return Console(width=max(console.width, width), file=console.file)
