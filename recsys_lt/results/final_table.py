"""The table of test metrics that a run ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recsys_lt.metrics.groups import GROUPS
from recsys_lt.results.numbers import in_words, shown

if TYPE_CHECKING:
    from rich.console import Console

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


def print_final_table(
    metrics: Mapping[str, Any], ks: Sequence[int] = (1, 5, 10, 20), console: Console | None = None
) -> None:
    """Print test metrics overall and by popularity of the target, exposure metrics, and the protocol.

    ``metrics`` is the content of metrics.json. Of the list lengths ``ks`` those at 10 come first and bold; lengths
    without a metric are left out. The table takes no more than 80 columns.
    """
    from rich import box
    from rich.console import Console
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
    protocol = "; ".join(
        f"{key.replace('_', ' ')} {in_words(value, '/')}"
        for key, value in metrics.get("protocol", {}).items()
        if value is not None
    )
    console = console or Console()
    console.print(Text(title, style="bold"))
    console.print(table)
    for line in (*_candidates(test, k), _recommended(test, k), f"protocol: {protocol}"):
        console.print(Text(line))
