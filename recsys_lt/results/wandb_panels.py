"""What the W&B workspace shows: sections of panels over the keys that ``WandbLogger`` writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

# wandb-workspaces is imported where a panel is made, so that what is shown can be told without it.
if TYPE_CHECKING:
    from wandb_workspaces.reports.v2.interface import Panel as Drawn

#: Of a run's config. What these have in common is a cell, its runs (seeds) one bar or line of a panel.
GROUPED_BY = ("dataset", "model", "loss", "optimizer")
#: W&B's own limit is ten runs, fewer than a small sweep has.
MOST = 100


class Panel(Protocol):
    """One panel of a workspace."""

    kind: ClassVar[str]

    @property
    def title(self) -> str: ...

    @property
    def keys(self) -> tuple[str, ...]:
        """What it reads of a run."""

    def drawn(self) -> Drawn:
        """The panel as wandb-workspaces has it."""


@dataclass(frozen=True)
class Bars:
    """A bar a cell: a final result, its mean over the cell's runs and their standard deviation."""

    title: str
    key: str
    kind: ClassVar[str] = "bars"

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key,)

    def drawn(self) -> Drawn:
        from wandb_workspaces.reports.v2 import BarPlot

        return BarPlot(
            title=self.title,
            metrics=[self.key],
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            max_runs_to_show=MOST,
            max_bars_to_show=MOST,
        )


@dataclass(frozen=True)
class Curve:
    """A line a cell: what every epoch logs, as it is."""

    title: str
    key: str
    kind: ClassVar[str] = "curve"

    @property
    def keys(self) -> tuple[str, ...]:
        return ("epoch", self.key)

    def drawn(self) -> Drawn:
        from wandb_workspaces.reports.v2 import LinePlot

        return LinePlot(
            title=self.title,
            x="epoch",
            y=[self.key],
            title_x="completed epochs",
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            smoothing_type="none",
            max_runs_to_show=MOST,
        )


@dataclass(frozen=True)
class Points:
    """A point a cell: one final result against another."""

    title: str
    x: str
    y: str
    kind: ClassVar[str] = "points"

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.x, self.y)

    def drawn(self) -> Drawn:
        from wandb_workspaces.reports.v2 import ScatterPlot

        return ScatterPlot(title=self.title, x=self.x, y=self.y)


@dataclass(frozen=True)
class Pictures:
    """A picture a run, as its folder has it."""

    title: str
    key: str
    kind: ClassVar[str] = "pictures"

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key,)

    def drawn(self) -> Drawn:
        from wandb_workspaces.reports.v2 import MediaBrowser

        return MediaBrowser(title=self.title, media_keys=[self.key])


@dataclass(frozen=True)
class Section:
    """Panels under one heading, all on one page of it."""

    name: str
    columns: int
    panels: tuple[Panel, ...]
    is_open: bool = True

    @property
    def rows(self) -> int:
        return -(-len(self.panels) // self.columns)


SECTIONS = (
    Section(
        "Accuracy",
        2,
        (
            Bars("Test NDCG@10", "test/ndcg@10"),
            Bars("Test HR@10", "test/hr@10"),
            Bars("Test MRR@10", "test/mrr@10"),
            Bars("Validation NDCG@10 of the best epoch", "valid/ndcg@10"),
        ),
    ),
    Section(
        "Long tail",
        4,
        (
            Bars("Test NDCG@10, head", "test/head/ndcg@10"),
            Bars("Test NDCG@10, mid", "test/mid/ndcg@10"),
            Bars("Test NDCG@10, tail", "test/tail/ndcg@10"),
            Bars("Test NDCG@10, nonhead (mid and tail)", "test/nonhead/ndcg@10"),
            Bars("Share of the lists of ten, head", "test/head/exposure@10"),
            Bars("Share of the lists of ten, mid", "test/mid/exposure@10"),
            Bars("Share of the lists of ten, tail", "test/tail/exposure@10"),
            Points("Nonhead against head, test NDCG@10", "test/head/ndcg@10", "test/nonhead/ndcg@10"),
            Bars("Gini@10 of exposure (0: all items alike)", "test/gini@10"),
            Bars("Coverage@10 of the catalogue", "test/coverage@10"),
            Bars("ARP@10 (mean training count of what is recommended)", "test/arp@10"),
            Bars("APLT@10 (share of tail items in a list)", "test/aplt@10"),
        ),
    ),
    Section(
        "Learning curves",
        3,
        (
            Curve("Validation NDCG@10", "valid/ndcg@10"),
            Curve("Training loss", "train/loss"),
            Curve("Validation HR@10", "valid/hr@10"),
            Curve("Validation NDCG@10, head", "valid/head/ndcg@10"),
            Curve("Validation NDCG@10, mid", "valid/mid/ndcg@10"),
            Curve("Validation NDCG@10, tail", "valid/tail/ndcg@10"),
        ),
    ),
    Section(
        "Cost",
        4,
        (
            Bars("Seconds an epoch (median)", "train/seconds_per_epoch"),
            Bars("Targets a second", "train/targets_per_second"),
            Bars("Peak memory of the process, MiB", "train/peak_rss_mb"),
            Bars("Trained parameters", "train/trained_parameters"),
            Bars("Best epoch", "best_epoch"),
            Bars("Seconds a validation (median)", "train/eval_seconds"),
            Curve("Seconds of each epoch", "seconds"),
            Points("Test NDCG@10 against seconds an epoch", "train/seconds_per_epoch", "test/ndcg@10"),
        ),
    ),
    Section(
        "Pictures",
        2,
        (
            Pictures("Learning curve", "learning_curve"),
            Pictures("NDCG@10 by popularity of the target", "ndcg_by_popularity"),
            Pictures("Along the tail, tenth by tenth", "long_tail"),
            Pictures("NDCG@10 by length of history", "history_length"),
        ),
        is_open=False,  # a picture a run: a sweep's take long to load
    ),
)

#: Results beside the names of the cells; ``finished`` is false for a run stopped by Ctrl-C, which W&B calls finished.
COLUMNS = ("test/ndcg@10", "test/hr@10", "test/nonhead/ndcg@10", "train/seconds_per_epoch", "best_epoch", "finished")
