"""Tables as Markdown and LaTeX."""

from collections.abc import Sequence
from typing import NamedTuple

from recsys_lt.errors import one_line


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

    lines = [line([in_markdown(heading) for heading in (*content.names, *content.headings)])]
    lines.append(line(["---"] * len(content.names) + ["---:"] * len(content.headings)))
    lines += [line([cell(entry) for entry in row]) for rows in content.sections for row in rows]
    return "\n".join([*lines, *(part for said in caption for part in ("", in_markdown(said)))]) + "\n"


_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\^{}", "\\": r"\textbackslash{}"}
_SPECIAL |= {"±": r"$\pm$", "<": "$<$", ">": "$>$", "|": r"\textbar{}", "`": r"\textasciigrave{}"}


def latex(content: Content, caption: Sequence[str] = ()) -> str:
    """A tabular in LaTeX with booktabs' rules, the best in bold, and the caption above it as comments."""

    def plain(text: str) -> str:
        return "".join(_SPECIAL.get(c, c) for c in one_line(text)).replace("+-", r"$\pm$")

    def cell(entry: Entry) -> str:
        return rf"\textbf{{{plain(entry.text)}}}" if entry.best else plain(entry.text)

    lines = [f"% {one_line(said)}" for said in caption]
    lines += [rf"\begin{{tabular}}{{{'l' * len(content.names)}{'r' * len(content.headings)}}}", r"\toprule"]
    lines.append(" & ".join(map(plain, (*content.names, *content.headings))) + r" \\")
    for rows in content.sections:
        lines.append(r"\midrule")
        lines += [" & ".join(cell(entry) for entry in row) + r" \\" for row in rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"
