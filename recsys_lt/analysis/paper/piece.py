"""A table or figure of the paper, as numbers and as a drawing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: One entry of a table.
Value = str | float | int | None


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
    draw
        Draws it; None for a table.
    size
        Of the drawing, inches.
    lacking
        Commands that make what is not there.
    columns
        Those that a page has room for; empty for all. The CSV has all.
    """

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Value]]
    note: str = ""
    draw: "Callable[[Figure], None] | None" = None
    size: tuple[float, float] = (6.4, 4.0)
    lacking: Sequence[str] = field(default_factory=tuple)
    columns: Sequence[str] = ()

    def on_page(self) -> list[str]:
        """The table in Markdown, a line a row."""
        kept = [place for place, name in enumerate(self.header) if not self.columns or name in self.columns]
        return markdown([self.header[c] for c in kept], [[row[c] for c in kept] for row in self.rows])


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
    texts = [[text(value).replace("|", "\\|") for value in row] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *texts)]
