"""The CE/SCE paper's tables and figures from the kept runs, or from yours.

``python studies/ce_sce/figures.py`` (or ``make page``), or ``python studies/ce_sce/figures.py <folder of runs>``.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from recsys_lt.cli.command import exit_code
from recsys_lt.errors import one_line
from studies.shared.kept import PACKS

# Everything else is imported where it is used, so that --help answers at once.
if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from studies.ce_sce.evidence import Evidence
    from studies.ce_sce.piece import Piece


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Tables 1-4 and figures 1a, 1b, 2, 3, 4 of arXiv 2402.06216 from runs, with the "
        "published numbers beside them, and a check of the paper's claims.",
    )
    parser.add_argument(
        "folders", type=Path, nargs="*", metavar="folder", help="runs, sweeps or packs (default: the kept runs)"
    )
    parser.add_argument(
        "--out", type=Path, help="where to write (default: <first folder>/figures; of the kept runs docs/figures)"
    )
    return parser


def pieces(evidence: Evidence) -> list[Piece]:
    """All tables and figures, in the order they are read."""
    from studies.ce_sce.bounding import bounding
    from studies.ce_sce.claims import claim_check
    from studies.ce_sce.comparison import comparison
    from studies.ce_sce.sweeps import negatives, tightness, truncation
    from studies.ce_sce.tables import datasets_table, losses_table, main_table, models_table

    tables = (losses_table, models_table, main_table, datasets_table)
    makers = (claim_check, *tables, truncation, tightness, bounding, negatives, comparison)
    return [make(evidence) for make in makers]


def evidence_of(folders: Sequence[Path]) -> Evidence:
    """The runs below folders, or in packs, beside what was published.

    Raises
    ------
    UserError
        As ``find_runs`` and ``cells_of``.
    """
    from recsys_lt.results.cells import cells_of
    from recsys_lt.runs.listing import find_runs
    from studies.ce_sce.evidence import Evidence, as_kept
    from studies.ce_sce.published import facts

    runs = [as_kept(run) for folder in folders for run in find_runs(folder)]
    return Evidence(cells_of(runs), facts(), _published_setting, [run for run in runs if run.broken])


def _published_setting(dataset: str, model: str, loss: str) -> Mapping[str, str]:
    return composed(f"dataset={dataset}", f"model={model}", f"loss={loss}")


def composed(*overrides: str) -> Mapping[str, str]:
    """The keys of the configuration these overrides make, as texts that compare with a run's."""
    from hydra import compose, initialize_config_dir

    from recsys_lt import CONF
    from recsys_lt.results.cells import compared
    from recsys_lt.runs.listing import ListedRun
    from recsys_lt.runs.reading import flat
    from studies.ce_sce.choices import CHOICES
    from studies.ce_sce.evidence import as_kept

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [*overrides, CHOICES])
    return compared(as_kept(ListedRun(Path("composed"), None, flat(dict(config)))))


def _write(piece: Piece, out: Path) -> None:
    import csv

    from recsys_lt.system.atomic import replacing

    with replacing(out / f"{piece.name}.csv") as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(piece.header)
        writer.writerows(["" if value is None else value for value in row] for row in piece.rows)
    if piece.draw is not None:
        draw(piece, out / f"{piece.name}.png", out / f"{piece.name}.pdf")


def draw(piece: Piece, *paths: Path) -> Figure:
    """Write the figure of a piece, under its title and the setting of its runs: it may be seen without its page."""
    from recsys_lt.results.plots.drawing import blank, save

    assert piece.draw is not None
    width, height = piece.size
    with blank(width, height) as figure:
        # The paper's number of the figure is for the page, and would be another one elsewhere.
        title = piece.title.partition(": ")[2] or piece.title
        # Its runs are by Adam; a drawing names their seeds where they are alike.
        place = piece.header.index("seeds") if "seeds" in piece.header else None
        seeds = {str(row[place]) for row in piece.rows} if place is not None else set()
        setting = piece.setting
        if len(seeds) == 1:
            named = ", ".join(seeds.pop().split())
            setting += f", Adam, seed{'s' if ', ' in named else ''} {named}"
        lines = (title[0].upper() + title[1:], setting.replace("max_epochs", "epochs").replace("lr ", "learning rate "))
        figure.suptitle("\n".join(fill(part, round(15 * width)) for part in lines if part))
        piece.draw(figure)
        save(figure, *paths)
    return figure


def _page(made: Sequence[Piece], arguments: Sequence[str], remarks: Sequence[str]) -> str:
    from recsys_lt.results.written_tables import in_markdown

    command = shlex.join(["python", "studies/ce_sce/figures.py", *arguments])
    command = one_line(command).replace("`", "'")
    lines = [
        "# The CE/SCE paper's tables and figures, from these runs", "",
        f"Made by `{command}`; not written by hand. "
        "Numbers are test metrics, means over seeds. What was published, and where, is in "
        "studies/ce_sce/published.yaml.",
    ]  # fmt: skip
    lines += ["", *(f"- {in_markdown(remark)}" for remark in remarks)] if remarks else []
    for piece in made:
        lines += ["", f"## {piece.title}", ""]
        if piece.draw is not None:
            lines += [f"![{piece.title}]({piece.name}.png)", ""]
        lines += [_how(piece), ""]
        if piece.note:
            lines += [piece.note.replace("<", "&lt;"), ""]
        lines += piece.on_page() if piece.rows else ["No run for it yet."]
        if piece.lacking:
            lines += ["", "Not run yet:", "", *(f"    {command}" for command in piece.lacking)]
    return "\n".join(lines) + "\n"


def _how(piece: Piece) -> str:
    """Which commands make the runs of a piece."""
    if not piece.commands:
        return "Needs no run."
    return f"Runs: {', '.join(f'`{command}`' for command in piece.commands)}."


def _run(folders: Sequence[Path], out: Path, arguments: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from recsys_lt.system.atomic import write_text
    from studies.ce_sce.piece import text

    evidence = evidence_of(folders)
    made = pieces(evidence)
    for piece in made:
        _write(piece, out)
    write_text(out / "figures.md", _page(made, arguments, evidence.remarks))
    console = Console(markup=False, emoji=False)  # a folder's name is no markup
    for remark in evidence.remarks:
        console.print(Text(remark))
    claims = made[0]
    table = Table(box=box.SIMPLE, title=claims.title, show_lines=True, padding=(0, 1, 0, 0))
    for name in claims.header:
        table.add_column(name, overflow="fold")
    for row in claims.rows:
        table.add_row(*(Text(text(value)) for value in row))
    console.print(table)
    for piece in made[1:]:
        n = f"{len(piece.rows)} rows" if piece.rows else "no run for it yet"
        console.print(Text(f"{piece.name}: {piece.title} ({n})"))
        for command in list(piece.lacking)[:2]:
            console.print(Text(f"    not run yet: {command}"))
        if len(piece.lacking) > 2:
            console.print(Text(f"    and {len(piece.lacking) - 2} more, in figures.md"))
    console.print(
        Text(f"{out / 'figures.md'}: all of it, with {sum(p.draw is not None for p in made)} drawings"), soft_wrap=True
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Write tables and figures; 0, or 2 with one line on standard error for what the user can mend."""
    arguments = _parser().parse_args(argv)
    root = Path(__file__).resolve().parents[2]
    packs = [Path(os.path.relpath(pack)) for pack in PACKS]
    out = arguments.out or (arguments.folders[0] / "figures" if arguments.folders else root / "docs" / "figures")
    given = sys.argv[1:] if argv is None else argv
    return exit_code(lambda: _run(arguments.folders or packs, out, given))


if __name__ == "__main__":
    raise SystemExit(main())
