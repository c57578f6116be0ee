"""Tables of runs by a language model's prior of the target and by its popularity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recsys_lt.results.field_terms import term
from recsys_lt.results.plots.panels import FEW
from recsys_lt.results.report.sections import percent
from recsys_lt.results.written_tables import MISSING, Content, Entry, shown

Numbers = Mapping[str, Any]

EFFECTS = {
    "prior": "prior",
    "prior_at_equal_popularity": "prior,\nequal popularity",
    "data": "popularity",
    "interaction": "interaction",
}


def label(cell: Numbers) -> str:
    """A cell of the runs: model, loss, optimizer, what else distinguishes it, and its seeds."""
    settings = [term(f"{key}={value}") for key, value in cell["settings"].items() if value != "-"]
    seeds = f"seed{'s' if len(cell['seeds']) > 1 else ''} {', '.join(map(str, cell['seeds']))}"
    names = [term(name) for name in cell["cell"][1:] if name != "-"]
    return ", ".join([*names, *settings, seeds])


def matrix_table(cell: Numbers, size: str) -> Content:
    """The table of a matrix, ``2x2`` or ``3x3``; means over few users are in parentheses."""
    rows = []
    for one in cell[size]:
        few = one["users"] < FEW
        texts = {metric: shown(metric, one[metric]) for metric in ("ndcg@10", "hr@10")}
        ndcg, hr = (
            Entry(f"({text})" if few and text != MISSING else text, value=one[metric]) for metric, text in texts.items()
        )
        interval = MISSING if one["low"] is None else f"{one['low']:.4f} to {one['high']:.4f}"
        rows.append(
            [
                Entry(one["prior"]),
                Entry(one["data"]),
                Entry(f"{one['items']:,}", value=one["items"]),
                Entry(shown("arp", one["interactions"]), value=one["interactions"]),
                Entry(f"{one['users']:,}", value=one["users"]),
                Entry(percent(one["exposure"]), value=one["exposure"]),
                ndcg,
                Entry(interval),
                hr,
            ]
        )
    headings = ["items", "interactions\nan item", "users", "exposure", "NDCG@10", "95 %", "HR@10"]
    return Content(["prior", "data"], headings, [rows])


def effects_table(cells: Sequence[Numbers]) -> Content:
    """Differences between head and other items by prior and by popularity: a row for each cell of the runs.

    Where there is a control, a second section has the same of the differences from it.
    """
    sections = [
        [[Entry(label(cell)), *_effects(cell["ndcg@10"], cell["effects"])] for cell in cells],
        [
            [Entry(f"{label(cell)}, less the control"), *_effects(None, cell["effects_beyond_control"])]
            for cell in cells
            if cell["effects_beyond_control"] is not None
        ],
    ]
    return Content(["runs"], ["NDCG@10", *EFFECTS.values()], [rows for rows in sections if rows])


def _effects(ndcg: float | None, effects: Mapping[str, Numbers | None]) -> list[Entry]:
    found = (effects[name] for name in EFFECTS)
    entries = (
        Entry(MISSING)
        if one is None
        else Entry(f"{one['value']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f})", value=one["value"])
        for one in found
    )
    return [Entry(shown("ndcg@10", ndcg), value=ndcg), *entries]


def on_matrices(numbers: Numbers) -> str:
    """How the matrices are to be read."""
    cells = numbers["cells"]
    without = cells[0]["users_without_prior"]
    left = f" {without:,} of {cells[0]['users']:,} users are left out: their target was not measured." * bool(without)
    shares = "/".join(f"{100 * share:g}" for share in numbers["shares"])
    return (
        f"Test users by their target: head, mid and tail are {shares} % of the items, by {numbers['probe']} (prior) "
        f"and by {numbers['groups_by']} (data). Gains are means over the seeds; intervals are over users, for these "
        f"trained models. In parentheses: fewer than {FEW} users.{left}"
    )


def on_effects() -> str:
    """How the effects are to be read."""
    return (
        "Differences in NDCG@10 of head less other items, with 95 % intervals over items, each with its users. Prior: "
        "by prior, a mean over both groups by popularity. Equal popularity: the same within ten bins of targets of "
        "about equal popularity. Popularity: by popularity, a mean over both groups by prior. Interaction: the "
        "difference by prior among popular items less that among the others. A model that reads no titles is the "
        "control: what it shows by prior comes of the data alone."
    )
