import ctypes
import os
import subprocess

import pytest

from recsys_lt.native import library


@pytest.fixture(scope="session")
def compiled() -> ctypes.CDLL:
    """The kernels. Skips only where there can be none: what does not compile here fails."""
    if os.environ.get("RECSYS_LT_NATIVE", "1") == "0":
        pytest.skip("RECSYS_LT_NATIVE=0")
    try:
        trial = [*library._compiler(), "-fopenmp", "-x", "c", "-", "-o", os.devnull]
        subprocess.run(trial, input=b"int main(void) { return 0; }", check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no C compiler with OpenMP here")
    library._built()
    kernels = library.kernels()
    assert kernels is not None
    return kernels
