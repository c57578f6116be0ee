"""A sweep's table as text for papers and pages."""

from collections.abc import Sequence
from typing import NamedTuple


class Entry(NamedTuple):
    """What stands in one place of a table; ``value`` is the number it shows, None for none."""

    text: str
    best: bool = False
    failed: bool = False
    value: float | None = None


class Content(NamedTuple):
    """A table: columns of names, then columns of numbers (a heading may have two lines), and sections of rows."""

    names: list[str]
    headings: list[str]
    sections: list[list[list[Entry]]]


def markdown(content: Content, caption: Sequence[str] = ()) -> str:
    """Write a table in GitHub's Markdown, the best in bold, and below it what one must know to read it."""

    def line(cells: list[str]) -> str:
        return f"| {' | '.join(cells)} |"

    def cell(entry: Entry) -> str:
        text = entry.text.replace("|", "\\|")
        return f"**{text}**" if entry.best else text

    lines = [line([*content.names, *(heading.replace("\n", " ") for heading in content.headings)])]
    lines.append(line(["---"] * len(content.names) + ["---:"] * len(content.headings)))
    lines += [line([cell(entry) for entry in row]) for rows in content.sections for row in rows]
    return "\n".join([*lines, *(part for said in caption for part in ("", said))]) + "\n"


_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\^{}", "\\": r"\textbackslash{}"}


def latex(content: Content, caption: Sequence[str] = ()) -> str:
    """Write a tabular in LaTeX with booktabs' rules, the best in bold, and above it, as comments, how to read it."""

    def plain(text: str) -> str:
        escaped = "".join(_SPECIAL.get(c, c) for c in text)
        return escaped.replace("±", r"$\pm$").replace("+-", r"$\pm$").replace("<", "$<$")

    def cell(entry: Entry) -> str:
        return rf"\textbf{{{plain(entry.text)}}}" if entry.best else plain(entry.text)

    heads = [*content.names, *(heading.replace("\n", " ") for heading in content.headings)]
    lines = [f"% {said}" for said in caption]
    lines += [rf"\begin{{tabular}}{{{'l' * len(content.names)}{'r' * len(content.headings)}}}", r"\toprule"]
    lines.append(" & ".join(map(plain, heads)) + r" \\")
    for rows in content.sections:
        lines.append(r"\midrule")
        lines += [" & ".join(cell(entry) for entry in row) + r" \\" for row in rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"
