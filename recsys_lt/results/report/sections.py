"""Parts of a page that are facts by name, on paper and in the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recsys_lt.results.written_tables import MISSING

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Section:
    """A part of a page: facts by name, what they mean, and examples; ``key`` names its pictures."""

    title: str
    facts: list[tuple[str, str]]
    meaning: str
    examples: tuple[str, ...] = ()
    key: str = ""


def percent(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def print_sections(console: Console, sections: Iterable[Section]) -> None:
    from rich.text import Text

    for section in sections:
        console.print(Text(f"\n{section.title}", style="bold"))
        width = max((len(name) for name, _ in section.facts), default=0)
        for name, value in section.facts:
            console.print(Text(f"  {name:<{width}}  {value}"))
        for example in section.examples:
            console.print(Text(f"    {example}"), style="dim")
        if section.meaning:
            console.print(Text(section.meaning), style="dim")
