"""A table or figure of the paper, as numbers and as a drawing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from recsys_lt.results.written_tables import in_markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: One entry of a table.
Value = str | float | int | None


class Shown(NamedTuple):
    """The part of a piece's numbers that a page has room for."""

    header: Sequence[str]
    rows: Sequence[Sequence[Value]]


@dataclass(frozen=True)
class Piece:
    """What one table or figure shows.

    Parameters
    ----------
    name
        Stem of its files.
    title
        What it is.
    header, rows
        Its numbers.
    note
        What a reader must know, in a sentence or two.
    setting
        Data and setting of the runs, for a drawing that is seen without its page.
    draw
        Draws it; None for a table.
    size
        Of the drawing, inches.
    commands
        Those that make its runs, in short; empty where it needs none.
    lacking
        Commands that make what is not there.
    shown
        What a page has room for; None for all. The CSV has all.
    """

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Value]]
    note: str = ""
    setting: str = ""
    draw: "Callable[[Figure], None] | None" = None
    size: tuple[float, float] = (6.4, 4.0)
    commands: Sequence[str] = field(default_factory=tuple)
    lacking: Sequence[str] = field(default_factory=tuple)
    shown: Shown | None = None

    def on_page(self) -> list[str]:
        """The table in Markdown, a line a row."""
        return markdown(self.header, self.rows) if self.shown is None else markdown(*self.shown)


def text(value: Value) -> str:
    """As it stands in a table."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else value


def markdown(header: Sequence[str], rows: Sequence[Sequence[Value]]) -> list[str]:
    """A Markdown table, a line a row; numbers stand to the right."""
    numbers = [any(isinstance(row[c], float | int) for row in rows) for c in range(len(header))]
    rule = ["---:" if number else "---" for number in numbers]
    texts = [[in_markdown(text(value)) for value in row] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *texts)]
