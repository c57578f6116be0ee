"""Number, name and look of each cell, the same in every table and figure of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recsys_lt.results.cells import Cell
from recsys_lt.results.comparison import Comparison, best_first
from recsys_lt.results.field_terms import term
from recsys_lt.results.plots.drawing import CELLS, OTHERS, Look
from recsys_lt.results.written_tables import Entry
from recsys_lt.runs.listing import IDENTITY

#: Cells with a colour of their own; more could not be distinguished.
COLOURED = len(CELLS)
# Readers who see no colours distinguish lines by their dashes and points by their marks.
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.5, 2)))
_MARKS = "osD^vXPh"


@dataclass(frozen=True, eq=False)
class StyledCell:
    """A cell with its number (from 1, over all datasets), its name among the cells of its dataset, and its look."""

    number: int
    cell: Cell
    name: str
    look: Look

    @property
    def full_name(self) -> str:
        """Model, loss, optimizer and the settings that differ."""
        return ", ".join(map(term, self.cell.known_parts))

    @property
    def entries(self) -> list[Entry]:
        """Its first two columns in a table."""
        return [Entry(str(self.number), value=self.number), Entry(self.name)]


def numbers(cells: Sequence[StyledCell]) -> str:
    """Cells by their numbers: "cell 4", "cells 1 to 3, 5"."""
    pieces: list[list[int]] = []
    for number in (cell.number for cell in cells):
        if pieces and number == pieces[-1][-1] + 1:
            pieces[-1].append(number)
        else:
            pieces.append([number])
    text = ", ".join(f"{p[0]} to {p[-1]}" if len(p) > 2 else ", ".join(map(str, p)) for p in pieces)
    return f"{'cell' if len(cells) == 1 else 'cells'} {text}"


def heading(dataset: str, cells: Sequence[StyledCell]) -> str:
    """Dataset, what all its cells share of model, loss, optimizer and settings, and seeds."""
    seeds = dict.fromkeys(str(seed) for each in cells for seed in each.cell.seeds)
    shared = [part for part in cells[0].cell.known_parts if all(part in each.cell.parts for each in cells)]
    said = [*map(term, shared), f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}"] if seeds else []
    return f"{term(dataset)}: {', '.join(said)}" if said else term(dataset)


def styled_cells(compared: Comparison) -> dict[str, list[StyledCell]]:
    """The cells of each dataset, numbered in the order of the sweep."""
    styled: dict[str, list[StyledCell]] = {}
    number = 0
    for dataset, cells in compared.by_dataset.items():
        names = _names(cells)
        coloured = _coloured(cells, compared.decisive, compared.references[dataset])
        styled[dataset] = []
        for cell, name in zip(cells, names, strict=True):
            number += 1
            look = Look(f"{number}", OTHERS, coloured=False)
            if (place := coloured.get(id(cell))) is not None:
                look = Look(f"{number}", CELLS[place], _DASHES[place % len(_DASHES)], _MARKS[place])
            styled[dataset].append(StyledCell(number, cell, name, look))
    return styled


def _coloured(cells: Sequence[Cell], decisive: str, reference: Cell | None) -> dict[int, int]:
    """Place in the palette by id of the cell: the reference, the best of each kind, then the other best ones."""
    finished = [cell for cell in cells if cell.finished]
    ranking = sorted(finished, key=lambda cell: best_first(cell, decisive))
    kinds: dict[tuple[str, ...], Cell] = {}
    for cell in ranking:
        kinds.setdefault(cell.identity, cell)
    first = [] if reference is None else [reference]
    chosen = list(dict.fromkeys(id(cell) for cell in (*first, *kinds.values(), *ranking)))[:COLOURED]
    # In the order of the sweep, so that a colour does not depend on which cell won.
    return {key: place for place, key in enumerate(id(cell) for cell in finished if id(cell) in chosen)}


def _names(cells: Sequence[Cell]) -> list[str]:
    """Names of the cells of one dataset: what of model, loss and optimizer differs, and of settings within these."""
    alike = [[other for other in cells if other.identity == cell.identity] for cell in cells]
    names = []
    for cell, family in zip(cells, alike, strict=True):
        kind = [part for part in cell.identity[1:] if part != "-"]
        of_kind = [part for part in kind if any(part not in other.parts for other in cells)]
        settings = cell.known_parts[len(kind) :]
        own = [part for part in settings if any(part not in other.parts for other in family)]
        names.append(", ".join(map(term, [*of_kind, *own] or kind)))
    count = Counter(names)
    for place, cell in enumerate(cells):
        if count[names[place]] > 1:  # a loss has the name of another cell's model
            kinds = [
                f"{kind} {term(name)}"
                for kind, name in zip(IDENTITY[1:], cell.identity[1:], strict=True)
                if name != "-"
            ]
            names[place] = ", ".join([*kinds, *map(term, cell.known_parts[len(kinds) :])])
    return names
