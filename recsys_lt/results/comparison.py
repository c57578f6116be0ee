"""Comparison of a sweep's cells: metrics to show, the reference of each dataset, and tests against it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from recsys_lt.errors import UserError
from recsys_lt.results.cells import Cell, cells_of, once_a_seed
from recsys_lt.results.significance import Difference, compare_cells, corrected, why_untested
from recsys_lt.results.written_tables import MISSING, shown
from recsys_lt.runs.listing import ListedRun, find_runs

DEFAULT_METRICS = (*(f"{group}ndcg@10" for group in ("", "head/", "mid/", "tail/", "nonhead/")), "hr@10")
#: Groups of targets whose users are tested beside all users.
TESTED = ("nonhead",)
HIGHER_IS_BETTER = {"ndcg": True, "hr": True, "mrr": True, "coverage": True, "aplt": True, "gini": False}


@dataclass(frozen=True)
class Comparison:
    """Cells of the sweeps in ``roots``, compared with a reference on each dataset.

    ``by_dataset`` has an entry for each dataset and way of ranking (ranked users, mask, split). Different data of one
    name have an entry each. Only the cells of one entry are compared with each other. ``metrics`` are the test metrics
    to show; ``decisive`` is the one by which cells are ordered. The tests are on the per-user ``gain`` at its k, for
    the groups of targets in ``tested`` ("" for all).

    ``why_reference`` is the reason for the ``references``, in words that follow their names; "" if the user named them.
    ``repeated`` are seeds with several runs, by the id of their cell; the first run of each counts.
    Runs in ``broken`` cannot be read, and belong to no cell.
    """

    roots: tuple[Path, ...]
    by_dataset: dict[str, list[Cell]]
    metrics: list[str]
    decisive: str
    gain: tuple[str, int]
    tested: tuple[str, ...]
    repeated: dict[int, list[str]]
    references: dict[str, Cell | None]
    why_reference: str
    broken: tuple[ListedRun, ...] = ()

    @property
    def cells(self) -> list[Cell]:
        return [cell for cells in self.by_dataset.values() for cell in cells]

    @cached_property
    def differences(self) -> dict[tuple[int, str], Difference | None]:
        """Difference of every finished cell from its reference, by the id of the cell and the group.

        Its p is corrected for the cells of the dataset that were tested alike; None stands for no test.
        """
        values: dict[tuple[int, str], Difference | None] = {}
        for name, cells in self.by_dataset.items():
            reference = self.references[name]
            if reference is None:
                continue
            others = [cell for cell in cells if cell is not reference and cell.finished]
            for group in self.tested:
                # A k beyond the length of a model's lists has not been measured, nor can it be tested.
                metric = f"{group}/{self.gain[0]}@{self.gain[1]}".removeprefix("/")
                found = [
                    compare_cells(cell, reference, *self.gain, group)
                    if cell.values(metric) and reference.values(metric)
                    else None
                    for cell in others
                ]
                values |= {(id(cell), group): each for cell, each in zip(others, corrected(found), strict=True)}
        return values

    def difference(self, cell: Cell, group: str = "") -> Difference | None:
        """Difference of a cell from its reference; None for the reference itself and for no test."""
        return self.differences.get((id(cell), group))


def compare(
    roots: Sequence[Path],
    metrics: Sequence[str] | None = None,
    against: str | None = None,
    groups: Sequence[str] = TESTED,
) -> Comparison:
    """Compare the cells of sweeps, or runs; a run that lies in several of the roots counts once.

    ``metrics`` are the test metrics to show, None for the usual ones; the first with a better side decides which cell
    is best. ``against`` are names that single out the cell to test against; None for the one that is best on validation
    (on the test where some have none), of those that can be tested against another. The users of some ``groups`` of
    targets are tested too: ``head``, ``mid``, ``tail`` or ``nonhead``, or ``uniform`` (see ``compare_cells``).
    UserError where a folder holds no finished run, or none that can be read, or there is no such metric or cell.
    """
    cells = []
    runs = find_runs(*roots)
    repeated = {}
    for given in cells_of(runs):
        cell = once_a_seed(given)
        cells.append(cell)
        if again := sorted({str(seed) for seed in given.seeds if given.seeds.count(seed) > 1}):
            repeated[id(cell)] = again
    by_dataset = _ranked_alike(cells)
    chosen = _chosen_metrics(cells, metrics, roots)
    found = next((fits for metric in chosen if (fits := re.fullmatch(r"(ndcg|hr|mrr)@(\d+)", metric))), None)
    gain = (found[1], int(found[2])) if found else ("ndcg", 10)  # the first overall ranking metric that is shown
    decisive = next((metric for metric in chosen if better(metric) is not None), "ndcg@10")
    references = references_of(by_dataset, decisive, against)
    tested = tuple(dict.fromkeys(("", *groups)))
    by_validation = against is None and all(_all_validated(of_one, decisive) for of_one in by_dataset.values())
    why = ", best on validation" if by_validation else ""
    return Comparison(
        tuple(roots), by_dataset, chosen, decisive, gain, tested, repeated, references, why,
        tuple(run for run in runs if run.broken),
    )  # fmt: skip


def better(metric: str) -> bool | None:
    """Whether higher is better; None for a metric with no better side (ARP, exposure, users)."""
    return HIGHER_IS_BETTER.get(metric.rsplit("/", 1)[-1].split("@")[0])


def best_first(cell: Cell, metric: str) -> tuple[bool, float]:
    """Sort key of cells by a metric; those that did not measure it come last."""
    mean = cell.mean_std(metric)[0]
    return mean is None, 0.0 if mean is None else mean if better(metric) is False else -mean


def outstanding(cells: Sequence[Cell], metric: str) -> str | None:
    """The best mean as a table shows it, to be marked; None where all look alike, or the metric has no better side."""
    ranking = sorted(cells, key=lambda cell: best_first(cell, metric))
    best, *others = dict.fromkeys(shown(metric, cell.mean_std(metric)[0]) for cell in ranking)
    return best if better(metric) is not None and any(text != MISSING for text in others) else None


def _ranked_alike(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Cells by their dataset, and where its cells were not all ranked alike, by how they were."""
    ways = {id(cell): _way(cell) for cell in cells}
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        of_dataset = [ways[id(other)] for other in cells if other.dataset == cell.dataset]
        words = [
            said
            for said, *others in zip(ways[id(cell)], *of_dataset, strict=True)
            if said is not None and len({other for other in others if other is not None}) > 1
        ]
        found.setdefault(", ".join([cell.dataset, *words]), []).append(cell)
    return found


def _way(cell: Cell) -> tuple[str | None, ...]:
    """What must be alike where cells are compared, in words; None for what a cell's runs do not say."""
    run = (cell.finished or cell.failed)[0]
    names = {"ranked_users": "metrics.max_users", "mask_seen": "metrics.mask_seen"}
    configured = {name: run.config[key] for name, key in names.items() if key in run.config}
    protocol = configured if run.metrics is None else run.metrics.get("protocol", configured)
    words = {"split": "split {}", "mask_seen": "mask {}", "groups": "{}", "groups_by": "groups by {}"}
    said = [None if protocol.get(key) is None else text.format(protocol[key]) for key, text in words.items()]
    # By counts, as the same data from another file have another fingerprint.
    counts = [f"{protocol[what]:,} {what}" for what in ("items", "interactions") if protocol.get(what) is not None]
    users = protocol.get("ranked_users")
    everybody = "all users" if "ranked_users" in protocol else None
    some = str(users).split(" of ")[0]  # of how many, a configuration does not know
    return everybody if users is None else f"{some} users", *said, ", ".join(counts) or None


def _chosen_metrics(cells: Sequence[Cell], wanted: Sequence[str] | None, roots: Sequence[Path]) -> list[str]:
    known = {key: None for cell in cells for run in cell.finished if run.metrics for key in run.metrics["test"]}
    if wanted is None:
        usual = [metric for metric in DEFAULT_METRICS if metric in known]
        return usual or [metric for metric in known if re.fullmatch(r"(ndcg|hr|mrr)@\d+", metric)]
    for metric in wanted:
        if metric not in known:
            some = ", ".join(key for key in known if "/" not in key) or "none"
            raise UserError(
                f"no run has a test metric {metric!r}",
                where=", ".join(map(str, roots)),
                remedy=f"There are {some}; most also under head/, mid/, tail/, nonhead/ and uniform/",
            )
    return list(dict.fromkeys(wanted))


def _reference(cells: Sequence[Cell], metric: str, against: str | None) -> Cell | None:
    """The cell the others of one dataset are tested against; None where the dataset has none."""
    finished = [cell for cell in cells if cell.finished]
    if against is None:
        ranking = sorted((cell for cell in finished if cell.values(metric)), key=lambda cell: best_first(cell, metric))
        if not ranking:
            return None
        if _all_validated(finished, metric):  # the best cell on the test was also lucky there
            sign = 1.0 if better(metric) is False else -1.0
            ranking.sort(key=lambda cell: sign * (cell.validated(metric) or 0.0))
        # The best cell may have no ranks.parquet: the others are then tested against the best of those that have.
        testable = (cell for cell in ranking if any(not why_untested(o, cell) for o in finished if o is not cell))
        return next(testable, ranking[0])
    if exact := [cell for cell in finished if against in (cell.label, "/".join(cell.known_parts))]:
        return exact[0]
    wanted = {part for part in against.split("/") if part}
    found = [cell for cell in finished if wanted and wanted <= {cell.dataset, *cell.parts}]
    if len(found) > 1:
        raise UserError(
            f"{against!r} fits {len(found)} cells",
            where="--against",
            remedy=f"Name one of {', '.join(cell.label for cell in found)}",
        )
    return found[0] if found else None


def _all_validated(cells: Sequence[Cell], metric: str) -> bool:
    """Whether every cell that measured it on the test did so on validation too."""
    return all(cell.validated(metric) is not None for cell in cells if cell.values(metric))


def references_of(by_dataset: dict[str, list[Cell]], metric: str, against: str | None) -> dict[str, Cell | None]:
    """The cell of each dataset that ``against`` fits; for None the best. UserError where it fits none or several."""
    references = {name: _reference(cells, metric, against) for name, cells in by_dataset.items()}
    if against is not None and not any(references.values()):
        labels = dict.fromkeys(cell.label for cells in by_dataset.values() for cell in cells if cell.finished)
        raise UserError(
            f"no finished cell is called {against!r}",
            where="--against",
            remedy=f"Name one of {', '.join(labels)}",
        )
    return references
