"""Example users: history, target, and the lists that the best cell and the reference recommend to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recsys_lt.errors import UserError
from recsys_lt.metrics.groups import GROUPS
from recsys_lt.results.cell_styles import StyledCell
from recsys_lt.results.comparison import Comparison, best_first
from recsys_lt.runs.packed import RANKS_FILE as RANKS
from recsys_lt.runs.ranks import Ranks, read_ranks

if TYPE_CHECKING:
    from recsys_lt.recommenders.lists import Recommendation

K = 10
#: Events of a history that are shown.
RECENT = 6
CHECKPOINT = "best.ckpt"
#: Opens the run in a folder: ``recsys_lt.training.trained.Run``, whose room reads this one.
OpenRun = Callable[[Path], Any]


@dataclass(frozen=True)
class Listed:
    """Top-10 list of one cell for a user, from its run with this seed.

    ``rank`` is the target's, 0 if it was not listed. ``items`` are title (id where there is none), group, and whether
    it is the target.
    """

    cell: StyledCell
    seed: str
    rank: int
    items: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True)
class Example:
    """A user with the lists of one or two cells.

    ``user`` is the source's own id, ``events`` the length of the history before the target, ``recent`` the titles of
    its last events, oldest first; ``group`` and training ``interactions`` are the target's.
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
    """The example users of one dataset; ``lacking`` says what is not shown, and why."""

    users: tuple[Example, ...]
    catalogue: int
    lacking: tuple[str, ...]


class _Answer(NamedTuple):
    """Lists of one run for the example users; their targets (title, group, interactions, id); items of its data."""

    lists: list[Recommendation]
    ranks: list[int]  # of the targets
    targets: list[tuple[str, str, int, str]]
    n_items: int


def examples(cells: Sequence[StyledCell], compared: Comparison, users: int, open_run: OpenRun) -> Examples:
    """Lists of the best cell and the reference (if they are the same: of the next best) for the same few users.

    The cells are of one dataset. Users are drawn evenly from those with a head, a mid and a tail target, whatever the
    results. ``open_run`` opens the run in a folder.
    """
    if users == 0:
        return Examples((), 0, ("No users: --users 0.",))
    ran = sorted((each for each in cells if each.cell.finished), key=lambda e: best_first(e.cell, compared.decisive))
    able = {  # the first such run of a cell
        each: run
        for each in ran
        for run in reversed(each.cell.finished)
        if (run.folder / CHECKPOINT).is_file() and (run.folder / RANKS).is_file()
    }
    if not able:
        words = f"No users' lists: no run holds both {CHECKPOINT} and {RANKS}, which they are made from."
        return Examples((), 0, (words,))
    references = [each for each in ran if any(each.cell is cell for cell in compared.references.values())]
    wanted = list(dict.fromkeys((ran[0], *references[:1], *ran)))[:2]
    without = {each: f"its runs hold no {CHECKPOINT} or no {RANKS}" for each in wanted if each not in able}
    chosen = list(dict.fromkeys(each for each in (*wanted, *able) if each in able))[:2]
    rows: list[int] = []
    answers: dict[StyledCell, _Answer] = {}
    for each in sorted(chosen, key=ran.index):
        folder = able[each].folder
        try:
            ranks = read_ranks(folder / RANKS)
            rows = rows or drawn(ranks, users)
            answer = _answer(open_run(folder), folder, ranks, rows)
            if any(answer[2:] != other[2:] for other in answers.values()):
                raise UserError("it ran on other data than the cell before it", where=folder)
            answers[each] = answer
        except UserError as error:
            without[each] = without_path(error)
    found = []
    for place in range(len(rows) if answers else 0):
        first = next(iter(answers.values()))
        one, (target, group, interactions, identity) = first.lists[place], first.targets[place]
        listed = []
        for each, answer in answers.items():
            items = tuple((i.title or i.item, i.group, i.item == identity) for i in answer.lists[place].items)
            listed.append(Listed(each, str(able[each].seed), answer.ranks[place], items))
        recent = tuple(title or item for item, title in one.recent)
        found.append(Example(one.user, one.events, recent, target, group, interactions, tuple(listed)))
    lacking = tuple(f"Cell {each.number} ({each.name}) is not asked: {why}." for each, why in without.items())
    return Examples(tuple(found), next((answer.n_items for answer in answers.values()), 0), lacking)


def without_path(error: UserError) -> str:
    """What is wrong, without the folders of this machine."""
    where = "" if error.where is None else f"{Path(str(error.where)).name}: "
    return where + " ".join(error.what.split())


def drawn(ranked: Ranks, users: int) -> list[int]:
    """Some of the users that were ranked: groups of the targets in turn, and evenly from each."""
    pools = [pool for pool in (ranked.user[ranked.group == code] for code in range(len(GROUPS))) if len(pool)]
    wanted = [0] * len(pools)
    for _ in range(min(users, len(ranked.user))):
        room = [place for place, pool in enumerate(pools) if wanted[place] < len(pool)]
        wanted[min(room, key=lambda place: wanted[place])] += 1
    rows: list[int] = []
    for pool, n in zip(pools, wanted, strict=True):
        rows += [int(pool[(2 * place + 1) * len(pool) // (2 * n)]) for place in range(n)]
    return rows


def _answer(run: Any, folder: Path, ranks: Ranks, rows: Sequence[int]) -> _Answer:
    from recsys_lt.recommenders.lists import lists

    run.check_events()
    data = run.data
    if not np.isin(rows, ranks.user).all() or max(rows) >= data.n_users or (data.test_at[rows] < 1).any():
        raise UserError("its ranks are of other data", where=folder / RANKS, remedy="Run it again")
    groups = run.groups.of
    found = list(lists(run.model, data, rows, min(K, data.n_items), groups, stage="test", recent=RECENT))
    targets = []
    for row in rows:
        item = int(data.items[data.offsets[row] + data.test_at[row]])
        identity = str(data.item_ids[item])
        targets.append((str(data.titles[item]) or identity, GROUPS[groups[item]], int(data.popularity[item]), identity))
    return _Answer(found, ranks.rank[np.searchsorted(ranks.user, rows)].tolist(), targets, data.n_items)
