"""The door every optimizer comes through."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

# One for each parameter that was told to ``prepare``, in that order; None where it has none.
Gradients = list[Tensor | None]


class Ask(Protocol):
    """What a rule may ask about the batches of a step. Asking again is pure: same negatives, same dropout."""

    def __call__(self, weights: Tensor | None, /) -> tuple[Tensor, list[Gradients]]:
        """Item weights [W, I] (None: one row of ones) -> totals [W], detached, and the gradients of each of them.

        The gradients are the asker's to overwrite.
        """

    def targets(self) -> Tensor:
        """Whose losses the totals are means of: item ids, in no order and with repeats."""


class UpdateRule(ABC):
    """Turns what a batch's totals are, and their gradients, into the gradients a torch optimizer steps on.

    Attributes
    ----------
    rows
        Whether its optimizer takes a large table's gradient as the rows a step touches (a sparse tensor).
    moves
        Whether it moves the parameters itself, for which every process must hold all of them.
    whole_step
        Whether it is to be asked once a step, about all of its batches together, and not for each of them; they are
        then evaluated one after the other as often as it asks, so that memory is that of one.
    """

    rows: bool = False
    moves: bool = False
    whole_step: bool = False

    def prepare(self, parameters: Mapping[str, torch.nn.Parameter], counts: Tensor) -> None:  # noqa: B027
        """Told once, before anything is evaluated, what is trained and on how many interactions of each item, [I]."""

    @abstractmethod
    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Make the torch optimizer that takes the steps."""

    @abstractmethod
    def gradients(self, ask: Ask) -> tuple[Tensor, Gradients]:
        """Give the plain total, a detached scalar, and what is to be stepped on."""

    def overflowed(self) -> None:  # noqa: B027
        """Told that its last gradients were not finite and no step was taken (fp16: the scale is lowered)."""

    def state_dict(self) -> dict[str, Any]:
        """What a later call depends on besides parameters and optimizer: tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Go on from what ``state_dict`` gave."""


def added(gradients: Gradients, others: Gradients) -> Gradients:
    """Their sums; the first may be overwritten."""
    return [
        one if other is None else other if one is None else one.add_(other)
        for one, other in zip(gradients, others, strict=True)
    ]
