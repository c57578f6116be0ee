"""Tables for a terminal, as Markdown and as LaTeX, and numbers as text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from recsys_lt.errors import UserError, one_line
from recsys_lt.results.field_terms import GREEK, term

if TYPE_CHECKING:
    from rich.table import Table


MISSING = "-"


class Entry(NamedTuple):
    """Entry of a table; ``value`` is the number it shows, None for none."""

    text: str
    best: bool = False
    failed: bool = False
    value: float | None = None


class Content(NamedTuple):
    """A table: columns of names, then columns of numbers (a heading may have two lines), and sections of rows."""

    names: list[str]
    headings: list[str]
    sections: list[list[list[Entry]]]

    def only(self, columns: Sequence[str]) -> Content:
        """The table with these columns alone, by a line of their headings or both; UserError where one is not there."""
        headings = [*self.names, *self.headings]
        chosen: dict[int, None] = {}
        for column in columns:
            wanted = " ".join(column.replace("/", " ").casefold().split())
            lines = ({heading.replace("\n", " "), *heading.split("\n")} for heading in headings)
            found = [place for place, known in enumerate(lines) if wanted in map(str.casefold, known)]
            if not found:
                raise UserError(
                    f"the table has no column {column!r}",
                    where="--columns",
                    remedy=f"There are {', '.join(heading.replace(chr(10), ' ') for heading in headings)}",
                )
            chosen |= dict.fromkeys(found)
        n = len(self.names)
        order = sorted(chosen, key=lambda place: place >= n)
        sections = [[[row[place] for place in order] for row in rows] for rows in self.sections]
        kept = [headings[place] for place in order]
        names = sum(place < n for place in order)
        return Content(kept[:names], kept[names:], sections)


def terminal(content: Content, title: str | None = None, plain: bool = False) -> Table:
    """A table for a terminal, the best in bold; ``plain`` where bold does not survive."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), title=None if title is None else Text(title))
    for name in content.names:
        table.add_column(Text(name), no_wrap=True)
    for heading in content.headings:
        table.add_column(Text(heading, justify="right"), justify="right", min_width=None if heading == "n" else 7)
    for rows in content.sections:
        for row in rows:
            table.add_row(
                *(
                    Text("*" + e.text if e.best and plain else e.text, "bold" if e.best else "red" if e.failed else "")
                    for e in row
                )
            )
        table.add_section()
    return table


#: Characters that Markdown, and HTML in it, would read as markup. An underscore inside a word is none.
_MARKS = {c: f"\\{c}" for c in "\\`*[]|"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def in_markdown(text: str) -> str:
    """Text in one line of Markdown, with nothing in it marked up."""
    return "".join(_MARKS.get(c, c) for c in one_line(text))


def markdown(content: Content, caption: Sequence[str] = ()) -> str:
    """A table in GitHub's Markdown, the best in bold, and the caption below it."""

    def line(cells: list[str]) -> str:
        return f"| {' | '.join(cells)} |"

    def cell(entry: Entry) -> str:
        text = in_markdown(entry.text)
        return f"**{text}**" if entry.best else text

    lines = [line([in_markdown(heading) for heading in (*map(term, content.names), *content.headings)])]
    lines.append(line(["---"] * len(content.names) + ["---:"] * len(content.headings)))
    lines += [line([cell(entry) for entry in row]) for rows in content.sections for row in rows]
    return "\n".join([*lines, *(part for said in caption for part in ("", in_markdown(said)))]) + "\n"


_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\^{}", "\\": r"\textbackslash{}"}
_SPECIAL |= {letter: rf"$\{name}$" for name, letter in GREEK.items()} | {
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
}


def latex(content: Content, caption: Sequence[str] = ()) -> str:
    """A table in LaTeX with booktabs' rules and its caption, the best in bold; a heading's first line spans its group.

    A column's names of models and the like are written as the field writes them.
    """

    def plain(text: str) -> str:
        return "".join(_SPECIAL.get(c, c) for c in one_line(text)).replace("+-", r"$\pm$")

    def cell(entry: Entry) -> str:
        text = "--" if entry.text == MISSING else re.sub(r"(?<![\w.])-(?=[.\d])", "$-$", plain(entry.text))
        return rf"\textbf{{{text}}}" if entry.best else text

    n = len(content.names)
    halves = [heading.rpartition("\n") for heading in content.headings]
    above, rules, column = [""] * n, [], n
    for group, members in groupby(top for top, _, _ in halves):
        width = len(list(members))
        above += [rf"\multicolumn{{{width}}}{{c}}{{{plain(group)}}}"] if group else [""] * width
        rules += [rf"\cmidrule(lr){{{column + 1}-{column + width}}}"] if group else []
        column += width
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table*}[t]", r"\centering\small"]
    lines += [rf"\caption{{{' '.join(map(plain, caption))}}}"] if caption else []
    lines += [rf"\begin{{tabular}}{{{'l' * n}{'r' * len(halves)}}}", r"\toprule"]
    lines += [" & ".join(above) + r" \\", " ".join(rules)] if rules else []
    lines.append(" & ".join([*map(plain, map(term, content.names)), *(plain(name) for *_, name in halves)]) + r" \\")
    for rows in content.sections:
        lines.append(r"\midrule")
        for row in rows:
            lines.append(" & ".join([*(plain(term(e.text)) for e in row[:n]), *map(cell, row[n:])]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table*}"]
    return "\n".join(lines) + "\n"


def shown(metric: str, value: float | None) -> str:
    """A metric's value as printed: counts whole or to a tenth, everything else to four digits."""
    if value is None or value != value:
        return MISSING
    name = metric.rsplit("/", 1)[-1].split("@")[0]
    if name == "users":
        return f"{value:,.0f}"
    return f"{value:,.1f}" if name == "arp" else f"{value:.4f}"


def shown_p(p: float) -> str:
    """A p-value as printed, to four digits."""
    return "<.0001" if p < 1e-4 else f"{p:.4f}".removeprefix("0")


def in_words(value: Any, between: str) -> str:
    """A value of a configuration or protocol as printed; ``between`` separates the parts of a list or mapping."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return between.join(f"{key} {in_words(part, between)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return between.join(in_words(part, between) for part in value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def in_protocol(key: str, value: Any, between: str = "/") -> str:
    """A value of a run's protocol as printed, the count of items in ``ranking`` with separators of thousands."""
    words = in_words(value, between)
    return re.sub(r"\b\d{4,}\b", lambda count: f"{int(count[0]):,}", words) if key == "ranking" else words
