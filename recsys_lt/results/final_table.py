"""The one table a run ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recsys_lt.metrics.groups import GROUPS
from recsys_lt.results.numbers import shown

if TYPE_CHECKING:
    from rich.console import Console, Group

FIRST_K = 10


def _rows(ks: Sequence[int]) -> list[list[str]]:
    """Metrics in sections: those at 10 first, then the other lengths."""
    first = FIRST_K if FIRST_K in ks else max(ks)
    sections = [[f"{metric}@{first}" for metric in ("ndcg", "hr", "mrr")]]
    for k in sorted(set(ks) - {first}):
        # At 1 the three are the same number.
        sections.append(["hr@1"] if k == 1 else [f"{metric}@{k}" for metric in ("ndcg", "hr", "mrr")])
    return sections


def _recommended(test: Mapping[str, float | None], k: int) -> str:
    named = {"ARP": "arp", "APLT": "aplt", "coverage": "coverage", "Gini": "gini"}
    parts = [f"{label} {shown(key, test.get(f'{key}@{k}'))}" for label, key in named.items()]
    shares = " / ".join(shown("exposure", test.get(f"{group}/exposure@{k}")) for group in GROUPS)
    return f"recommended@{k}: {', '.join(parts)}; exposure of {' / '.join(GROUPS)} {shares}"


def _candidates(test: Mapping[str, float | None], k: int) -> list[str]:
    """The line that an order of a first stage's candidates is compared with; none where there is no first stage."""
    names = (f"retriever/ndcg@{k}", f"random_order/ndcg@{k}", f"random_order/ndcg_std@{k}")
    alone, chance, std = (shown("ndcg", test.get(name)) for name in names)
    if names[1] not in test:
        return []
    return [f"NDCG@{k} of the retriever alone: {alone}; of its candidates in random order: {chance} ± {std}"]


def _protocol(protocol: Mapping[str, Any]) -> str:
    def said(value: Any) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, list | tuple):
            return "/".join(said(part) for part in value)
        if isinstance(value, Mapping):
            return "/".join(f"{name} {said(part)}" for name, part in value.items())
        return f"{value:,}" if isinstance(value, int) and value > 9999 else str(value)

    return "protocol: " + "; ".join(
        f"{key.replace('_', ' ')} {said(value)}" for key, value in protocol.items() if value is not None
    )


def final_table(metrics: Mapping[str, Any], ks: Sequence[int] = (1, 5, 10, 20)) -> Group:
    """Test metrics overall and by popularity of the target, what is recommended, and the protocol.

    Parameters
    ----------
    metrics
        The content of metrics.json.
    ks
        List lengths to show; those at 10 come first and bold. Lengths the run has no metric for are
        left out.

    Returns
    -------
    A rich renderable of no more than 80 columns; ``print_final_table`` prints it.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    test = metrics["test"]
    known = [k for k in ks if f"ndcg@{k}" in test] or [FIRST_K]
    title = ", ".join(str(metrics[key]) for key in ("dataset", "model", "loss", "optimizer"))
    title += f", seed {metrics['seed']}: test at epoch {metrics['best_epoch']} of {metrics['epochs']}"
    table = Table(box=box.SIMPLE, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    columns = ["", *(f"{group}/" for group in GROUPS)]
    for name in ("overall", *GROUPS):
        table.add_column(name, justify="right", no_wrap=True)
    sections = _rows(known)
    for number, section in enumerate(sections):
        for metric in section:
            label = metric if metric != "hr@1" or known == [1] else "hr = ndcg = mrr@1"
            cells = [shown(metric, test.get(prefix + metric)) for prefix in columns]
            table.add_row(label.upper(), *cells, style="bold" if number == 0 else "")
        table.add_section()
    table.add_row("users", *(shown("users", test.get(f"{prefix}users")) for prefix in columns), style="dim")
    k = int(sections[0][0].split("@")[1])
    return Group(
        Text(title, style="bold"),
        table,
        *(Text(line) for line in _candidates(test, k)),
        Text(_recommended(test, k)),
        Text(_protocol(metrics.get("protocol", {}))),
    )


def print_final_table(
    metrics: Mapping[str, Any], ks: Sequence[int] = (1, 5, 10, 20), console: Console | None = None
) -> None:
    """Print ``final_table`` to ``console``, by default standard output."""
    from rich.console import Console

    (console or Console()).print(final_table(metrics, ks))
