"""The compiled kernels: built with the system's C compiler on first use, kept, and done without where there is none."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import warnings
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from recsys_lt.atomic import replacing

_SOURCES = Path(__file__).parent
# Sums may not be reordered except where the source says so: results are the same whatever the compiler makes of it.
_FLAGS = ("-O3", "-march=native", "-std=gnu11", "-fopenmp", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math")


@lru_cache(maxsize=1)
def kernels() -> ctypes.CDLL | None:
    """The library of kernels, or None where it is turned off (``RECSYS_LT_NATIVE=0``) or cannot be built.

    Built once a machine and kept in ``native/`` of the cache folder (``RECSYS_LT_CACHE``, else
    ``~/.cache/recsys_lt``), under a name that depends on sources, compiler flags and processor.
    """
    if os.environ.get("RECSYS_LT_NATIVE", "1") == "0":
        return None
    try:
        # torch has loaded its OpenMP runtime for everybody: the kernels use that one, and so its threads.
        return ctypes.CDLL(str(_built()))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        line = next((line for line in detail.splitlines() if "error" in line.lower()), detail.strip().split("\n")[0])
        warnings.warn(
            f"no compiled kernels ({line.strip()}): plain PyTorch is used, which gives the same results more slowly."
            " A C compiler with OpenMP (Debian: gcc and libc6-dev) makes them; RECSYS_LT_NATIVE=0 silences this",
            stacklevel=2,
        )
        return None


def usable(*tensors: Tensor) -> ctypes.CDLL | None:
    """The kernels if they can work on these tensors, all float32 on the CPU."""
    if all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors):
        return kernels()
    return None


def address(tensor: Tensor) -> ctypes.c_void_p:
    """Where a contiguous tensor's numbers are."""
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())


def _built() -> Path:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise OSError("no C compiler is on the PATH")
    sources = sorted(_SOURCES.glob("*.[ch]"))
    key = hashlib.sha256("\0".join([compiler, *_FLAGS, _processor()]).encode())
    for source in sources:
        key.update(source.read_bytes())
    cache = Path(os.environ.get("RECSYS_LT_CACHE", "~/.cache/recsys_lt")).expanduser()
    library = cache / "native" / f"kernels-{key.hexdigest()[:16]}.so"
    if not library.is_file():
        # Two processes may build at once: each writes a file of its own, and either may be the one kept.
        with replacing(library) as unfinished:
            files = [str(source) for source in sources if source.suffix == ".c"]
            subprocess.run(
                [compiler, *_FLAGS, *files, "-lm", "-o", str(unfinished)],
                check=True,
                capture_output=True,
                text=True,
                timeout=120,
            )
    return library


def _processor() -> str:
    """What ``-march=native`` stands for here: a home folder may be shared by machines that differ."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return line
    except OSError:
        pass
    return platform.machine() + platform.processor()
