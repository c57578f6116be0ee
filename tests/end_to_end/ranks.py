"""What the processes of a launch are given to do; it imports little, as each of them imports it anew."""

import os
import signal
import time
from pathlib import Path

from recsys_lt.system.stopping import Stop


def waits(folder: Path, stop: Stop) -> int:
    """Wait for a signal; its number."""
    (folder / f"{os.environ['RANK']}.pid").write_text(str(os.getpid()))
    while not stop.number:
        time.sleep(0.01)
    return stop.number


def dies(_stop: Stop) -> None:
    """Be killed, in the second process."""
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)
