"""What a sweep ends with: its table, its failed cells, its exit code."""

import os
from collections.abc import Callable

from recsys_lt.cli.sweep_start import Launch
from recsys_lt.errors import UserError


def end_of_sweep(launch: Launch, complain: Callable[[str], None]) -> int:
    """Print the table of a sweep and name its failed cells; the exit code, to which this start alone counts.

    Parameters
    ----------
    launch
        The start of the sweep.
    complain
        Prints a line on standard error.
    """
    from recsys_lt.runs.sweep import failures

    noted = failures(launch.folder)
    failed = [failure for failure in noted if failure.launch == launch.name]
    code = max((failure.code for failure in failed), key=lambda code: (code == 1, code), default=0)
    if any(launch.folder.glob("*/metrics.json")):
        from recsys_lt.cli.table import print_table

        try:
            print_table(launch.folder)
        except UserError as error:
            complain(str(error))
            code = code or 2
    for failure in failed:
        if failure.process != os.getpid():  # its own line went to its own terminal, if any
            complain(failure.line)
    if len(failed) > 1:
        complain(f"{len(failed)} cells failed: {', '.join(failure.cell for failure in failed)}")
    for failure in noted:
        if not failure.launch:
            complain(failure.line)
    earlier = [failure.cell for failure in noted if failure.launch not in ("", launch.name)]
    if earlier:
        complain(
            f"failed in an earlier start and not rerun now: {', '.join(earlier)}. "
            f"Delete their folders in {os.path.relpath(launch.folder)} to drop them"
        )
    return code
