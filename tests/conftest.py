"""One thread a process: the tests' tensors are small, and threads that wait for each other are not."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "offline"
os.environ.pop("RECSYS_LT_RAW", None)
if os.environ.get("RECSYS_LT_TEST_GPU") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the same tests, with the same numbers, on a machine with a GPU
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported: kernels for a GPU run without one


#: The files that take longest, in the order in which they begin; two processes then end at about the same time.
_FIRST = ("/test_gpu_day.py", "/end_to_end/", "/llm/", "/test_docs.py", "/training/")


def pytest_collection_modifyitems(items: list) -> None:
    items.sort(key=lambda item: next((n for n, part in enumerate(_FIRST) if part in item.nodeid), len(_FIRST)))
