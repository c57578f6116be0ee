"""Some users: what they had chosen, what they chose next, and what was recommended to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from recsys_lt.errors import UserError
from recsys_lt.metrics.groups import GROUPS
from recsys_lt.results.cell_styles import StyledCell
from recsys_lt.results.cells import Cell
from recsys_lt.results.comparison import Comparison, best_first
from recsys_lt.runs.listing import Run
from recsys_lt.runs.packed import RANKS_FILE as RANKS
from recsys_lt.runs.ranks import Ranks, read_ranks

if TYPE_CHECKING:
    from recsys_lt.recommenders.lists import Recommendation

K = 10
#: Events of a history that are shown.
RECENT = 6
_CHECKPOINT = "best.ckpt"


@dataclass(frozen=True)
class Listed:
    """One cell's answer for a user.

    Parameters
    ----------
    member
        The cell.
    seed
        Of the run whose model it is.
    rank
        Of the target; 0 for one that was not listed.
    items
        The first ten: title (id where there is none), group, and whether it is the target.
    """

    member: StyledCell
    seed: str
    rank: int
    items: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True)
class Example:
    """A user, with the answers of one or two cells.

    Parameters
    ----------
    user
        The source's own id.
    events
        Length of the history before the target.
    recent
        Titles of its last events, oldest first.
    target, group, interactions
        Of the target: its title, its group, its training interactions.
    answers
        Of the cells.
    """

    user: str
    events: int
    recent: tuple[str, ...]
    target: str
    group: str
    interactions: int
    answers: tuple[Listed, ...]


@dataclass(frozen=True)
class Examples:
    """The users of one dataset; ``lacking`` says what is not shown, and why."""

    users: tuple[Example, ...]
    catalogue: int
    lacking: tuple[str, ...]


class Trained(Protocol):
    """What is used of ``recsys_lt.training.trained.Run``."""

    @property
    def data(self) -> Any: ...

    @property
    def model(self) -> Any: ...

    @property
    def groups(self) -> Any: ...

    def check_events(self) -> None:
        """Raise UserError if its data are other ones than it was trained on."""


#: Opens the run in a folder.
Open = Callable[[Path], Trained]


def examples(members: Sequence[StyledCell], compared: Comparison, users: int, open_run: Open) -> Examples:
    """Ask the best cell and the reference (where they are one: the next best) about the same few users.

    Parameters
    ----------
    members
        Cells of one dataset.
    compared
        What says which cell is best.
    users
        How many. They are drawn evenly from the users with a head, a mid and a tail target, whatever came out.
    open_run
        Opens the run in a folder.
    """
    if users == 0:
        return Examples((), 0, ("No users: --users 0.",))
    ran = [member for member in members if member.cell.finished]
    able = [member for member in ran if _whole(member.cell) is not None]
    if not able:
        words = f"No users' lists: no run holds both {_CHECKPOINT} and {RANKS}, which they are made from."
        return Examples((), 0, (words,))
    chosen, notes = _chosen(ran, able, compared)
    lacking = list(notes)
    found: list[tuple[StyledCell, Run, Ranks]] = []
    for member in chosen:
        run = _whole(member.cell)
        assert run is not None
        try:
            found.append((member, run, read_ranks(run.folder / RANKS)))
        except UserError as error:
            lacking.append(f"Cell {member.number} is not asked: {_without_path(error)}.")
    if not found:
        return Examples((), 0, tuple(lacking))
    rows = _drawn([ranked for _, _, ranked in found], users)
    answers: list[tuple[StyledCell, Run, Ranks, list[Recommendation]]] = []
    shown = _Shown({}, 0)
    for member, run, ranked in found:
        try:
            lists, shown_here = _asked(open_run(run.folder), run.folder, rows)
            if answers and shown_here != shown:
                raise UserError("it ran on other data than the cell before it", where=run.folder)
        except UserError as error:
            lacking.append(f"Cell {member.number} ({member.name}) is not asked: {_without_path(error)}.")
            continue
        shown = shown_here
        answers.append((member, run, ranked, lists))
    if not answers:
        return Examples((), 0, tuple(lacking))
    return Examples(
        tuple(_example(place, row, answers, shown) for place, row in enumerate(rows)), shown.items, tuple(lacking)
    )


def _whole(cell: Cell) -> Run | None:
    """A run of the cell that can be asked."""
    return next(
        (run for run in cell.finished if all((run.folder / name).is_file() for name in (_CHECKPOINT, RANKS))), None
    )


def _without_path(error: UserError) -> str:
    """What is wrong, without the folders of the machine it went wrong on."""
    where = "" if error.where is None else f"{Path(str(error.where)).name}: "
    return where + " ".join(error.what.split())


def _chosen(
    ran: Sequence[StyledCell], able: Sequence[StyledCell], compared: Comparison
) -> tuple[list[StyledCell], list[str]]:
    def order(member: StyledCell) -> tuple[bool, float]:
        return best_first(member.cell, compared.decisive)

    ranking = sorted(ran, key=order)
    reference = next((m for m in ran if any(m.cell is cell for cell in compared.references.values())), None)
    wanted = list(dict.fromkeys(member.number for member in (ranking[0], reference) if member is not None))
    wanted += [member.number for member in ranking if member.number not in wanted][: 2 - len(wanted)]
    gone = [member for member in ran if member.number in wanted and member not in able]
    chosen = [member for member in able if member.number in wanted]
    chosen += [member for member in sorted(able, key=order) if member not in chosen][: 2 - len(chosen)]
    notes = [
        f"Cell {member.number} ({member.name}) is not asked: its runs hold no {_CHECKPOINT} or no {RANKS}."
        for member in gone
    ]
    return sorted(chosen, key=order), notes


def _drawn(ranked: Sequence[Ranks], users: int) -> list[int]:
    """Users that all cells ranked: groups of the targets in turn, and evenly from each."""
    shared = np.isin(ranked[0].user, ranked[-1].user)
    user, groups = ranked[0].user[shared], ranked[0].group
    group = np.zeros_like(user) if groups is None else groups[shared]  # the first version had none
    pools = [pool for pool in (user[group == code] for code in range(len(GROUPS))) if len(pool)]
    wanted = [0] * len(pools)
    for _ in range(min(users, len(user))):
        room = [place for place, pool in enumerate(pools) if wanted[place] < len(pool)]
        wanted[min(room, key=lambda place: wanted[place])] += 1
    rows: list[int] = []
    for pool, n in zip(pools, wanted, strict=True):
        rows += [int(pool[(2 * place + 1) * len(pool) // (2 * n)]) for place in range(n)]
    return rows


@dataclass(frozen=True)
class _Shown:
    """The targets of the users, as they are shown, and the size of the catalogue."""

    targets: dict[int, tuple[str, str, int, str]]
    items: int


def _asked(run: Trained, folder: Path, rows: Sequence[int]) -> tuple[list[Recommendation], _Shown]:
    from recsys_lt.recommenders.lists import lists

    run.check_events()
    data = run.data
    if max(rows) >= data.n_users or (data.test_at[rows] < 1).any():
        raise UserError("its ranks are of other data", where=folder / RANKS, remedy="Run it again")
    groups = run.groups.of
    found = lists(run.model, data, rows, min(K, data.n_items), groups, stage="test", recent=RECENT)
    targets = {}
    for row in rows:
        item = int(data.items[data.offsets[row] + data.test_at[row]])
        name = str(data.titles[item]) or str(data.item_ids[item])
        targets[row] = (name, GROUPS[groups[item]], int(data.popularity[item]), str(data.item_ids[item]))
    return found, _Shown(targets, data.n_items)


def _example(
    place: int, row: int, answers: Sequence[tuple[StyledCell, Run, Ranks, list[Recommendation]]], shown: _Shown
) -> Example:
    target, group, interactions, identity = shown.targets[row]
    one = answers[0][3][place]
    listed = []
    for member, run, ranked, lists in answers:
        items = tuple((item.title or item.item, item.group, item.item == identity) for item in lists[place].items)
        rank = int(ranked.rank[np.searchsorted(ranked.user, row)])
        listed.append(Listed(member, str(run.seed), rank, items))
    recent = tuple(title or item for item, title in one.recent)
    return Example(one.user, one.events, recent, target, group, interactions, tuple(listed))
