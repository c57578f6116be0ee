"""One model under every protocol side by side: the table, and what it says of numbers that differ from a paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys_lt.recommenders.protocols import NEGATIVES, PROTOCOLS, Protocol, Standings
from recsys_lt.results.cells import mean_and_spread
from recsys_lt.results.field_terms import metric_and_group, term
from recsys_lt.results.written_tables import Content, Entry, shown

_METRICS = (("ndcg", 10), ("hr", 10))
_MASKS = {"published": "masked", "keep_target": "masked, but the target", "none": "not masked"}
_TIES = {"against": "ties against it", "mean": "ties at random", "with": "ties for it"}


@dataclass(frozen=True)
class ProtocolCard:
    """A cell's metrics under every protocol.

    Parameters
    ----------
    identity
        Dataset, model, loss and optimizer.
    mask
        How the runs themselves treat seen items, as ``metrics.mask_seen``.
    seeds
        Of the runs, in order.
    values
        Of each protocol and metric (``ndcg@10``), one a run.
    users, n_items
        Users that were ranked for, and items of the catalogue.
    repeated, tied
        Shares of users whose target they had before, and (of the first run) with an item of the same score as it.
    """

    identity: tuple[str, ...]
    mask: str
    seeds: tuple[int, ...]
    values: Mapping[Protocol, Mapping[str, Sequence[float]]]
    users: int
    n_items: int
    repeated: float
    tied: float

    @property
    def title(self) -> str:
        seeds = f"seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}"
        return (
            f"{term(self.identity[0])}: {', '.join(term(part) for part in self.identity[1:] if part != '-')}, {seeds}"
        )

    def content(self, sign: str = "±") -> Content:
        """The table: a row for each way to choose the items that a target is ranked among; the run's own is marked."""
        metrics = [f"{name}@{k}" for name, k in _METRICS]
        headings = [f"{metric_and_group(metric)[0]}\n{words}" for metric in metrics for words in _TIES.values()]
        sections = []
        for sampled in (False, True):
            rows = []
            for mask, words in _MASKS.items():
                among = f"{NEGATIVES} random" if sampled else "all"
                row = [Entry(among), Entry(words)]
                for metric in metrics:
                    for ties in _TIES:
                        own = (sampled, mask, ties) == (False, self.mask, "against")
                        mean, std = mean_and_spread(self.values[Protocol(sampled, mask, ties)][metric])
                        text = shown(metric, mean) + ("" if std is None else f" {sign}{shown(metric, std)}")
                        row.append(Entry(text, best=own, value=mean))
                rows.append(row)
            sections.append(rows)
        return Content(["ranked among", "seen items"], headings, sections)

    def caption(self, mark: str) -> list[str]:
        """What the table says, in lines; ``mark`` is how the run's own protocol is marked."""
        spread = "Mean and sample standard deviation over the seeds. " if len(self.seeds) > 1 else ""
        own = (
            f"{spread}{mark}: the protocol of metrics.json. {self.users:,} users; every row ranks with the same scores "
            "of the same checkpoint."
        )
        return [own, *_seen_items(self.repeated), *_ties(self.tied), *_sampled(self.n_items), _ELSEWHERE]

    def numbers(self) -> dict[str, Any]:
        """The content as JSON has it."""
        protocols = []
        for protocol, metrics in self.values.items():
            row: dict[str, Any] = {
                "among": NEGATIVES if protocol.sampled else "all",
                "mask_seen": protocol.mask,
                "ties": protocol.ties,
            }
            for metric, values in metrics.items():
                mean, std = mean_and_spread(values)
                row[metric] = {"mean": mean, "std": std, "values": list(values)}
            protocols.append(row)
        return {
            **dict(zip(("dataset", "model", "loss", "optimizer"), self.identity, strict=True)),
            "mask_seen": self.mask,
            "seeds": list(self.seeds),
            "users": self.users,
            "items": self.n_items,
            "repeated_targets": self.repeated,
            "tied_targets": self.tied,
            "protocols": protocols,
        }


def protocol_card(
    identity: tuple[str, ...], mask: str, seeds: Sequence[int], measured: Sequence[Standings]
) -> ProtocolCard:
    """The card of a cell, of the standings of each of its runs; for the rest see ``ProtocolCard``."""
    values = {
        protocol: {
            f"{name}@{k}": [float(each.gains(protocol, name, k).mean()) for each in measured] for name, k in _METRICS
        }
        for protocol in PROTOCOLS
    }
    first = measured[0]
    tied = first.rivals[False, mask != "none"].equal > 0
    return ProtocolCard(
        identity, mask, tuple(seeds), values, len(first.repeated), first.n_items, float(first.repeated.mean()),
        float(tied.mean()),
    )  # fmt: skip


def _seen_items(repeated: float) -> list[str]:
    if repeated:
        share = f"{100 * repeated:.2g} % of the test targets are items that the user had before"
        return [
            f"Seen items: {share}. Masked: no seen item can be recommended, so these users are misses. Masked, but the "
            "target: all other seen items are left out. Not masked: seen items take places of the list, and a model "
            "may gain by repeating them. Papers and libraries differ here; RecBole's sequential models do not mask."
        ]
    return [
        "Seen items: no test target is an item that the user had before. Masked, they leave more places of the list to "
        "others, so masked numbers are usually higher. Papers and libraries differ here; RecBole's sequential "
        "models do not mask."
    ]


def _ties(tied: float) -> list[str]:
    share = f"{100 * tied:.2g} %" if tied else "no"
    note = "Numbers with ties for the target say little: a model that gives every item the same score would be perfect."
    return [
        f"Ties: {share} of the users have another item with the target's score. Against it, the target stands behind "
        f"them; at random, anywhere among them, on average; for it, before them. {note}"
    ]


def _sampled(n_items: int) -> list[str]:
    example = max(round(0.04 * n_items), 2)
    among = 1 + round(NEGATIVES * (example - 1) / max(n_items - 1, 1))
    return [
        f"{NEGATIVES} random: the target is ranked among {NEGATIVES} items drawn uniformly, unseen ones where seen "
        "items are masked. The draw is fixed by --seed and the user. Such numbers are much higher than those of the "
        f"full ranking: rank {example:,} of {n_items:,} becomes about rank {among} of {NEGATIVES + 1}. They also order "
        "models differently, because they hardly see whether a target is first or hundredth of all items (Krichene and "
        "Rendle, KDD 2020). Compare them with sampled numbers alone, and choose no model by them."
    ]


_ELSEWHERE = (
    "Does a paper's number fit no row? Then look at what the rows share: the split, the k-core (recsys_lt dataset "
    "prints the counts), the k of the metric, the history length, the epoch chosen on validation or on the test, and "
    "the seeds."
)
