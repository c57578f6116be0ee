"""Settings of training, item groups and metrics, which a configuration is checked against."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.metrics.groups import SHARES, ItemGroups
from recsys_lt.metrics.own import Metric

_MOST_PROCESSES = 1024


@dataclass(frozen=True)
class TrainerSettings:
    """Settings of the training: epochs, batches, validations.

    Parameters
    ----------
    max_epochs
        Epochs to train.
    devices
        Processes, each with a device of its own.
    batch_rows
        Training examples a batch, over all devices: users for SASRec, prefixes for the models that learn from
        them.
    accumulate
        Batches whose gradients make one step.
    clip
        Largest gradient norm; None for no clipping.
    eval_every
        Epochs between validations; the last epoch is always evaluated.
    eval_untrained
        Whether to evaluate epoch 0 too, before the first step, as published. On large data that takes as long as
        any validation.
    max_train_rows
        Rows of an epoch, drawn anew in each; None for all of them.
    patience
        Stop after so many validations without a better NDCG@10; None to train all epochs, as published.
    num_workers
        Processes that make batches; results do not depend on it.
    rank_rows
        Users ranked at a time; results do not depend on it.
    test
        Whether the best epoch is tested. Without a test a run has validation metrics alone, as in a search.
    """

    max_epochs: NonNegativeInt
    devices: Annotated[PositiveInt, Field(le=_MOST_PROCESSES)] = 1
    batch_rows: PositiveInt = 512
    accumulate: PositiveInt = 1
    clip: PositiveFloat | None = None
    eval_every: PositiveInt = 5
    eval_untrained: bool = True
    max_train_rows: PositiveInt | None = None
    patience: PositiveInt | None = None
    num_workers: Annotated[NonNegativeInt, Field(le=_MOST_PROCESSES)] = 0
    rank_rows: PositiveInt = 512
    test: bool = True

    def evaluates(self, epoch: int) -> bool:
        """Whether epoch ``epoch`` (completed epochs, at least one) is followed by a validation."""
        return epoch % self.eval_every == 0 or epoch == self.max_epochs


_WINDOW = re.compile(r"([1-9][0-9]*)([hdw])")
_SECONDS = {"h": 3_600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True)
class GroupSettings:
    """Settings of the groups of items: head, mid and tail.

    Parameters
    ----------
    shares
        Shares of the catalogue in head, mid and tail, by training interactions.
    window
        Count only the training interactions of the last so many days, hours or weeks (``90d``, ``12h``, ``8w``) up
        to the latest of all; None for all of them. An item without any in the window is tail; among equals, the one
        with more of all time comes first.
    """

    shares: Sequence[float] = SHARES
    window: str | int | None = None  # a bare number is refused in words of its own

    def __post_init__(self) -> None:
        if len(self.shares) != 3 or min(self.shares) <= 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise UserError(
                f"they are {list(self.shares)}",
                where="metrics.groups.shares",
                remedy="Give three positive shares that sum to 1, such as [0.2,0.6,0.2]",
            )
        if self.window is not None and not _WINDOW.fullmatch(str(self.window)):
            raise UserError(
                f"it is {self.window!r}",
                where="metrics.groups.window",
                remedy="Give a whole number of days, hours or weeks, such as 90d, 12h or 8w, or null",
            )

    def of(self, data: Sequences) -> ItemGroups:
        """The groups of a dataset's items; UserError for a window of data without times."""
        if self.window is None:
            return ItemGroups(data.popularity, self.shares)
        if data.times is None:
            raise UserError(
                f"{data.name} does not say when its events happened",
                where="metrics.groups.window",
                remedy="Set it to null, or use data with timestamps",
            )
        match = _WINDOW.fullmatch(str(self.window))
        assert match is not None
        counts = data.popularity_within(int(match[1]) * _SECONDS[match[2]])
        return ItemGroups(
            counts,
            self.shares,
            ties=data.popularity,
            by=f"training interactions of the last {self.window}",
            share=f"{counts.sum():,} of {data.popularity.sum():,}",
        )


@dataclass(frozen=True)
class MetricsSettings:
    """Settings of the evaluation.

    Parameters
    ----------
    mask_seen
        ``published``: a user's earlier items cannot be recommended, a repeated target included;
        ``keep_target``: all of them but the target; ``none`` (as published for Yelp: conf/protocol).
    groups
        Head, mid and tail.
    ks
        List lengths.
    max_users
        Rank for so many users alone, the same ones for every model and seed; None for all.
    extra
        Metrics of your own, by name.
    """

    mask_seen: Literal["published", "keep_target", "none"] = "published"
    groups: GroupSettings = field(default_factory=GroupSettings)
    ks: Sequence[PositiveInt] = (1, 5, 10, 20)
    max_users: PositiveInt | None = None
    extra: Mapping[str, Metric] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if 10 not in self.ks:
            raise UserError(
                f"10 is not among {list(self.ks)}",
                where="metrics.ks",
                remedy="Keep 10: the best epoch is chosen by validation NDCG@10",
            )

    def check(self, n_items: int) -> None:
        """Raise UserError where a list would be longer than the catalogue.

        10 is always allowed: of a smaller catalogue it is a list of all items, and NDCG@10 still chooses the epoch.
        """
        largest = max(n_items, 10)
        if max(self.ks) > largest:
            fitting = ",".join(str(k) for k in sorted({10, *(k for k in self.ks if k <= largest)}))
            raise UserError(
                f"k = {max(self.ks)} is larger than the catalogue of {n_items:,} items",
                where="metrics.ks",
                remedy=f"Use ks of at most {largest}, such as metrics.ks=[{fitting}]",
            )
