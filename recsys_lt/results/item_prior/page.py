"""A language model's prior of the items in words, tables and a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recsys_lt.results.field_terms import term
from recsys_lt.results.item_prior import figures
from recsys_lt.results.item_prior.measures import PROBES
from recsys_lt.results.item_prior.tables import effects_table, label, matrix_table, on_effects, on_matrices
from recsys_lt.results.report.rendering import rendered
from recsys_lt.results.report.sections import Section
from recsys_lt.results.written_tables import MISSING

Numbers = Mapping[str, Any]

_LONGEST = 90  # characters of a title in an example


def title(numbers: Numbers) -> str:
    return f"{term(numbers['dataset'])}: what {_model(numbers)} knows of the items"


def sections(numbers: Numbers) -> Iterator[Section]:
    """What was measured, both probes, and titles of each corner."""
    facts = [
        ("language model", _model(numbers)),
        ("items measured", f"{numbers['measured']:,} of {numbers['items']:,}"),
        ("items without a title", f"{numbers['untitled']:,}"),
        ("openings", ", ".join(f'"{opening}"' for opening in numbers["openings"])),
        ("rank correlation of the two probes", _correlation(numbers["between_probes"])),
    ]
    meaning = (
        "Nothing is trained, and no interaction is read. A title follows each opening after a space; at most "
        f"{numbers['title_tokens']} of its tokens are read."
    )
    yield Section("What was measured", facts, meaning)
    for name, words in PROBES.items():
        probe = numbers["probes"][name]
        quartiles = MISSING if probe["quartiles"] is None else ", ".join(f"{each:.2f}" for each in probe["quartiles"])
        facts = [
            ("items", f"{probe['items']:,}"),
            ("quartiles, nats a token", quartiles),
            ("rank correlation with training interactions", _correlation(probe["popularity"])),
            ("rank correlation with the title's length", _correlation(probe["tokens"])),
        ]
        yield Section(name.capitalize(), facts, f"{words[0].upper()}{words[1:]}.")
    for corner, titles in numbers["corners"].items():
        examples = (
            f"{one['title'][:_LONGEST]} ({one['interactions']:,} interactions, {one['prior']:+.2f})" for one in titles
        )
        yield Section(f"{corner[0].upper()}{corner[1:]}", [], "", tuple(examples))


def _model(numbers: Numbers) -> str:
    llm = numbers["llm"]
    name = llm["weights"] + (" with random weights" if llm["untrained"] else "")
    return name if llm["layers"] is None else f"{name}, first {llm['layers']} layers"


def page(numbers: Numbers) -> str:
    """The page as one HTML file."""
    probes, cells = numbers["probes"], numbers["cells"]
    pictures = [
        (
            f"{name.capitalize()} against popularity. Rank correlation {_correlation(probe['popularity'])}. Dashed: "
            "quartiles.",
            figures.popularity_and_prior(probe, f"{name} [nats a token]", f"{name}-"),
        )
        for name, probe in probes.items()
        if probe["cloud"]
    ]
    if cells:
        pictures.append(("Test NDCG@10 by prior and data.", figures.by_cell([label(cell) for cell in cells], cells)))
    tables = [
        (f"{label(cell)}: {words}", matrix_table(cell, size))
        for cell in cells
        for size, words in (("2x2", "head and others"), ("3x3", "head, mid and tail"))
    ]
    return rendered(
        "prior.html.j2",
        kind="item prior",
        command="prior",
        title=title(numbers),
        lead=lead(numbers),
        sections=list(sections(numbers)),
        pictures=pictures,
        tables=tables,
        effects=effects_table(cells) if cells else None,
        on_matrices=on_matrices(numbers) if cells else "",
        on_effects=on_effects(),
        numbers=numbers,
    )


def lead(numbers: Numbers) -> str:
    """The page in a sentence."""
    said = (f"{_correlation(numbers['probes'][name]['popularity'])} ({name})" for name in PROBES)
    return f"Rank correlation of what the language model knows with training interactions: {', '.join(said)}."


def _correlation(found: Numbers | None) -> str:
    return MISSING if found is None else f"{found['value']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"
