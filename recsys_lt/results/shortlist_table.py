"""Metrics of shortlists side by side: a row a cell, and tests of HR@1 over users and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from recsys_lt.metrics.groups import GROUPS
from recsys_lt.recommenders.shortlists import Shortlists
from recsys_lt.results.cells import mean_and_spread
from recsys_lt.results.significance import Difference, corrected, difference
from recsys_lt.results.written_tables import MISSING, Content, Entry, shown, shown_p

_SHOWN = ("hr@1", "mrr", "ndcg@5", *(f"{group}/hr@1" for group in GROUPS), "arp@1")
_SHOWN += (*(f"{group}/exposure@1" for group in GROUPS), "or_ratio@1", "mgu@1", "dgu@1")
_HEADINGS = {"or_ratio": "ORRatio", "mgu": "MGU", "dgu": "DGU", "exposure": "share"}


class Measured(NamedTuple):
    """A run's shortlists, its seed, and their metrics by name (``shortlist_metrics``)."""

    seed: Any
    found: Shortlists
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class ShortlistTable:
    """Runs of each cell by its name, and how HR@1 of each differs from that of the cell ``against``; None for no test.

    Cells are in order of their mean HR@1, the highest first.
    """

    dataset: str
    cells: Mapping[str, Sequence[Measured]]
    against: str | None
    differences: Mapping[str, Difference | None]

    @classmethod
    def of(cls, dataset: str, cells: Mapping[str, Sequence[Measured]], against: str | None = None) -> ShortlistTable:
        """The table, with tests against one of the cells; None for no test."""
        rates = {name: _hits(runs) for name, runs in cells.items()}
        order = sorted(cells, key=lambda name: -float(rates[name].mean()))
        found: dict[str, Difference | None] = {}
        if against is not None:
            others = [name for name in order if name != against]
            tests = corrected([difference(rates[name], rates[against]) for name in others])
            found = dict(zip(others, tests, strict=True))
        return cls(dataset, {name: cells[name] for name in order}, against, found)

    @property
    def length(self) -> int:
        """Candidates of a list, the target included."""
        return int(self._first.items.shape[1])

    @property
    def _first(self) -> Shortlists:
        return next(iter(self.cells.values()))[0].found

    @property
    def title(self) -> str:
        return f"{self.dataset}: the target among {self.length} candidates (no full ranking)"

    def content(self, sign: str = "±") -> Content:
        """A row a cell."""
        measured = [name for name in _SHOWN if any(self._values(cell, name) for cell in self.cells)]
        rows = []
        for cell, runs in self.cells.items():
            row = [Entry(cell)]
            for name in measured:
                mean, std = mean_and_spread(self._values(cell, name))
                text = shown(name, mean) + ("" if std is None else f" {sign}{shown(name, std)}")
                row.append(Entry(text, value=mean))
            test = self.differences.get(cell)
            row.append(Entry(str(len(runs)), value=float(len(runs))))
            if self.differences:
                said = MISSING if test is None else f"{test.value:+.4f} ({test.low:.4f} to {test.high:.4f})"
                p = "ref" if test is None else shown_p(test.p) if test.over_seeds else f"users only {shown_p(test.p)}"
                value, chance = (None, None) if test is None else (test.value, test.p)
                row += [Entry(said, value=value), Entry(p, value=chance)]
            rows.append(row)
        headings = [_heading(name, self.length) for name in measured] + ["n"]
        headings += [f"HR@1 of {self.length}\ndifference", f"HR@1 of {self.length}\np"] if self.differences else []
        return Content(["cell"], headings, [rows])

    def caption(self) -> list[str]:
        """Lines that say how to read the table."""
        values = next(iter(self.cells.values()))[0].values
        own = ", ".join(f"{group} {values[f'{group}/targets_of_{self.length}']:.3f}" for group in GROUPS)
        lines = [
            f"{len(self._first.users):,} users; each has the target and {self.length - 1} items drawn uniformly from "
            "those the user has not seen, the same for every cell. Mean and sample standard deviation over n seeds.",
            f"Shares: of the items that are ranked first, by popularity; of the targets they are {own}. ARP@1: mean "
            f"training interactions of the items ranked first; of the targets "
            f"{values[f'targets_arp_of_{self.length}']:.1f}.",
            "These numbers are much higher than those of a full ranking, and do not compare with them.",
        ]
        if self.differences:
            lines.append(
                f"Difference: in HR@1 from {self.against}, with its 95 % interval; p is corrected by Holm. Tests are "
                "over users and seeds; a test over users only speaks of these trained models."
            )
        return lines

    def numbers(self) -> list[dict[str, Any]]:
        """The content as JSON has it: a mapping a run."""
        return [
            {"cell": cell, "seed": run.seed, "users": len(run.found.users), **run.values}
            for cell, runs in self.cells.items()
            for run in runs
        ]

    def _values(self, cell: str, name: str) -> list[float]:
        found = [run.values.get(f"{name}_of_{self.length}") for run in self.cells[cell]]
        return [value for value in found if value is not None]


def _hits(runs: Sequence[Measured]) -> Any:
    """Whether each run ranks each user's target first, [n, U] float."""
    import numpy as np

    return np.stack([run.found.ranks == 1 for run in runs]).astype(np.float64)


def _heading(name: str, length: int) -> str:
    group, _, metric = name.rpartition("/")
    base, at, k = metric.partition("@")
    said = f"{_HEADINGS.get(base, base.upper())}{at}{k}"
    return f"{group}\n{said} of {length}" if group else f"{said}\nof {length}"
