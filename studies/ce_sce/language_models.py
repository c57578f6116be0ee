"""Our own runs of recommenders made of language models, told from those on a part of the users or rows."""

from pathlib import PurePath

from recsys_lt.results.cells import Cell
from studies.ce_sce.evidence import Evidence

#: Recommenders of ours that the paper has not.
_UNPUBLISHED = {"bigrec": "BIGRec", "title_likelihood": "untuned LM"}
#: Rules that train as the published ones were; the others are of another study.
_PLAIN = ("adam", "adamw")


def names(evidence: Evidence) -> dict[str, str]:
    """What each model that is made of a language model is called in print."""
    return {each.model: each.name for each in evidence.facts.language_models} | _UNPUBLISHED


def users_of(cell: Cell) -> str:
    """Which part of the users a cell was ranked for, "" where it was all: not to be compared with another part."""
    return _part(cell, "ranked_users", "users")


def rows_of(cell: Cell) -> str:
    """Which part of the training rows an epoch of a cell had, "" where it was all."""
    return _part(cell, "training_rows", "training rows")


def _part(cell: Cell, key: str, what: str) -> str:
    protocol = cell.finished[0].metrics["protocol"] if cell.finished[0].metrics is not None else {}
    return "" if protocol.get(key) is None else f"{protocol[key]} {what}"


def own_runs(evidence: Evidence, dataset: str, model: str) -> list[Cell]:
    """Our runs of a model on the whole of a dataset, as it was published, by Adam or AdamW."""
    return [
        cell
        for cell in evidence.any_of(dataset, model)
        if cell.identity[3] in _PLAIN
        and not users_of(cell)
        and not rows_of(cell)
        and all(run.config for run in cell.finished)
        and evidence.is_on_published_data(cell)
    ]


def made_of(cell: Cell) -> str:
    """The language model of a cell, and its optimizer."""
    config = cell.finished[0].config
    name = config.get("llm.weights.name") or config.get("choices.llm")
    # A name may be a folder of the machine: its last part says enough.
    return ", ".join([*([PurePath(str(name)).name] if name else []), cell.identity[3]])
