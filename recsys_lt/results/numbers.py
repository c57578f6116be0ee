"""Values of metrics.json as text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

MISSING = "-"


def shown(metric: str, value: float | None) -> str:
    """A metric's value as printed: counts whole or to a tenth, everything else to four digits."""
    if value is None or value != value:
        return MISSING
    name = metric.rsplit("/", 1)[-1].split("@")[0]
    if name == "users":
        return f"{value:,.0f}"
    return f"{value:,.1f}" if name == "arp" else f"{value:.4f}"


def shown_p(p: float) -> str:
    """A p-value as printed, to four digits."""
    return "<.0001" if p < 1e-4 else f"{p:.4f}".removeprefix("0")


def in_words(value: Any, between: str) -> str:
    """A value of the protocol as printed; ``between`` separates the parts of a list or mapping."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return between.join(f"{key} {in_words(part, between)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return between.join(in_words(part, between) for part in value)
    return f"{value:,}" if isinstance(value, int) and value > 9999 else str(value)


def mean_of(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Mean of a key over the rows of several runs; None unless all of them measured it."""
    values = [float(row[key]) for row in rows if row.get(key) is not None]
    return math.fsum(values) / len(values) if len(values) == len(rows) else None
