"""How the numbers of metrics.json are written for people."""

MISSING = "-"


def shown(metric: str, value: float | None) -> str:
    """A metric's value as printed: counts whole or to a tenth, everything else to four digits."""
    if value is None or value != value:
        return MISSING
    name = metric.rsplit("/", 1)[-1].split("@")[0]
    if name == "users":
        return f"{value:,.0f}"
    return f"{value:,.1f}" if name == "arp" else f"{value:.4f}"
