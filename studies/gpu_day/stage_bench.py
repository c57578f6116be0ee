"""What the card does of what it can: operations and bytes a second against its own rates."""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from studies.gpu_day.stage import Stage, stage
from studies.gpu_day.work import read_json

STEPS, REPEATS = 20, 3
MEASURED = ("ce-float32", "ce-bf16", "sce-500-batch", "sce-500-position", "adamw", "eisam", "evaluate")
BACKBONES = ("gru4rec-ce", "caser-ce", "fmlp_rec-ce")
#: A processor only rehearses.
SMALL = ("dataset=synthetic", "dataset.source.n_users=60", "dataset.source.n_items=600", "trainer.batch_rows=16")


def rates(device: str) -> dict[str, Any]:
    """Operations a second of one large product, and bytes a second (read and written) of a large copy."""
    import torch

    from studies.shared.machine import matrix_rate, now

    found: dict[str, Any] = {}
    for dtype in (torch.float32, torch.bfloat16):
        found[f"{str(dtype).removeprefix('torch.')}_flops"] = matrix_rate(dtype, device)
    source = torch.ones(2**22 if device == "cpu" else 2**29, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(4):  # the first maps the memory
        start = now(device)
        target.copy_(source)
        seconds.append(now(device) - start)
    return found | {"copy_bytes": 2.0 * source.nbytes / min(seconds[1:])}


def measured(this: Stage, name: str, compiled: bool = False) -> dict[str, Any]:
    """Seconds an epoch of one of bench.py's measurements, and what it attains of the card's rates.

    The bytes are those it cannot do without: of a training step, what Adam reads and writes of dense parameters
    (gradient, weight and two moments read, all but the gradient written, and the gradient written before); of a
    ranking, the table once a batch.
    """
    import torch

    from studies.shared.measurements import MEASUREMENTS
    from studies.shared.timed import Asked, loaded, set_up

    measurement = MEASUREMENTS[name]
    steps = 1 if this.device == "cpu" else STEPS
    asked = Asked(REPEATS, steps, None, SMALL if this.device == "cpu" else (), this.device)
    config, data, note = loaded(measurement.choices, asked)
    module, work, floor = set_up(config, data, measurement, this.device)
    if compiled:
        backbone: Any = module.backbone
        backbone.states = torch.compile(backbone.states, dynamic=True)
    if this.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for timed in (work, floor):
        timed(2)
    seconds, least = [], []
    for _ in range(REPEATS):
        seconds.append(work(steps))
        least.append(floor(steps))
    middle = statistics.median(seconds)
    parameters = sum(p.numel() for p in module.parameters())
    if measurement.products == "ranking":
        batches, moved = -(-floor.targets // config.trainer.rank_rows), 4 * parameters
    else:
        batches, moved = -(-module.task.n_examples(data) // config.trainer.batch_rows), 32 * parameters
    card = this.parts["rates"]
    flops, bytes_a_second = floor.flops / middle, batches * moved / middle
    dtype = str(floor.dtype).removeprefix("torch.")
    return {
        "seconds_per_epoch": middle,
        "floor_seconds": statistics.median(least),
        "ratio": middle / statistics.median(least),
        "milliseconds_per_step": 1e3 * middle / batches,
        "targets_per_second": floor.targets / middle,
        "flops": flops,
        "of_matrix_rate": flops / card[f"{dtype}_flops"],
        "bytes": bytes_a_second,
        "of_copy_rate": bytes_a_second / card["copy_bytes"],
        "peak_mb": torch.cuda.max_memory_allocated() / 2**20 if this.device == "cuda" else None,
        "data": note,
        "repeats": seconds,
    }


def forms(this: Stage, items: int, bf16: bool, compiled: bool = False) -> dict[str, Any]:
    """Milliseconds of CE's forms, forward and backward, and how far values and gradients are from the textbook's."""
    import torch

    from studies.shared.machine import now
    from studies.speed import ce_forms

    device = this.device
    rows, width = (3000, 64) if device == "cuda" else (50, 16)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(n, width, generator=generator).mul_(0.1).to(device) for n in (rows, items)]
    targets = torch.randint(items, (rows,), generator=generator).to(device)

    def once(form: Callable[..., Any]) -> list[torch.Tensor]:
        leaves = [x.detach().requires_grad_() for x in inputs]
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            value = form(*leaves, targets)
        value.sum().backward()
        return [value.detach().sum().float(), *(x.grad for x in leaves if x.grad is not None)]

    found: dict[str, Any] = {}
    expected = once(ce_forms.forms()[ce_forms.TEXTBOOK])
    for name, eager in ce_forms.forms().items():
        form = torch.compile(eager) if compiled else eager
        try:
            answer = once(form)
            once(form)
        except Exception as error:  # what a compiler does not take ends in dozens of kinds; the other forms go on
            found[name] = {"reason": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
            continue
        seconds = []
        for _ in range(5):
            start = now(device)
            once(form)
            seconds.append(now(device) - start)
        apart = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(answer, expected, strict=True)]
        found[name] = {"milliseconds": 1e3 * statistics.median(seconds), "apart": max(apart)}
    return found


def measure_forms(this: Stage, compiled: bool = False) -> None:
    """Measure CE's forms for the catalogues of Beauty and of something larger, in both precisions."""
    for items in (12_101, 100_000) if this.device == "cuda" else (600,):
        for bf16 in (False, True):
            name = f"forms of CE, {items} items, {'bf16' if bf16 else 'float32'}"
            this.each([name], lambda _name, i=items, b=bf16: forms(this, i, b, compiled))  # type: ignore[misc]


def measure_rates(this: Stage) -> bool:
    """Measure the device's own rates; whether that went well."""
    this.each(["rates"], lambda _name: rates(this.device))
    return "copy_bytes" in this.parts["rates"]


def main() -> None:
    """Measure part after part, for the stage ``bench`` or ``compiled``."""
    this = stage()
    if this.result.stem == "compiled":
        _compiled(this)
    elif measure_rates(this):
        this.each(MEASURED + BACKBONES if this.device == "cuda" else ("eisam", "evaluate"), partial(measured, this))
        measure_forms(this)
        print(table(this.parts))


def _compiled(this: Stage) -> None:
    """Measure what torch.compile makes of it. On a processor that takes minutes, and says nothing of a GPU."""
    if this.device == "cpu":
        this.save("all", {"reason": "a processor only rehearses"})
    elif measure_rates(this):
        measure_forms(this, compiled=True)
        this.each(("ce-float32", *BACKBONES), partial(measured, this, compiled=True))
        print(beside(this.parts, read_json(this.result.with_name("bench.json")).get("parts", {})))


def table(parts: dict[str, dict[str, Any]]) -> str:
    """The measurements as lines of text."""
    lines = []
    for name, part in parts.items():
        if "seconds_per_epoch" in part:
            lines.append(
                f"{name:<28} {part['milliseconds_per_step']:>9.2f} ms a step  {part['ratio']:>7.2f}x of the floor"
                f"  {part['flops'] / 1e12:>8.2f} TF/s ({part['of_matrix_rate']:.1%})"
                f"  {part['bytes'] / 1e9:>8.1f} GB/s ({part['of_copy_rate']:.1%})"
            )
        for form, of in part.items():
            if isinstance(of, dict) and "milliseconds" in of:
                lines.append(f"{name}: {form:<40} {of['milliseconds']:>9.2f} ms  apart {of['apart']:.1e}")
    return "\n".join(lines)


def beside(compiled: dict[str, Any], as_it_is: dict[str, Any]) -> str:
    """A line for each thing that was measured both ways: milliseconds as it is, compiled, and their ratio."""
    lines = [f"{'':<60} {'as it is':>10} {'compiled':>10}"]
    for name, part in compiled.items():
        before = as_it_is.get(name, {})
        pairs = {name: (before, part)} | {f"{name}: {form}": (before.get(form), of) for form, of in part.items()}
        for words, (one, other) in pairs.items():
            if (was := _milliseconds(one)) is not None and (now := _milliseconds(other)) is not None:
                lines.append(f"{words:<60} {was:>7.2f} ms {now:>7.2f} ms  {now / was:.2f}x")
    return "\n".join(lines)


def _milliseconds(part: Any) -> float | None:
    if not isinstance(part, dict):
        return None
    found = part.get("milliseconds", part.get("milliseconds_per_step"))
    return None if found is None else float(found)


if __name__ == "__main__":
    main()
