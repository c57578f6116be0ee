"""What a folder of runs can say about the paper."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from recsys_lt.analysis.cells import Cell, compared
from recsys_lt.analysis.paper.published import Facts
from recsys_lt.analysis.runs import Run

BACKBONES = {"gru4rec": "GRU4Rec", "caser": "Caser", "sasrec": "SASRec", "fmlp_rec": "FMLP-Rec"}
LOSSES = {"bpr": "BPR", "bce": "BCE", "nce": "NCE", "ce": "CE", "sce": "SCE", "ssm": "SSM", "ce_eta": "CE-eta"}
DATASETS = {"beauty": "Beauty", "yelp": "Yelp", "ml-1m": "ML-1M", "ml-100k": "ML-100K"}
#: Groups of targets, and what stands before their metrics.
GROUPS = {"all": "", "head": "head/", "mid": "mid/", "tail": "tail/"}

#: Dataset, model, loss -> the keys of their configuration as texts.
Compose = Callable[[str, str, str], Mapping[str, str]]


@dataclass(frozen=True)
class Evidence:
    """Finished cells, and what was published.

    Only runs by plain Adam count (the paper's optimizer); whatever else a folder holds is left alone.

    Parameters
    ----------
    cells
        Of the folder.
    facts
        The published numbers.
    compose
        The configuration that a cell's published setting has.
    """

    cells: Sequence[Cell]
    facts: Facts
    compose: Compose
    _composed: dict[tuple[str, str, str], Mapping[str, str]] = field(default_factory=dict, repr=False)

    @cached_property
    def finished(self) -> list[Cell]:
        """The cells that count."""
        return [cell for cell in self.cells if cell.finished and cell.identity[3] == "adam"]

    def of(self, dataset: str, model: str, loss: str) -> list[Cell]:
        """Cells of that dataset, model and loss, in any setting."""
        return [cell for cell in self.finished if cell.identity[:3] == (dataset, model, loss)]

    def any_of(self, dataset: str, model: str) -> list[Cell]:
        """Cells of that dataset and model, by any optimizer."""
        return [cell for cell in self.cells if cell.finished and cell.identity[:2] == (dataset, model)]

    def as_published(self, dataset: str, model: str, loss: str) -> Cell | None:
        """The cell run in the published setting."""
        return next((cell for cell in self.of(dataset, model, loss) if not self.changes(cell)), None)

    def closest(self, dataset: str, model: str, loss: str) -> Cell | None:
        """The published setting's cell, or else the one of another setting with the best validation NDCG@10."""
        return self.as_published(dataset, model, loss) or self.best_of_other_settings(dataset, model, loss)

    def best_of_other_settings(self, dataset: str, model: str, loss: str) -> Cell | None:
        """The cell of another setting, trained to its end, with the best validation NDCG@10."""
        others = [cell for cell in self.of(dataset, model, loss) if self.changes(cell) and not self.cut_short(cell)]
        whole = [cell for cell in others if _validated(cell) is not None]
        return max(whole, key=lambda cell: _validated(cell) or 0.0, default=None)

    def changes(self, cell: Cell) -> dict[str, str]:
        """How a cell's configuration differs from its published setting; what only one of the two has says nothing."""
        key = (cell.identity[0], cell.identity[1], cell.identity[2])
        if key not in self._composed:
            self._composed[key] = self.compose(*key)
        published = self._composed[key]
        own = compared(cell.finished[0])
        return {name: value for name, value in own.items() if name in published and published[name] != value}

    def cut_short(self, cell: Cell) -> bool:
        """Whether it is the published setting stopped early: its test metrics are not to be compared."""
        return set(self.changes(cell)) == {"trainer.max_epochs"}

    def sweep(self, dataset: str, model: str, loss: str, key: str, **fixed: float) -> dict[float, Cell]:
        """Cells that differ in one key alone, by its value, in order: the largest such family.

        Parameters
        ----------
        dataset, model, loss
            Which cells.
        key
            Of the loss, such as ``eta``.
        **fixed
            Other keys of the loss with the values they must have.
        """
        families: dict[tuple[tuple[str, str], ...], dict[float, Cell]] = {}
        for cell in self.of(dataset, model, loss):
            own = compared(cell.finished[0])
            if f"loss.{key}" not in own or any(float(own.get(f"loss.{k}", "nan")) != v for k, v in fixed.items()):
                continue
            rest = tuple(sorted((name, value) for name, value in own.items() if name != f"loss.{key}"))
            families.setdefault(rest, {})[float(own[f"loss.{key}"])] = cell
        largest = max(families.values(), key=len, default={})
        return dict(sorted(largest.items()))

    def beside(self, cell: Cell, loss: str) -> Cell | None:
        """The cell that differs from this one in its loss alone."""
        wanted = _without_loss(cell)
        same = (other for other in self.of(cell.dataset, cell.identity[1], loss) if _without_loss(other) == wanted)
        return next(same, None)

    def best_language_model(self, dataset: str, metric: str = "ndcg@10") -> tuple[str, float] | None:
        """The best published recommender made of a language model: its name and metric."""
        found = []
        for each in self.facts.language_models:
            number = self.facts.of_language_model(each.model, dataset, metric)
            if number is not None:
                found.append((each.name, number.mean))
        return max(found, key=lambda pair: pair[1], default=None)


def _validated(cell: Cell) -> float | None:
    values = [run.metrics["valid"].get("ndcg@10") for run in cell.finished if run.metrics is not None]
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _without_loss(cell: Cell) -> dict[str, str]:
    return {k: v for k, v in compared(cell.finished[0]).items() if not k.startswith("loss.")}


def once_a_seed(cell: Cell) -> Cell:
    """A cell without runs that repeat a seed of it: a folder may keep one twice."""
    first: dict[Any, Run] = {}
    for run in cell.finished:
        first.setdefault(run.seed, run)
    return replace(cell, finished=tuple(first.values()))


def mean(cell: Cell | None, metric: str) -> float | None:
    """A test metric's mean over the runs of a cell; None where there is no cell, or it did not measure it."""
    return None if cell is None else cell.mean_std(metric)[0]
