"""What torch.compile makes of CE's forms and of four backbones, beside what the bench has measured of them."""

from functools import partial
from typing import Any

from studies.gpu_day.stage import stage
from studies.gpu_day.stage_bench import BACKBONES, measure_forms, measure_rates, measured
from studies.gpu_day.work import read_json


def main() -> None:
    """Measure part after part. On a processor nothing is compiled: that takes minutes, and says nothing of a GPU."""
    this = stage()
    if this.device == "cpu":
        this.save("all", {"reason": "a processor only rehearses"})
    elif measure_rates(this):
        measure_forms(this, compiled=True)
        this.each(("ce-float32", *BACKBONES), partial(measured, this, compiled=True))
        print(beside(this.parts, read_json(this.result.with_name("bench.json")).get("parts", {})))


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
