"""The compiled kernels: built with the system's C compiler on first use, kept, and done without where there is none."""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import warnings
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from recsys_lt.system.atomic import temporary_beside

_SOURCES = Path(__file__).parent
# Sums are reordered only where the source says so (``omp simd``): to the width of the processor's vectors.
_FLAGS = ("-O3", "-march=native", "-std=gnu11", "-fopenmp", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math")

_SECONDS = 120  # for the compiler


@lru_cache(maxsize=1)
def kernels() -> ctypes.CDLL | None:
    """The library of kernels, or None where it is turned off (``RECSYS_LT_NATIVE=0``) or cannot be built.

    Built once a machine and kept in ``native/`` of the cache folder (``RECSYS_LT_CACHE``, else
    ``~/.cache/recsys_lt``), under a name that depends on sources, compiler flags, processor and its own content. A
    folder or file that another user owns or may write to is not used, nor is a file that is not what was built.
    """
    if os.environ.get("RECSYS_LT_NATIVE", "1") == "0":
        return None
    try:
        library = _built()
        # torch has loaded its OpenMP runtime for everybody: the kernels use that one, and so its threads.
        return ctypes.CDLL(str(library))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            warnings.warn(
                f"no compiled kernels ({_reason(error)}): plain PyTorch is used, with the same results, more slowly."
                " A C compiler with OpenMP makes them; RECSYS_LT_NATIVE=0 silences this",
                stacklevel=2,
            )
        return None


def _reason(error: Exception) -> str:
    """One line of what the compiler or the system said."""
    said = getattr(error, "stderr", None) or b""
    text = said if isinstance(said, str) else said.decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if "error" in line.lower()]
    if lines:
        return lines[0]
    if isinstance(error, subprocess.CalledProcessError):
        return f"{error.cmd[0]} failed with exit code {error.returncode}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"{error.cmd[0]} took more than {error.timeout:.0f} s"
    return (str(error) or type(error).__name__).splitlines()[0]


def usable(*tensors: Tensor, dtype: torch.dtype = torch.float32) -> ctypes.CDLL | None:
    """The kernels if they can work on these tensors, all on the CPU and of the type that the kernel takes."""
    if all(t.device.type == "cpu" and t.dtype == dtype for t in tensors):
        return kernels()
    return None


def address(tensor: Tensor) -> ctypes.c_void_p:
    """Where a contiguous tensor's numbers are."""
    if not tensor.is_contiguous():
        raise ValueError("a kernel was given a tensor that is not contiguous")
    return ctypes.c_void_p(tensor.data_ptr())


def _compiler() -> list[str]:
    named = os.environ.get("CC")
    if named:
        try:
            command = shlex.split(named)
        except ValueError as error:
            raise OSError(f"CC is no command: {error}") from error
        if not command:
            raise OSError("CC is no command: it is blank")
        return command
    found = next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)
    if found is None:
        raise OSError("no C compiler is on the PATH")
    return [found]


def _built() -> Path:
    command = [*_compiler(), *_FLAGS]
    sources = sorted(_SOURCES.glob("*.[ch]"))
    key = hashlib.sha256("\0".join([*command, *platform.libc_ver(), _processor()]).encode())
    for source in sources:
        key.update(source.read_bytes())
    folder = Path(os.environ.get("RECSYS_LT_CACHE") or "~/.cache/recsys_lt").expanduser() / "native"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _only_mine(folder):
        raise OSError(f"{folder} belongs to somebody else, or others may write to it: chmod go-w")
    name = f"kernels-{key.hexdigest()[:16]}"
    for kept in folder.glob(f"{name}-*.so"):
        if kept.is_file() and _only_mine(kept) and kept.name == f"{name}-{_content(kept)}.so":
            return kept
    # Two processes may build at once: each writes a file of its own, and either may be the one kept.
    unfinished = temporary_beside(folder / "kernels.so")
    try:
        files = [str(source) for source in sources if source.suffix == ".c"]
        subprocess.run(
            [*command, *files, "-lm", "-o", str(unfinished)], check=True, capture_output=True, timeout=_SECONDS
        )
        unfinished.chmod(0o700)
        return unfinished.replace(folder / f"{name}-{_content(unfinished)}.so")
    finally:
        unfinished.unlink(missing_ok=True)


def _only_mine(path: Path) -> bool:
    """Whether nobody else could have put there what lies there; links are followed."""
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def _content(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()[:32]


def _processor() -> str:
    """What ``-march=native`` stands for here: a home folder may be shared by machines that differ."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return line
    except OSError:
        pass
    return platform.machine() + platform.processor()
