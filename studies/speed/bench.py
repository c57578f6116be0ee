"""Seconds an epoch on data of Amazon Beauty's shape, against the floor of the machine, one line a measurement.

``python studies/speed/bench.py`` (or ``make bench``). The floor is the time of nothing but the matrix products (and
exponentials) that a measurement cannot do without, of the same shapes and in the same run, so that a ratio
says how much is lost to everything else, on any machine. Lightning's loop is not in it: batches are made, losses formed
and the optimizer stepped by the same objects as in a run, but in a plain loop.
"""

import argparse
import os
import resource
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recsys_lt.errors import UserError
from studies.shared.machine import QUIET, RESULTS, alone, here, matrix_rate, save
from studies.shared.measurements import MEASUREMENTS, SETTING
from studies.shared.timed import Asked, Timed, loaded, set_up


def measure(name: str, asked: Asked) -> dict[str, Any]:
    """Time one measurement and its floor in turn; what a result file holds."""
    import torch

    measurement = MEASUREMENTS[name]
    load = os.getloadavg()[0]
    config, data, note = loaded(measurement.choices, asked)
    module, work, floor = set_up(config, data, measurement, asked.device)
    warm_up = min(2, asked.steps or 2)  # first calls allocate and choose kernels
    work(warm_up)
    seconds = {"measured": [work(asked.steps)]}
    peak = _peak_mb()  # of this measurement alone: nothing else has run yet
    device_peak = torch.cuda.max_memory_allocated() / 2**20 if asked.device == "cuda" else None
    others: dict[str, Timed] = {"floor": floor}
    if measurement.against:
        other = MEASUREMENTS[measurement.against]
        others["against"] = set_up(loaded(other.choices, asked)[0], data, other, asked.device)[1]
    for part, timed in others.items():
        timed(warm_up)
        seconds[part] = [timed(asked.steps)]
    for _ in range(asked.repeats - 1):
        for part, timed in ({"measured": work} | others).items():
            seconds[part].append(timed(asked.steps))
    middle = {part: statistics.median(of) for part, of in seconds.items()}
    measured, least = middle["measured"], middle["floor"]
    return {
        "name": name,
        "precision": str(config.precision),
        "seconds": measured,
        "floor_seconds": least,
        "ratio": measured / least,
        "against": measurement.against or None,
        "against_ratio": measured / middle["against"] if measurement.against else None,
        "repeats": seconds,
        "peak_rss_mb": peak,
        "peak_device_mb": device_peak,
        # Of the products it cannot do without, against what the device does of one large product.
        "matrix_share": floor.flops / measured / matrix_rate(floor.dtype, asked.device),
        "targets_per_second": floor.targets / measured,
        "steps": asked.steps,
        "choices": [*SETTING, *measurement.choices, *asked.overrides],
        "data": {
            "source": note,
            "users": data.n_users,
            "items": data.n_items,
            "interactions": len(data.items),
        },
        "loop": "plain (Lightning's loop not included)",
        **here(load, asked.device),
        "parameters": sum(p.numel() for p in module.parameters()),
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def _line(result: dict[str, Any]) -> str:
    precision = "bf16 logits" if result["precision"] == "bf16" else result["precision"]
    return (
        f"{result['name']:<20} {precision:<11} {result['seconds']:>8.2f} s"
        f"  floor {result['floor_seconds']:>7.2f} s  {result['ratio']:>6.2f}x"
        f"  peak {result['peak_device_mb'] or result['peak_rss_mb']:>6.0f} MB"
        f"  {result['targets_per_second']:>9,.0f} targets/s  {result['matrix_share']:>4.0%} of the matrix rate"
        + (f"  {result['against_ratio']:.2f}x of {result['against']}" if result["against"] else "")
    )


def _heading(result: dict[str, Any]) -> str:
    data, machine = result["data"], result["machine"]
    lines = [
        f"data: {data['source']} ({data['users']:,} users, {data['items']:,} items,"
        f" {data['interactions']:,} interactions)",
        ("" if machine["device"] == "cpu" else f"device: {machine['device']}\n")
        + f"machine: {machine['processor']}, {machine['cores']} cores, {machine['threads']} threads,"
        f" torch {result['versions']['torch']}; Lightning's loop not included",
    ]
    if result["steps"]:
        lines.append(f"timed on {result['steps']} steps and scaled to an epoch")
    if machine["load_before"] > QUIET:
        lines.append(f"the machine was not quiet (load {machine['load_before']:.1f}): do not keep these results")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help=f"measurements to make; there are {', '.join(MEASUREMENTS)}"
    )
    parser.add_argument("--repeats", type=int, default=3, help="epochs of each (default: 3); medians are said")
    parser.add_argument("--steps", type=int, help="time so many steps and scale: quick, rough, not saved")
    parser.add_argument("--raw-dir", help="folder with Beauty's raw files (default: where a run looks for them)")
    parser.add_argument(
        "--results", type=Path, help="folder of the result files (default: studies/speed/results; with --steps, none)"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="what computes; memory is then the device's"
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the configuration, such as other data"
    )
    return parser


def _checked(arguments: argparse.Namespace) -> list[str]:
    for key in ("repeats", "steps"):
        value = getattr(arguments, key)
        if value is not None and value < 1:
            raise UserError(f"it is {value}", where=f"--{key}", remedy="Give a whole number of at least 1")
    if arguments.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError("torch sees no GPU here", where="--device cuda", remedy="Leave it out")
        if arguments.results is None and arguments.steps is None:
            raise UserError(
                "results of a processor stand in the default folder", where="--device cuda", remedy="Set --results"
            )
    names = arguments.only or list(MEASUREMENTS)
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        raise UserError(
            f"no measurement is named {unknown[0]!r}",
            where="--only",
            remedy=f"Choose from {', '.join(MEASUREMENTS)}",
        )
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0, or 2 with one line on standard error for what the user can mend."""
    arguments = _parser().parse_args(argv)
    folder = arguments.results or (None if arguments.steps else RESULTS)
    try:
        names = _checked(arguments)
        asked = Asked(arguments.repeats, arguments.steps, arguments.raw_dir, tuple(arguments.set), arguments.device)
        for name in names:
            result = alone(_measure, name, asked)
            if isinstance(result, str):
                raise UserError(result)
            if name == names[0]:
                print(_heading(result), flush=True)
            print(_line(result), flush=True)
            if folder is not None:
                _save(folder / "bench.json", name, result)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _measure(name: str, asked: Asked) -> dict[str, Any] | str:
    """``measure``; what the user can mend comes back as a line, as a ``UserError`` would not survive the way."""
    from hydra.errors import HydraException

    try:
        return measure(name, asked)
    except UserError as error:
        return str(error).rstrip(".")
    except HydraException as error:
        return f"--set: {' '.join(str(error).split())}"


def _save(path: Path, name: str, result: dict[str, Any]) -> None:
    try:
        save(path, name, result)
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror})", where=path, remedy="Set --results") from error


if __name__ == "__main__":
    sys.exit(main())
