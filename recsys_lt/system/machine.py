"""The machine: what it refuses (files, disk space, memory) as one line with a remedy, and the peak memory of a run."""

import errno
import re
import resource
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from recsys_lt.errors import UserError

_SPACE = ("no space is left on the disk", "Free some space")
_CUT = ("the file was only partly written", "Free some space, or raise the limit with ulimit -f unlimited")
_RIGHTS = ("permission is denied", "Get the right to use it, or name another place")
_SAID: Mapping[int, tuple[str, str]] = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: ("the disk quota is used up", "Free some space"),
    errno.EFBIG: ("the file is larger than a process may write here", "Raise the limit with ulimit -f unlimited"),
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: ("the file system is read-only", "Name a place that can be written"),
    errno.ENOENT: ("there is no such file or folder", "Check the path"),
    errno.ENOTDIR: ("a part of this path is a file, not a folder", "Name a path through folders"),
    errno.EISDIR: ("it is a folder, not a file", "Name a file"),
    errno.EEXIST: ("a file of this name is in the way", "Remove it, or name another place"),
    errno.ENAMETOOLONG: ("the name is too long for the file system", "Name a shorter one"),
    errno.EMFILE: ("too many files are open", "Raise the limit with ulimit -n 4096"),
    errno.EPIPE: ("the output pipe was closed", "Write it to a file instead"),
    errno.EIO: ("the disk reports an error", "Check the disk, or name another place"),
}
#: Where such an error names no path, a user cannot mend it.
_OF_A_PATH = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG})
_NETWORK = frozenset({errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ETIMEDOUT})
#: Their errors are OSErrors. Known by name: importing them takes time.
_CLIENTS = frozenset({"requests", "urllib"})
#: numpy and torch notice that a disk takes no more without saying why.
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written|PytorchStreamWriter failed|inline_container\.cc|iostream error")
_NO_MEMORY = re.compile(
    r"can't allocate memory|out of memory|Unable to allocate|Storage size calculation overflowed", re.I
)
_BYTES = re.compile(r"tried to allocate (\d+) bytes|Tried to allocate ([\d.]+ \w+)|Unable to allocate ([\d.]+ \w+)")
_LONGEST = 150  # bytes of a name: a file system takes 255, and endings and numbers are added


class MachineError(UserError):
    """Something that could be done on a machine with more rights, space or memory."""


def refusal(error: BaseException, where: object = None) -> MachineError | None:
    """What the machine refused; None for an error of another kind, which is then a fault of ours.

    ``where`` is the path or setting it concerns, where the exception does not name one. None also for a missing file
    that neither names.
    """
    if isinstance(error, MachineError):
        return error
    if isinstance(error, RuntimeError) and "determine home directory" in str(error):  # of pathlib
        return MachineError("a path begins with ~ and the name of no user", where=where, remedy="Write the path out")
    text = " ".join(str(error).split())
    if _of_the_network(error):
        return MachineError(f"the network failed ({text})", where=where, remedy="Check the network")
    if isinstance(error, OSError) and error.errno is not None:
        if error.errno in _OF_A_PATH and error.filename is None and where is None:
            return None
        what, remedy = _SAID.get(error.errno, (error.strerror or text, "Check the path and the disk"))
        return MachineError(what, where=error.filename or where, remedy=remedy)
    if isinstance(error, OSError | RuntimeError) and _CUT_SHORT.search(text):
        return MachineError(_CUT[0], where=where, remedy=_CUT[1])
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(text)):
        return MachineError(_too_large(text), where=where, remedy="Use smaller settings, or a machine with more")
    if isinstance(error, OSError):
        return MachineError(text or type(error).__name__, where=error.filename or where)
    return None


def _of_the_network(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        return not isinstance(error, BrokenPipeError)
    return isinstance(error, OSError) and (
        error.errno in _NETWORK or any(kind.__module__.partition(".")[0] in _CLIENTS for kind in type(error).__mro__)
    )


def _too_large(text: str) -> str:
    found = _BYTES.search(text)
    if found is None:
        return "there is not enough memory"
    size = f"{int(found[1]) / 1e9:,.1f} GB" if found[1] else found[2] or found[3]
    return f"there is not enough memory ({size} at once)"


@contextmanager
def refusals(where: object = None) -> Iterator[None]:
    """Turn what the machine refuses inside the block into ``MachineError``; other errors pass.

    ``where`` is the path or setting the block is about; None for the path that the error names.
    """
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        refused = refusal(error, where)
        if refused is None:
            raise
        raise refused from error


def check_name(name: object, where: str) -> None:
    """Raise UserError for a name that would lead out of the folder it is to lie in, or that no file can have."""
    plain = isinstance(name, str) and name.isprintable() and not set(name) & set("/\\") and name not in ("", ".", "..")
    if not plain or len(str(name).encode(errors="replace")) > _LONGEST:
        raise UserError(
            f"{str(name)[:80]!r} is no plain name",
            where=where,
            remedy=f"Use printable characters but / and \\, at most {_LONGEST} bytes, and not .. alone",
        )


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


def slow_bfloat16() -> str | None:
    """What to say of products in bfloat16 on this processor, if torch has no fast ones for it; else None.

    Without them, a product of 1,024 rows took 60 times as long as in float32 (one core of an AMD EPYC with AVX2).
    """
    import torch

    if not torch.backends.mkldnn.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    return (
        "this processor has no fast products in bfloat16; precision=float32 and llm.dtype=float32 are much faster here"
    )
