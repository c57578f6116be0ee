"""Cross-entropy over a catalogue, forward and backward, in the forms there are.

``python studies/speed/ce_forms.py``. The forms take turns: ours (blocks whose gradients are formed on the way),
PyTorch's textbook form (all logits at once), and ``F.linear_cross_entropy`` in pieces where torch has it (2.13 and
later). The floor is the three products and the exponentials alone.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from recsys_lt.errors import UserError
from studies.shared.machine import QUIET, now, processor

OURS, TEXTBOOK, PIECES = "ours, in blocks", "all logits at once", "F.linear_cross_entropy"


def forms() -> dict[str, Callable[..., Any]]:
    """Each form: states [N, d], table [I, d], targets [N] -> the mean loss."""
    import torch
    import torch.nn.functional as F

    from recsys_lt.losses.ce import CE
    from recsys_lt.losses.output_table import OutputTable

    found: dict[str, Callable[..., Any]] = {
        OURS: lambda states, table, targets: CE()(states, targets, OutputTable(table))[0],
        TEXTBOOK: lambda states, table, targets: F.cross_entropy(F.linear(states, table), targets),
    }
    if hasattr(F, "linear_cross_entropy"):
        pieces = partial(F.linear_cross_entropy, options=torch.nn.LinearCrossEntropyOptions())
        found[PIECES] = lambda states, table, targets: pieces(states, table, targets)
    return found


def measure(rows: int, items: int, width: int, device: str, bf16: bool, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of each form and of the floor, and (on a GPU) the memory each adds in MiB."""
    import torch

    from studies.speed.floors import loss

    generator = torch.Generator().manual_seed(0)
    states, table = (torch.randn(n, width, generator=generator).mul_(0.1).to(device) for n in (rows, items))
    targets = torch.randint(items, (rows,), generator=generator).to(device)
    dtype = torch.bfloat16 if bf16 else torch.float32
    with torch.device(device):
        floor = loss(rows, width, items, items, dtype)

    def step(form: Callable[..., Any]) -> None:
        inputs = [x.detach().requires_grad_() for x in (states, table)]
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            value = form(*inputs, targets)
        value.sum().backward()

    parts: dict[str, Callable[[], Any]] = {name: partial(step, form) for name, form in forms().items()}
    seconds: dict[str, list[float]] = {name: [] for name in (*parts, "floor")}
    added: dict[str, float] = {}
    for _ in range(repeats + 1):  # the first allocates and chooses kernels
        for name, part in (*parts.items(), ("floor", floor)):
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            start = now(device)
            part()
            seconds[name].append(now(device) - start)
            if device == "cuda":
                added[name] = (torch.cuda.max_memory_allocated() - before) / 2**20
    return {
        name: {"seconds": statistics.median(times[1:])} | ({"added_mb": added[name]} if added else {})
        for name, times in seconds.items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0, or 2 with one line on standard error for what the user can mend."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3000, help="targets (default: 3,000, a step on Amazon Beauty)")
    parser.add_argument("--items", type=int, nargs="+", default=[12_101, 100_000], help="sizes of the catalogue")
    parser.add_argument("--width", type=int, default=64, help="width of the states (default: 64)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what computes")
    parser.add_argument("--bf16", action="store_true", help="logits in bfloat16")
    parser.add_argument("--repeats", type=int, default=5, help="turns of every form (default: 5); medians are said")
    asked = parser.parse_args(argv)
    try:
        for key in ("rows", "width", "repeats"):
            if getattr(asked, key) < 1:
                raise UserError(f"it is {getattr(asked, key)}", where=f"--{key}", remedy="Give 1 or more")
        if min(asked.items) < 2:
            raise UserError(f"it is {min(asked.items)}", where="--items", remedy="Give 2 or more")
        import torch

        if asked.device == "cuda" and not torch.cuda.is_available():
            raise UserError("torch sees no GPU here", where="--device cuda", remedy="Leave it out")
        name = torch.cuda.get_device_name() if asked.device == "cuda" else processor()
        print(f"{name}, torch {torch.__version__}, {'bf16 logits' if asked.bf16 else 'float32'}")
        if os.getloadavg()[0] > QUIET:
            print(f"the machine was not quiet (load {os.getloadavg()[0]:.1f}): do not keep these results")
        for items in asked.items:
            found = measure(asked.rows, items, asked.width, asked.device, asked.bf16, asked.repeats)
            floor = found["floor"]["seconds"]
            print(f"{asked.rows:,} targets, {items:,} items, width {asked.width}")
            for form, of in found.items():
                memory = f"  adds {of['added_mb']:,.0f} MB" if "added_mb" in of else ""
                print(
                    f"  {form:<22} {of['seconds'] * 1e3:>9.1f} ms  {of['seconds'] / floor:>6.2f}x{memory}", flush=True
                )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
