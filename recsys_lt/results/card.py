"""Model card of a run that is shared: what it is, how it was measured, how to use it."""

from collections.abc import Mapping
from typing import Any

import yaml

from recsys_lt.metrics.groups import GROUPS
from recsys_lt.runs.stored import Names
from recsys_lt.system.package import __version__

_METRICS = ("ndcg@10", "hr@10", "mrr@10")

_TEXT = """\
---
{front}---

# {model} on {dataset}

A sequential recommender, trained with recsys_lt {version}: model {model}, loss \
{loss}, optimizer {optimizer}. It reads the item ids of a user's events, oldest first, and ranks {items:,} items.

## Use

```
recsys_lt pull <where this is> outputs/{model}
recsys_lt recommend outputs/{model} --history ITEM,ITEM,...
```

The weights are safetensors, the items are in `items.parquet`, the configuration is `config.yaml`. Nothing in the \
folder is unpickled or run.

## Test results

| metric | overall | head | mid | tail |
| --- | --- | --- | --- | --- |
{rows}

One run with one seed: a difference from another model needs a test over users and over seeds. Compare only numbers \
with the same protocol.

## Protocol

{protocol}
"""


def card(names: Names, metrics: Mapping[str, Any], n_items: int) -> str:
    """The text of the README.md that goes with a run; ``metrics`` is the content of its metrics.json."""
    test = metrics.get("test") or {}
    rows = []
    for metric in _METRICS:
        cells = [test.get(key) for key in (metric, *(f"{group}/{metric}" for group in GROUPS))]
        rows.append(f"| {metric} | {' | '.join('' if cell is None else f'{cell:.4f}' for cell in cells)} |")
    protocol = {"seed": metrics.get("seed"), **(metrics.get("protocol") or {})}
    front = {
        "library_name": "recsys_lt",
        "tags": ["recommendation", "sequential-recommendation", names.model],
        "metrics": list(_METRICS),
    }
    return _TEXT.format(
        **names._asdict(),
        front=yaml.safe_dump(front, sort_keys=False),
        version=__version__,
        items=n_items,
        rows="\n".join(rows),
        protocol="\n".join(f"- {key}: {_said(value)}" for key, value in protocol.items() if value is not None),
    )


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(each)}" for key, each in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
