"""Tables 1 to 4: losses, models, small models beside recommenders made of language models, and datasets."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from recsys_lt.results.cells import Cell
from studies.ce_sce.evidence import BACKBONES, DATASETS, LOSSES, Evidence, mean
from studies.ce_sce.piece import Piece, Shown, Value
from studies.ce_sce.published import Published
from studies.ce_sce.sweeps import ETA_COMMANDS as FIGURE_1A
from studies.ce_sce.sweeps import K_COMMAND as FIGURE_3

#: Recommenders of ours that the paper has not.
_UNPUBLISHED = {"tiger": "TIGER", "bigrec": "BIGRec", "title_likelihood": "untuned LM"}
#: What says that a ranking holds the items that a user has seen, and where a run has its metrics.
UNMASKED, OF_UNMASKED = "seen items not masked", "unmasked/"
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


def unmasked(evidence: Evidence) -> set[str]:
    """The models whose published numbers are of rankings that hold seen items: not to be compared with the others'."""
    return {each.model for each in evidence.facts.language_models if not each.masked}


def made_of(cell: Cell) -> str:
    """The language model of a cell or the weights that it starts from, and its optimizer."""
    run = cell.finished[0]
    notes = (run.metrics or {}).get("notes") or {}
    name = notes.get("weights") or run.config.get("llm.weights.name") or run.config.get("choices.llm")
    # A name may be a folder of the machine: its last part says enough.
    return ", ".join([*([PurePath(str(name)).name] if name else []), cell.identity[3]])


#: Loss -> its Z in -s+ + log Z, its negatives, and the logits of a target (arXiv 2402.06216v3, section 3).
_SUMS = {
    "ce": ("sum over items of e^s", "none drawn", "I"),
    "ce_eta": ("sum over items with s - s+ >= -eta |s+| of e^s", "none drawn", "I"),
    "ssm": ("e^s+ + sum over K of e^s", "K", "K + 1"),
    "sce": ("e^s+ + alpha sum over K of e^s", "K", "K + 1"),
    "nce": ("(1 + e^s'+)(product over K of 1 + e^s'), s' = s + log(I/K) - c", "K", "K + 1"),
    "bce": ("(1 + e^s+)(1 + e^s-)", "1", "2"),
    "bpr": ("e^s+ + e^s-", "1", "2"),
}


def losses_table(evidence: Evidence) -> Piece:
    """What each loss sums, and what an epoch of it took on Beauty with SASRec."""
    rows: list[list[Value]] = []
    for loss, (z, negatives, logits) in _SUMS.items():
        cell = evidence.closest("beauty", "sasrec", loss)
        runs = [] if cell is None else [run.metrics["train"] for run in cell.finished if run.metrics is not None]
        seconds = [float(train["seconds_per_epoch"]) for train in runs if train.get("seconds_per_epoch")]
        devices = sorted({_machine(train) for train in runs})
        rows.append(
            [
                loss, z, negatives, logits, mean(cell, "ndcg@10"), None if cell is None else evidence.in_words(cell),
                f"{sum(seconds) / len(seconds):.1f}" if seconds else None, "; ".join(devices) or None,
            ]
        )  # fmt: skip
    return Piece(
        "table1",
        "Table 1: losses as -s+ + log Z",
        [
            "loss",
            "Z of a target",
            "negatives",
            "logits of a target",
            "Beauty, SASRec: NDCG@10",
            "setting",
            "s/epoch",
            "on",
        ],
        rows,
        "s+ is the target's score, s another item's, I the catalogue. The columns are ours. Times are of the "
        "machines the runs were made on, which differ.",
        commands=(
            "python -m recsys_lt -m dataset=beauty model=sasrec loss=ce,sce,nce,bce,bpr",
            *FIGURE_1A[:1],
            FIGURE_3,
        ),
    )


def _machine(train: Mapping[str, Any]) -> str:
    threads = train.get("threads")
    return f"{train.get('device')}, {threads} thread{'' if threads == 1 else 's'}"


def models_table(evidence: Evidence) -> Piece:
    """Parameters as the runs counted them, beside the published language models."""
    rows: list[list[Value]] = []
    called = BACKBONES | names(evidence)
    for dataset, dataset_name in DATASETS.items():
        models = dict.fromkeys(
            [*BACKBONES, *(cell.identity[1] for cell in evidence.readable if cell.dataset == dataset and cell.finished)]
        )
        for model in models:
            cells = evidence.any_of(dataset, model)
            trains = [run.metrics["train"] for cell in cells for run in cell.finished if run.metrics is not None]
            counts = sorted({int(train["parameters"]) for train in trains if train.get("parameters")})
            if not counts:
                continue
            both = (train.get("trained_parameters", train.get("parameters")) for train in trains)
            trained = sorted({int(count) for count in both if count is not None})
            lengths = sorted(
                {
                    int(run.metrics["protocol"]["max_length"])
                    for c in cells
                    for run in c.finished
                    if run.metrics is not None and run.metrics["protocol"].get("max_length") is not None
                }
            )
            rows.append(
                [dataset_name, called.get(model, model), _range(counts), _range(trained), _range(lengths), "counted"]
            )
    for each in evidence.facts.language_models:
        size = f"{each.parameters:,.1f} M".replace(".0 M", " M")
        rows.append([None, f"{each.name} ({each.language_model})", size, None, None, "published"])
    return Piece(
        "table2",
        "Table 2: models",
        ["dataset", "model", "parameters", "trained", "latest events read", "where from"],
        rows,
        "Counted by the runs themselves, item vectors included.",
        commands=COMMANDS,
    )


def _range(values: list[int]) -> str:
    if not values:
        return "-"
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


METRICS = ("ndcg@5", "ndcg@10", "mrr@5", "mrr@10")
COMMANDS = (
    "python -m recsys_lt +experiment=paper/table3_beauty",
    "python -m recsys_lt +experiment=paper/table3_yelp",
)
_DATASETS = ("beauty", "yelp", "ml-1m")
_LOSSES = ("bpr", "bce", "ce", "sce")
_FIRST = ("dataset", "loss", "model", "setting", "seeds")
_OVER = ("% over best LLM, ours", "% over best LLM, published")


def main_table(evidence: Evidence) -> Piece:
    """Every cell of the table, ours beside the published, and by how much it exceeds the best language model."""
    rows: list[_Row] = []
    lacking = []
    for dataset in _DATASETS:
        of_language_models = [
            (name, model, cell)
            for model, name in names(evidence).items()
            for cell in own_runs(evidence, dataset, model)
        ]
        finished = any(cell.dataset == dataset for cell in evidence.finished)
        if dataset == "ml-1m" and not finished and not of_language_models:
            continue  # in the paper's second version only
        best = evidence.best_language_model(dataset)
        assert best is not None
        for each in evidence.facts.language_models:
            setting = "published" if each.masked else f"published, {UNMASKED}"
            rows.append(_Row(evidence, dataset, "LLM", each.name, each.model, None, best[1], setting))
        apart = unmasked(evidence)
        for name, model, cell in of_language_models:
            # What was published unmasked stands beside our unmasked ranking alone.
            beside = None if model in apart else model
            rows.append(_Row(evidence, dataset, "LLM", f"{name}, ours", beside, cell, best[1], made_of(cell)))
            if model in apart:
                setting = f"{made_of(cell)}, {UNMASKED}"
                rows.append(_Row(evidence, dataset, "LLM", f"{name}, ours", model, cell, None, setting, OF_UNMASKED))
        for loss in _LOSSES:
            for model, name in BACKBONES.items():
                own = evidence.as_published(dataset, model, loss)
                other = evidence.best_of_other_settings(dataset, model, loss)
                stands_in = other is not None and not evidence.falls_short(other)
                if own is None and not stands_in and dataset != "ml-1m":
                    lacking.append(f"python -m recsys_lt dataset={dataset} model={model} loss={loss}")
                rows.append(_Row(evidence, dataset, loss, name, model, own, best[1], "published"))
                if other is not None:
                    words = evidence.in_words(other)
                    rows.append(_Row(evidence, dataset, loss, name, model, other, best[1], words))
    parts = ("ours", "std", "published", "published std", "difference", "within")
    return Piece(
        "table3",
        "Table 3: small models with four losses beside recommenders made of language models, test metrics",
        [
            *_FIRST, *(f"{metric} {part}" for metric in METRICS for part in parts), *_OVER,
            *(f"{group} ndcg@10" for group in ("head", "mid", "tail")),
        ],
        [row.whole() for row in rows],
        "A metric's entry is ours / published (difference; NO where it is more than 3 %, our rule). Ours is a mean "
        "over the seeds named, ± their standard deviation; published is a mean over 5 seeds, of language models one "
        "run. What the seeds at hand can show stands in docs/results.md. % over the best language model "
        "compares NDCG@10 with the best published one on that dataset. Of other settings the best by validation "
        "NDCG@10 is shown, whatever it reached. Our own runs of language models stand here "
        "where they were trained and ranked on all of one of these datasets by Adam or AdamW, whichever model they are "
        "made of; the others are in Figure 4. P5 and POD were published with seen items in the ranking; these numbers "
        "stand beside those of our unmasked rankings alone. table3.csv has each number in a column of its own, and "
        "ours of head, mid and tail.",
        commands=COMMANDS,
        lacking=lacking,
        shown=Shown([*_FIRST, *METRICS, *_OVER], [row.in_short() for row in rows]),
    )  # fmt: skip


class _Row:
    """One model with one loss in one setting: ours, if it was run, and what was published of it."""

    def __init__(
        self, evidence: Evidence, dataset: str, loss: str, name: str, model: str | None, cell: Cell | None,
        best: float | None, setting: str, ranking: str = "",
    ) -> None:  # fmt: skip
        self.cell, self._ranking = cell, ranking
        self._known: dict[str, Published | None] = {}
        for metric in METRICS:
            if model is None:
                self._known[metric] = None
            elif loss == "LLM":
                self._known[metric] = evidence.facts.of_language_model(model, dataset, metric)
            else:
                self._known[metric] = evidence.facts.test(dataset, model, loss, metric)
        seeds = None if cell is None else " ".join(map(str, cell.seeds))
        self._first: list[Value] = [DATASETS[dataset], LOSSES.get(loss, loss), name, setting, seeds]
        gain, fact = mean(cell, "ndcg@10"), self._known["ndcg@10"]
        self._over: list[Value] = [
            None if gain is None or best is None else f"{gain / best - 1:+.0%}",
            None if fact is None or best is None or loss == "LLM" else f"{fact.mean / best - 1:+.0%}",
        ]

    def whole(self) -> list[Value]:
        """Each number in a column of its own."""
        numbers: list[Value] = []
        for metric, fact in self._known.items():
            ours, std = self._ours(metric)
            numbers += [ours, std, None if fact is None else fact.mean, None if fact is None else fact.std]
            numbers += [_difference(ours, fact), _within(ours, fact)]
        cell = None if self._ranking else self.cell  # unmasked, groups are not measured
        groups = (mean(cell, f"{group}/ndcg@10") for group in ("head", "mid", "tail"))
        return [*self._first, *numbers, *self._over, *groups]

    def in_short(self) -> list[Value]:
        """An entry a metric."""
        return [*self._first, *(self._entry(metric) for metric in METRICS), *self._over]

    def _ours(self, metric: str) -> tuple[float | None, float | None]:
        return (None, None) if self.cell is None else self.cell.mean_std(f"{self._ranking}{metric}")

    def _entry(self, metric: str) -> str:
        fact = self._known[metric]
        ours, std = self._ours(metric)
        text = "-" if ours is None else f"{ours:.4f}" + ("" if std is None else f" ±{std:.4f}")
        text += " / " + ("-" if fact is None else f"{fact.mean:.4f}")
        difference = _difference(ours, fact)
        if difference is None:
            return text
        return f"{text} ({difference}{'; NO' if _within(ours, fact) == 'NO' else ''})"


def _difference(ours: float | None, fact: Published | None) -> str | None:
    return None if ours is None or fact is None else f"{ours / fact.mean - 1:+.1%}"


def _within(ours: float | None, fact: Published | None) -> str | None:
    return None if ours is None or fact is None else "yes" if fact.agrees(ours) else "NO"


def datasets_table(evidence: Evidence) -> Piece:
    """Counts of what was trained and ranked on, from the protocol of every run."""
    protocols: dict[tuple[str, Any], dict[str, Any]] = {}
    for cell in evidence.readable:
        for run in cell.finished:
            if run.metrics is not None:
                protocols.setdefault(
                    (cell.dataset, run.metrics["protocol"].get("fingerprint")), run.metrics["protocol"]
                )
    rows: list[list[Value]] = []
    for (dataset, _), protocol in protocols.items():
        users, items, events = (int(protocol.get(key) or 0) for key in ("users", "items", "interactions"))
        if not (users and items and events):
            continue  # versions before did not write them all
        rows.append(
            [DATASETS.get(dataset, dataset), users, items, events, f"{events / users:.1f}",
             f"{events / users / items:.3%}", str(protocol.get("split") or "-")]
        )  # fmt: skip
    return Piece(
        "table4",
        "Table 4: datasets",
        ["dataset", "users", "items", "interactions", "a user's mean", "density", "split"],
        rows,
        "A dataset stands twice where runs read other data under one name.",
        commands=COMMANDS,
    )
