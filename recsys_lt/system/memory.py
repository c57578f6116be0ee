"""Peak memory of one run, also when several run in one process, as in a sweep."""

import resource
import sys
from contextlib import suppress
from pathlib import Path


def forget_peak_rss() -> None:
    """Start the peak anew (Linux; elsewhere it stays that of the whole process)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss_mb() -> float:
    """Largest resident memory since the last ``forget_peak_rss``, in MiB."""
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
