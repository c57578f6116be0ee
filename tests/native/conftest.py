import ctypes

import pytest

from recsys_lt.native.library import kernels


@pytest.fixture(scope="session")
def compiled() -> ctypes.CDLL:
    library = kernels()
    if library is None:
        pytest.skip("no C compiler with OpenMP here, or RECSYS_LT_NATIVE=0")
    return library
