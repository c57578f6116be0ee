"""Who is who in a report: each cell's number, name and look, the same in every table and figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recsys_lt.results.cells import Cell
from recsys_lt.results.comparison import Comparison, best_first
from recsys_lt.results.palette import CELLS, OTHERS, Colour
from recsys_lt.runs.listing import IDENTITY

#: Cells with a colour of their own; more could not be told apart.
COLOURED = len(CELLS)
# Whoever sees no colours tells lines by their dashes and points by their marks.
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.5, 2)))
_MARKS = "osD^vXPh"


@dataclass(frozen=True)
class Member:
    """A cell of a report.

    Parameters
    ----------
    number
        From 1, over all datasets.
    cell
        The cell.
    name
        What tells it from the others of its dataset.
    colour, dash, mark
        As it is drawn.
    coloured
        Whether its colour is its own.
    """

    number: int
    cell: Cell
    name: str
    colour: Colour
    dash: Any
    mark: str
    coloured: bool

    @property
    def full_name(self) -> str:
        """All that it is called by."""
        return ", ".join(self.cell.known_parts)


def cells(numbers: Sequence[int]) -> str:
    """Cells by their numbers: "cell 4", "cells 1 to 3, 5"."""
    pieces: list[list[int]] = []
    for number in numbers:
        if pieces and number == pieces[-1][-1] + 1:
            pieces[-1].append(number)
        else:
            pieces.append([number])
    said = ", ".join(f"{p[0]} to {p[-1]}" if len(p) > 2 else ", ".join(map(str, p)) for p in pieces)
    return f"{'cell' if len(numbers) == 1 else 'cells'} {said}"


def cast(compared: Comparison) -> dict[str, list[Member]]:
    """Number, name and colour the cells of each dataset, in the order of the sweep."""
    members: dict[str, list[Member]] = {}
    number = 0
    for dataset, of_one in compared.by_dataset.items():
        names = _names(of_one)
        coloured = _coloured(of_one, compared.decisive, compared.references[dataset])
        members[dataset] = []
        for cell in of_one:
            number += 1
            own = id(cell) in coloured
            place = coloured[id(cell)] if own else 0
            members[dataset].append(
                Member(
                    number,
                    cell,
                    names[id(cell)],
                    CELLS[place] if own else OTHERS,
                    _DASHES[place % len(_DASHES)] if own else "-",
                    _MARKS[place] if own else "o",
                    own,
                )
            )
    return members


def _coloured(cells: Sequence[Cell], decisive: str, reference: Cell | None) -> dict[int, int]:
    """Place in the palette by id of the cell: the reference, the best of each kind, then the other best ones."""
    finished = [cell for cell in cells if cell.finished]
    ranking = sorted(finished, key=lambda cell: best_first(cell, decisive))
    kinds: dict[tuple[str, ...], Cell] = {}
    for cell in ranking:
        kinds.setdefault(cell.identity, cell)
    first = [] if reference is None else [reference]
    chosen = list(dict.fromkeys(id(cell) for cell in (*first, *kinds.values(), *ranking)))[:COLOURED]
    # In the order of the sweep, so that a colour does not depend on who won.
    return {key: place for place, key in enumerate(id(cell) for cell in finished if id(cell) in chosen)}


def _names(cells: Sequence[Cell]) -> dict[int, str]:
    common = set(cells[0].parts).intersection(*(cell.parts for cell in cells)) if len(cells) > 1 else set()
    names = {}
    for cell in cells:
        own = [part for part in cell.known_parts if part not in common]
        names[id(cell)] = ", ".join(own) or ", ".join(cell.identity[1:])
    repeated = {name for name, n in Counter(names.values()).items() if n > 1}
    for cell in cells:
        if names[id(cell)] in repeated:  # a loss is called like another's model: say which is which
            kinds = zip(IDENTITY[1:], cell.identity[1:], strict=True)
            told = [*(f"{kind} {name}" for kind, name in kinds), *cell.known_parts[len(IDENTITY) - 1 :]]
            names[id(cell)] = ", ".join(told)
    return names
