"""The machine a benchmark runs on: its name, its clock, a process to itself, and where results go."""

import json
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Imported where it is used: a process's memory is its own.
if TYPE_CHECKING:
    import torch

RESULTS = Path(__file__).resolve().parents[1] / "speed" / "results"
#: A load above this before the first measurement means that somebody else is at work.
QUIET = 0.5


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call in a fresh process: what one leaves in memory must not count for the next."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def here(load: float, device: str = "cpu") -> dict[str, Any]:
    """What every result file says of where and when it was measured; ``load`` is that before the first measurement."""
    import torch

    return {
        "machine": {
            "processor": processor(),
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load_before": load,
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def save(file: Path, name: str, result: dict[str, Any]) -> None:
    """Put a result in a JSON file of results by their names, in the place of an earlier one."""
    from recsys_lt.system.atomic import write_json

    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    write_json(file, dict(sorted((known | {name: result}).items())))


def now(device: str) -> float:
    """The clock, once all that was asked of the device is done."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def matrix_rate(dtype: "torch.dtype", device: str) -> float:
    """Operations a second of one large product, the best of three.

    A processor without instructions for bfloat16 has no such rate: its products in bfloat16 are many times slower
    than in float32, and by how much depends on their shape. The rate in float32 is its limit.
    """
    import torch

    from recsys_lt.system.machine import slow_bfloat16

    if device == "cpu" and dtype == torch.bfloat16 and slow_bfloat16():
        dtype = torch.float32
    n = 2048 if device == "cpu" else 8192
    x, out = torch.ones(n, n, dtype=dtype, device=device), torch.empty(n, n, dtype=dtype, device=device)
    seconds = []
    for _ in range(4):  # the first chooses a kernel
        start = now(device)
        torch.matmul(x, x, out=out)
        seconds.append(now(device) - start)
    return 2 * n**3 / min(seconds[1:])


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
