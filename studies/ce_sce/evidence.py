"""What a folder of runs can say about the paper."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from recsys_lt.results.cells import Cell, compared, once_a_seed
from recsys_lt.runs.listing import ListedRun
from studies.ce_sce.published import Facts

BACKBONES = {"gru4rec": "GRU4Rec", "caser": "Caser", "sasrec": "SASRec", "fmlp_rec": "FMLP-Rec"}
LOSSES = {"bpr": "BPR", "bce": "BCE", "nce": "NCE", "ce": "CE", "sce": "SCE", "ssm": "SSM", "ce_eta": "CE-eta"}
DATASETS = {"beauty": "Beauty", "yelp": "Yelp", "ml-1m": "ML-1M", "ml-100k": "ML-100K"}
#: Groups of targets, and what stands before their metrics.
GROUPS = {"all": "", "head": "head/", "mid": "mid/", "tail": "tail/"}

#: Changes after which a number is of another task, or of a model that reads text, and says nothing of a published one.
_OTHER_TASK = ("dataset", "features", "metrics.mask_seen", "metrics.max_users", "trainer.max_train_rows")
#: Changes that say how often a run was looked at, not how it was trained.
_LOOKS = ("trainer.eval_every", "trainer.eval_untrained", "metrics")
#: Parts of ``metrics.json`` that every run writes.
_NEEDED = ("protocol", "train", "valid", "test", "best_epoch", "epochs")

#: Dataset, model, loss -> the keys of their configuration as texts.
Compose = Callable[[str, str, str], Mapping[str, str]]
#: Changes that cells have in common.
Rest = tuple[tuple[str, str], ...]


def as_kept(run: ListedRun) -> ListedRun:
    """A run with its configuration as the kept runs have it: CE-eta as a class of the package, and no callback."""
    config = {
        key: "recsys_lt.losses.truncated.CEEta" if value == "studies.ce_sce.losses.CEEta" else value
        for key, value in run.config.items()
        if not key.startswith("callbacks.tightness.")
    }
    return replace(run, config=config)


@dataclass(frozen=True)
class Evidence:
    """Finished cells, and what was published.

    Beside published numbers stand only runs by plain Adam (the paper's optimizer) with a configuration that says so, on
    the published data and by the published protocol; whatever else a folder holds is left alone.

    Parameters
    ----------
    cells
        Of the folder.
    facts
        The published numbers.
    compose
        The configuration that a cell's published setting has.
    broken
        Runs of the folder that cannot be read.
    """

    cells: Sequence[Cell]
    facts: Facts
    compose: Compose
    broken: Sequence[ListedRun] = ()
    _composed: dict[tuple[str, str, str], Mapping[str, str]] = field(default_factory=dict, repr=False)

    @cached_property
    def readable(self) -> list[Cell]:
        """Cells with their runs that hold what every run writes, one a seed."""
        whole = (replace(cell, finished=tuple(run for run in cell.finished if _is_whole(run))) for cell in self.cells)
        return [once_a_seed(cell) for cell in whole if cell.finished]

    @cached_property
    def finished(self) -> list[Cell]:
        """The cells that may stand beside published numbers."""
        return [cell for cell in self.readable if cell.identity[3] == "adam" and self._is_the_task(cell)]

    @property
    def remarks(self) -> list[str]:
        """What a reader must know of runs that were left out."""
        said = [
            f"Left out, as it lacks {' or '.join(_NEEDED)}: {run.folder.name}"
            for cell in self.cells
            for run in cell.finished
            if not _is_whole(run)
        ]
        said += [f"Left out, as it cannot be read: {run.folder.name} ({run.broken})" for run in self.broken]
        for cell in self.cells:
            by_seed: dict[Any, ListedRun] = {}
            for run in cell.finished:
                first = by_seed.setdefault(run.seed, run)
                if first is not run and run.metrics and first.metrics and run.metrics["test"] != first.metrics["test"]:
                    name = ", ".join(cell.known_parts)
                    said.append(
                        f"Seed {run.seed} of {cell.dataset}, {name}, ran twice with other results; "
                        f"{first.folder}{_made_with(first)} counts, {run.folder}{_made_with(run)} does not"
                    )
        return said

    def of(self, dataset: str, model: str, loss: str) -> list[Cell]:
        """Cells of that dataset, model and loss, in any setting."""
        return [cell for cell in self.finished if cell.identity[:3] == (dataset, model, loss)]

    def any_of(self, dataset: str, model: str) -> list[Cell]:
        """Cells of that dataset and model, by any optimizer."""
        return [cell for cell in self.readable if cell.identity[:2] == (dataset, model)]

    def as_published(self, dataset: str, model: str, loss: str) -> Cell | None:
        """The runs in the published setting, wherever they lie."""
        found = [cell for cell in self.of(dataset, model, loss) if not self.changes(cell)]
        if not found:
            return None
        return once_a_seed(replace(found[0], finished=tuple(run for cell in found for run in cell.finished)))

    def closest(self, dataset: str, model: str, loss: str) -> Cell | None:
        """The published setting's cell, or else the one of another setting with the best validation NDCG@10.

        A cell with several seeds comes before one with a single seed, which settles nothing.
        """
        published, other = (find(dataset, model, loss) for find in (self.as_published, self.best_of_other_settings))
        several = (cell for cell in (published, other) if cell is not None and len(cell.finished) > 1)
        return next(several, published or other)

    def best_of_other_settings(self, dataset: str, model: str, loss: str) -> Cell | None:
        """The cell of another setting, trained to its end, with the best validation NDCG@10; several seeds first."""
        others = [cell for cell in self.of(dataset, model, loss) if self.changes(cell) and not self.cut_short(cell)]
        whole = [cell for cell in others if cell.validated() is not None]
        return max(whole, key=lambda cell: (len(cell.finished) > 1, cell.validated() or 0.0), default=None)

    def falls_short(self, cell: Cell) -> float | None:
        """The published NDCG@10 that a cell of another setting does not reach, tolerance and all; else None.

        Such a setting says nothing of the paper. A cell of the published setting that does not reach it does.
        """
        dataset, model, loss, *_ = cell.identity
        gain, number = mean(cell, "ndcg@10"), self.facts.test(dataset, model, loss)
        if gain is None or number is None or not self._trained_otherwise(cell):
            return None
        return number.mean if number.exceeds(gain) else None

    def may_not_be_done(self, cell: Cell) -> bool:
        """Whether it is of another setting than the published, and some run was best at its very last epoch."""
        ends = (run.metrics["best_epoch"] == run.metrics["epochs"] for run in cell.finished if run.metrics is not None)
        return bool(self._trained_otherwise(cell)) and any(ends)

    def changes(self, cell: Cell) -> dict[str, str]:
        """How a cell's configuration differs from its published setting; what only one of the two has says nothing."""
        published = self._published(cell)
        found: dict[str, str] = {}
        for run in cell.finished:
            own = compared(run)
            found |= {name: value for name, value in own.items() if name in published and published[name] != value}
        return found

    def _trained_otherwise(self, cell: Cell, besides: str = "") -> dict[str, str]:
        """The changes that say how it was trained, the part ``besides`` aside."""
        left_out = (*_LOOKS, besides)
        return {name: value for name, value in self.changes(cell).items() if not _is_one_of(name, left_out)}

    def _published(self, cell: Cell) -> Mapping[str, str]:
        """A cell's published setting, composed once."""
        key = (cell.identity[0], cell.identity[1], cell.identity[2])
        if key not in self._composed:
            self._composed[key] = self.compose(*key)
        return self._composed[key]

    def cut_short(self, cell: Cell) -> bool:
        """Whether it is the published setting stopped early: its test metrics are not to be compared."""
        changes = self._trained_otherwise(cell)
        if set(changes) != {"trainer.max_epochs"}:
            return False
        return int(changes["trainer.max_epochs"]) < int(self._published(cell)["trainer.max_epochs"])

    def in_words(self, cell: Cell, besides: str = "") -> str:
        """``published`` (``default`` where nothing is), or how the setting differs, the part ``besides`` aside."""
        changes = self._trained_otherwise(cell, besides)
        last = [name.rsplit(".", 1)[-1] for name in changes]
        words = []
        for short, (name, value) in zip(last, changes.items(), strict=True):
            if short == "_target_":
                words.append(f"{name.removesuffix('._target_')} {value.rsplit('.', 1)[-1]}")
            else:
                words.append(f"{short if last.count(short) == 1 else name} {value}")
        known = self.facts.test(cell.identity[0], cell.identity[1], cell.identity[2])
        return ", ".join(words) or ("default" if known is None else "published")

    def named_setting(self, cell: Cell, besides: str = "") -> str:
        """Its setting with a name: published (or default), perhaps ended early, fast (fewer epochs), or another."""
        words = self.in_words(cell, besides)
        if words in ("published", "default"):
            return f"{words} setting"
        if set(self._trained_otherwise(cell, besides)) == {"trainer.patience"}:
            return f"published setting, ended early ({words})"
        epochs = self.changes(cell).get("trainer.max_epochs")
        fewer = epochs is not None and int(epochs) < int(self._published(cell)["trainer.max_epochs"])
        return f"{'fast' if fewer else 'another'} setting ({words})"

    def common_setting(self, cells: Iterable[Cell]) -> str:
        """What cells that differ in their losses alone have in common, as a sentence; "" where there are none."""
        first = next(iter(cells), None)
        return "" if first is None else f" Setting of all: {self.in_words(first, besides='loss')}."

    def setting_of_all(self, cells: Iterable[Cell]) -> str:
        """The named setting of cells that differ in their losses alone; "" where there are none."""
        first = next(iter(cells), None)
        return "" if first is None else self.named_setting(first, besides="loss")

    def families(self, dataset: str, model: str, loss: str, key: str, **fixed: float) -> dict[Rest, dict[float, Cell]]:
        """Cells that differ in one key of the loss alone, by its value, in order.

        Parameters
        ----------
        dataset, model, loss
            Which cells.
        key
            Of the loss, such as ``eta``.
        **fixed
            Other keys of the loss with the values they must have.

        Returns
        -------
        dict
            By what each family changes of the published setting besides.
        """
        found: dict[Rest, dict[float, Cell]] = {}
        asked = {f"loss.{name}": value for name, value in {key: None, **fixed}.items()}
        for cell in self.of(dataset, model, loss):
            own = compared(cell.finished[0])
            values = {name: _number(own.get(name)) for name in asked}
            wrong = any(wanted is not None and values[name] != wanted for name, wanted in asked.items())
            value = values[f"loss.{key}"]
            if wrong or value is None or self.cut_short(cell):
                continue
            changes = self.changes(cell).items()
            rest = tuple(sorted((n, v) for n, v in changes if n not in asked and not _is_one_of(n, _LOOKS)))
            found.setdefault(rest, {}).setdefault(value, cell)
        return {rest: dict(sorted(cells.items())) for rest, cells in found.items()}

    def beside(self, cell: Cell, loss: str) -> Cell | None:
        """The cell that differs from this one in its loss alone."""
        wanted = self._besides_loss(cell)
        same = (other for other in self.of(cell.dataset, cell.identity[1], loss) if self._besides_loss(other) == wanted)
        return next(same, None)

    def best_language_model(self, dataset: str, metric: str = "ndcg@10") -> tuple[str, float] | None:
        """The best published recommender made of a language model: its name and metric."""
        found = []
        for each in self.facts.language_models:
            number = self.facts.of_language_model(each.model, dataset, metric)
            if number is not None:
                found.append((each.name, number.mean))
        return max(found, key=lambda pair: pair[1], default=None)

    def _besides_loss(self, cell: Cell) -> dict[str, str]:
        """Changes, told as values: the published settings of two losses may differ themselves."""
        keys = ("optimizer.lr", "optimizer.weight_decay", "model.dropout", "trainer.max_epochs", "trainer.batch_rows")
        own = compared(cell.finished[0])
        changes = {
            n: v for n, v in self.changes(cell).items() if not n.startswith("loss.") and not _is_one_of(n, _LOOKS)
        }
        return changes | {key: own[key] for key in keys if key in own}

    def _is_the_task(self, cell: Cell) -> bool:
        """Whether it was run on the published data by the published protocol, as far as its dataset has one."""
        if any(not run.config for run in cell.finished):
            return False  # nobody knows its setting
        return cell.identity[0] not in DATASETS or cell.identity[1] not in BACKBONES or self.is_on_published_data(cell)

    def is_on_published_data(self, cell: Cell) -> bool:
        """Whether a cell was trained and ranked on the data that its dataset should have, all and no more."""
        if any(_is_one_of(name, _OTHER_TASK) for name in self.changes(cell)):
            return False
        published = self._published(cell)
        for run in cell.finished:
            assert run.metrics is not None
            protocol = run.metrics["protocol"]
            if protocol.get("ranked_users") is not None or protocol.get("training_rows") is not None:
                return False
            for count in ("users", "items", "interactions"):
                expected = published.get(f"dataset.expect.{count}")
                if expected not in (None, "null") and str(protocol.get(count)) != expected:
                    return False
        return True


def _made_with(run: ListedRun) -> str:
    """What may tell a run from another of the same configuration and seed, in brackets; "" where that is not known."""
    if run.metrics is None or not _is_whole(run):
        return ""
    versions = run.metrics.get("versions")
    known = {
        "threads": run.metrics["train"].get("threads"),
        "commit": versions.get("commit") if isinstance(versions, dict) else None,
    }
    said = [f"{name}: {value}" for name, value in known.items() if value is not None]
    return f" ({', '.join(said)})" if said else ""


def _is_one_of(name: str, keys: Iterable[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") for key in keys)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:  # an interpolation, such as ${trainer.batch_rows}
        return None


def _is_whole(run: ListedRun) -> bool:
    return run.metrics is not None and all(part in run.metrics for part in _NEEDED)


def largest(families: Mapping[Rest, dict[float, Cell]]) -> dict[float, Cell]:
    """The family with the most values; empty where there is none."""
    return max(families.values(), key=len, default={})


def best_epochs(cell: Cell) -> str:
    """The best epoch of each run and how many it trained: at its last one a run may not be done."""
    counts = [run.metrics for run in cell.finished if run.metrics is not None]
    return ", ".join(f"{count['best_epoch']} of {count['epochs']}" for count in counts)


def mean(cell: Cell | None, metric: str) -> float | None:
    """A test metric's mean over the runs of a cell; None where there is no cell, or it did not measure it."""
    return None if cell is None else cell.mean_std(metric)[0]
