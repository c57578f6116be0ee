"""The dataset card: its numbers, what they say in words, and its page."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

from recsys_lt.data.features import text_columns
from recsys_lt.data.loader import users_with_target
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.metrics.groups import GROUPS, ItemGroups
from recsys_lt.results.dataset_card import figures, measures
from recsys_lt.results.dataset_card.baselines import baselines
from recsys_lt.results.field_terms import term
from recsys_lt.results.report.rendering import rendered
from recsys_lt.results.report.sections import Section, percent
from recsys_lt.results.written_tables import MISSING, Content, Entry, shown

Numbers = dict[str, Any]


def measured(data: Sequences, groups: ItemGroups, mask_seen: str, max_users: int | None = None) -> Numbers:
    """All numbers of the card of a dataset, as JSON has them.

    Parameters
    ----------
    groups
        Head, mid and tail of the items.
    mask_seen, max_users
        As ``metrics.mask_seen`` and ``metrics.max_users``: how the item graph is ranked, and for how many users the
        targets are looked at.

    Raises
    ------
    UserError
        If no user has a test target with an event before it, or nobody has two training events.
    """
    users = users_with_target(data, "test", max_users)
    if not len(users):
        remedy = "Leave-one-out needs users with three events; of a temporal split, move dataset.temporal_cuts"
        raise UserError("no user has a test target with an event before it", where=data.name, remedy=remedy)
    texts = measures.texts(data)
    return {
        "dataset": data.name,
        "split": data.split,
        "fingerprint": data.fingerprint,
        "mask_seen": mask_seen,
        "counts": measures.counts(data),
        "histories": measures.history_lengths(data),
        "popularity": {"by": groups.words, **measures.popularity(data, groups)},
        "repeats": measures.repeats(data),
        "next_item": {"users": len(users), **measures.neighbourhood(data, users)},
        "text": None
        if texts is None
        else {"columns": list(text_columns(data)), **measures.text_similarity(data, texts)},
        "titles": measures.alike_titles(data.titles.tolist()),
        "baselines": baselines(data, users, texts, mask_seen),
    }


def sections(numbers: Numbers) -> Iterator[Section]:
    """The parts of the card, of its numbers."""
    counts, histories, popularity = numbers["counts"], numbers["histories"], numbers["popularity"]
    repeats, near, text, titles = numbers["repeats"], numbers["next_item"], numbers["text"], numbers["titles"]
    facts = [(name, f"{counts[name]:,}") for name in ("users", "items", "events")]
    facts.append(("sparsity", f"{100 * counts['sparsity']:.2f} %"))
    if counts["first_time"] is not None:
        facts.append(("time", " to ".join(filter(None, map(_day, (counts["first_time"], counts["last_time"]))))))
    facts += [
        ("split", numbers["split"]),
        *((name, f"{counts[name.replace(' ', '_')]:,}") for name in ("training events", "validation targets")),
        ("test targets", f"{counts['test_targets']:,}"),
    ]
    yield Section("Size", facts, "Sparsity: share of the pairs of a user and an item without an event.", key="size")

    facts = _spread(histories)
    if counts["equal_times"] is not None:
        facts.append(("consecutive events with equal times", percent(counts["equal_times"])))
    meaning = "Equal times: the order of such events is that of the file, and says little."
    yield Section("Events of a user", facts, meaning if counts["equal_times"] else "", key="histories")

    facts = [*_spread(popularity), ("Gini", _number(popularity["gini"]))]
    facts.append(("most popular 1 % of the items", _of_interactions(popularity["share_of_top_1_percent"])))
    for name in GROUPS:
        part = popularity["groups"][name]
        shares = f"{percent(part['interactions'])} of interactions, {percent(part['targets'])} of test targets"
        facts.append((f"{name}, {part['items']:,} items", shares))
    facts.append(("items never trained", f"{popularity['untrained_items']:,}"))
    meaning = (
        f"Head, mid and tail by {popularity['by']}. Gini: 0 where all items are equally popular, near 1 where few "
        "items have nearly all interactions."
    )
    yield Section("Training interactions of an item", facts, meaning, key="popularity")

    facts = [
        ("events of an item the user had before", percent(repeats["events"])),
        ("test targets the user had before", percent(repeats["targets"])),
        ("test targets never trained", percent(repeats["targets_never_trained"])),
    ]
    meaning = "No model of item ids can find a target that was never trained."
    if repeats["targets"]:
        meaning += " A repeated target is a sure miss where seen items are masked (metrics.mask_seen)."
    yield Section("Repeats and new items", facts, meaning, key="repeats")

    size = near["median_two_hops"]
    median = f"{size:,.0f} items at the median, {percent(size / counts['items'])} of all"
    hops = f"{percent(near['within_two_hops'])} ({median})"
    again = [("the last item again", percent(near["last_again"]))] if near["last_again"] else []
    facts = [
        *again,
        ("direct successor of the last item", percent(near["successor_of_last"])),
        ("neighbour of the last item", percent(near["neighbour_of_last"])),
        ("within two hops of the last item", hops),
        ("neighbour of any item of the history", percent(near["neighbour_of_any"])),
        ("median number of neighbours of an item", _number(near["median_degree"], 0)),
    ]
    meaning = (
        "Shares of the test targets. Items are neighbours if one directly follows the other in somebody's training "
        "events; a neighbour and a neighbour's neighbour are within two hops. Where few items within two hops hold "
        "many targets, counting goes far."
    )
    yield Section("Where the next item is", facts, meaning, key="next")

    if text is None:
        yield Section("Item text", [], "No item has a title or attributes.", key="text")
    else:
        facts = [
            ("columns", ", ".join(text["columns"])),
            ("items with text", f"{text['items_with_text']:,} of {counts['items']:,}"),
            ("cosine of consecutive items", _number(text["consecutive"], 3)),
            ("cosine of random items", _number(text["random"], 3)),
            ("items whose title another item has", f"{titles['same']:,}"),
            ("the same but for numbers, order and punctuation", f"{titles['alike']:,}"),
        ]
        meaning = (
            "Mean cosine of TF-IDF vectors: of consecutive training items of a user, and of random ones that are as "
            "popular. Where the first is much larger, item text may help to predict (features=tfidf): the last table "
            "has the item graph with and without it. A model that reads titles alone cannot distinguish items that "
            "share one."
        )
        examples = (f"{each['items']} items: {' | '.join(each['titles'])}" for each in titles["examples"])
        yield Section("Item text", facts, meaning, tuple(examples), key="text")


def baseline_table(numbers: Numbers) -> Content:
    """What counting reaches: popularity, and the item graph from the last event and from the whole history."""
    rows = []
    for row in numbers["baselines"]:
        events = {None: "none", 1: "last event"}.get(row["events"], f"last {row['events']} events")
        name = "popularity" if row["scorer"] == "popularity" else f"item graph{', with text' if row['text'] else ''}"
        values = (Entry(shown(metric, row[metric]), value=row[metric]) for metric in ("ndcg@10", "hr@10"))
        rows.append([Entry(name), Entry(events), *values])
    return Content(["scorer", "reads"], ["NDCG@10", "HR@10"], [rows])


def on_baselines(numbers: Numbers) -> str:
    """How the baselines were ranked, and how much the last event reaches."""
    masks = {"published": "masked", "keep_target": "masked, but the target", "none": "not masked"}
    last, whole = (row["ndcg@10"] for row in numbers["baselines"][1:3])  # the item graph of ids alone
    share = f" Ids of the last event alone reach {percent(last / whole)} of the history's NDCG@10." if whole else ""
    return (
        f"Test targets of {numbers['next_item']['users']:,} users, all items ranked, seen items "
        f"{masks[numbers['mask_seen']]}, ties against the target. Nothing is trained. The settings are those of "
        "model=itemgraph, which were chosen on validation users of Beauty. A run of it chooses its own and may reach "
        "more."
        f"{share}"
    )


def lead(numbers: Numbers) -> str:
    """The card in a sentence or two."""
    counts, near = numbers["counts"], numbers["next_item"]
    return (
        f"{counts['users']:,} users, {counts['items']:,} items, {counts['events']:,} events. The next item is a "
        f"neighbour of the last one for {percent(near['neighbour_of_last'])} of the test users, and within two hops "
        f"for {percent(near['within_two_hops'])}. {_counting(numbers)}"
    )


def _counting(numbers: Numbers) -> str:
    _, _, ids, *with_text = numbers["baselines"]
    text = f", and {shown('ndcg', with_text[-1]['ndcg@10'])} with item text" if with_text else ""
    return f"The item graph, which only counts, reaches a test NDCG@10 of {shown('ndcg', ids['ndcg@10'])}{text}."


def page(numbers: Numbers) -> str:
    """The card as one HTML file."""
    popularity, near = numbers["popularity"], numbers["next_item"]
    nearness = {
        "direct successor": near["successor_of_last"],
        "neighbour of the last": near["neighbour_of_last"],
        "neighbour of any item": near["neighbour_of_any"],
        "within two hops": near["within_two_hops"],
    }
    pictures: Mapping[str, list[tuple[str, Any]]] = {
        "popularity": [
            ("Popularity curve: training interactions of each item.", figures.popularity_curve(popularity)),
            (
                "Where the test targets are: points above the bars mark items that are targets more often than they "
                "were trained.",
                figures.tenths(popularity),
            ),
        ],
        "histories": [("Users by the number of their events.", figures.history_lengths(numbers["histories"]))],
        "next": [
            ("The target's place in the graph of training events.",
             figures.bars(list(nearness.items()), "share of test targets [%]", "near-"))
        ],
    }  # fmt: skip
    return rendered(
        "dataset.html.j2",
        kind="dataset card",
        command="dataset",
        title=term(numbers["dataset"]),
        lead=lead(numbers),
        sections=list(sections(numbers)),
        pictures=pictures,
        table_of_baselines=baseline_table(numbers),
        on_baselines=on_baselines(numbers),
        numbers=numbers,
    )


def _spread(values: Mapping[str, float]) -> list[tuple[str, str]]:
    quartiles = (f"{round(values[key], 1):g}" for key in ("lower_quartile", "median", "upper_quartile"))
    return [
        ("mean", f"{values['mean']:,.1f}"),
        ("quartiles", ", ".join(quartiles)),
        ("range", f"{values['least']:,} to {values['most']:,}"),
    ]


def _of_interactions(share: float | None) -> str:
    return f"{percent(share)} of interactions"


def _number(value: float | None, digits: int = 2) -> str:
    return MISSING if value is None else f"{value:,.{digits}f}"


def _day(seconds: float) -> str:
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):  # times that are no dates, such as numbers of rounds
        return f"{seconds:g}"
