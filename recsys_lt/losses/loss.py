"""The one signature every loss has."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from recsys_lt.data.needs import HasNeeds
from recsys_lt.errors import UserError
from recsys_lt.losses.blocks import Pass, weighted_means
from recsys_lt.losses.output_table import OutputTable, Scorer

if TYPE_CHECKING:
    from recsys_lt.losses.answering import Answering


@dataclass(frozen=True)
class Draw:
    """What a batch brings for a loss that draws negatives, or compares with models that are not trained.

    Each target has a random stream (``keys`` [N]); ``step_key`` is that of draws shared by the whole batch (over all
    ranks). ``rows`` [N] are the targets' rows in ``seen_offsets`` [B + 1]: each row's distinct training items are in
    ascending order in ``seen_items`` [S]; None where the loss does not ask (``needs_seen``). ``frozen`` is what the
    models of ``Loss.compared`` say of the same targets.
    """

    keys: Tensor
    step_key: int
    rows: Tensor
    seen_items: Tensor | None = None
    seen_offsets: Tensor | None = None
    frozen: "Mapping[str, Answering]" = field(default_factory=dict)


class Loss(HasNeeds, ABC):
    """N states against their targets -> W weighted means, and each target's own loss.

    Attributes
    ----------
    needs_seen
        Whether ``draw`` must carry the rows' training items.
    compared
        Scored models whose states of the targets ``draw`` must carry, by name; set in ``prepare``.
    has_health
        Whether ``health`` has numbers to log.
    of_answers
        Whether it trains any model that gives log-probabilities of items (``by_answers``).
    needs_scores
        Whether it needs a model that scores all items at once.
    cosine
        Whether scores are cosines, by which the model then ranks too (``Backbone.scorer``).
    mean_tokens
        Whether the log-probability of a title that it wants is the mean over its tokens; else the sum.
    """

    needs_seen: bool = False
    compared: Mapping[str, Any] = MappingProxyType({})
    has_health: bool = False
    of_answers: ClassVar[bool] = False
    needs_scores: bool = False
    cosine: bool = False
    mean_tokens: bool = False

    def check(self, n_items: int) -> None:
        """Raise UserError if the loss cannot be used with a catalogue of ``n_items``."""

    def prepare(self, counts: Tensor, needs: Mapping[str, Any] | None = None) -> None:
        """Take the items' training interactions, [I], and what was made for ``needs``, before the first evaluation."""

    def health(self, states: Tensor, targets: Tensor, table: OutputTable, draw: Draw) -> Mapping[str, Tensor]:
        """Means over a batch's targets that say how training goes, by name; called on few batches, without gradients.

        Parameters as in ``__call__``.
        """
        return {}

    def by_blocks(
        self, states: Tensor, targets: Tensor, scorer: Scorer, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Evaluate the loss of scores that are no dot products, as ``__call__``; most losses cannot.

        States are [N, ...], as the scorer of the catalogue takes them.
        """
        what = f"{type(self).__name__} needs items that are scored by their vectors, and this model's are not"
        remedy = "Choose loss=ce, or let the model's output_table return an OutputTable"
        raise UserError(what, where="loss", remedy=remedy)

    def answer_health(self, model: "Answering", targets: Tensor, draw: Draw) -> Mapping[str, Tensor]:
        """``health`` of a loss of answers."""
        return {}

    def by_answers(
        self, model: "Answering", targets: Tensor, weights: Tensor | None, draw: Draw
    ) -> tuple[Tensor, Tensor]:
        """Evaluate the loss of what a model gives items, as ``__call__``; most losses cannot (``of_answers``)."""
        raise TypeError(f"{type(self).__name__} is no loss of answers")

    @abstractmethod
    def __call__(
        self,
        states: Tensor,
        targets: Tensor,
        table: OutputTable,
        weights: Tensor | None = None,
        draw: Draw | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Evaluate the loss.

        Parameters
        ----------
        states
            [N, d].
        targets
            Item ids, [N] int64.
        table
            What the states are scored against: weight [I, d], bias [I] or None.
        weights
            [W, N]; None is one row of ones.
        draw
            Where negatives come from; needed by the sampled losses alone.

        Returns
        -------
        totals
            ``weights @ losses / N``, [W], differentiable in states and table (once).
        losses
            One for each target, [N], detached.
        """


class PassLoss(Loss):
    """A loss of which a ``Pass`` forms the gradients as it goes."""

    @abstractmethod
    def one_pass(self, targets: Tensor, n_items: int, draw: Draw | None) -> Pass:
        """The pass that evaluates the loss of these targets."""

    def adjusted(self, table: OutputTable) -> OutputTable:
        """The table whose scores the loss is of."""
        return table

    def __call__(
        self,
        states: Tensor,
        targets: Tensor,
        table: OutputTable,
        weights: Tensor | None = None,
        draw: Draw | None = None,
    ) -> tuple[Tensor, Tensor]:
        one_pass = self.one_pass(targets, len(table.weight), draw)
        return weighted_means(states, targets, self.adjusted(table), weights, one_pass)


class Own(Loss):
    """Placeholder where a model with an objective of its own needs no loss; no other model takes it."""

    def __call__(self, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Raise TypeError: such a model has no states to score."""
        raise TypeError("loss=own is no function of states")
