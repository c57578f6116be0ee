"""The door every optimizer comes through."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

# Totals [W] under item weights [W, I] (None: one row of ones). Asking again is pure: same negatives, same dropout.
Evaluate = Callable[[Tensor | None], Tensor]


class Backward(Protocol):
    """Adds the gradient of a scalar to the parameters' ``.grad``."""

    def __call__(self, total: Tensor, /, *, retain_graph: bool = False) -> None:
        """``retain_graph`` if another total of the same evaluation is to come."""


class UpdateRule(ABC):
    """Turns evaluations of a batch's totals into gradients for a torch optimizer to step on.

    Attributes
    ----------
    rows
        Whether its optimizer takes a large table's gradient as the rows a step touches (a sparse tensor).
    moves
        Whether it moves the parameters itself, for which every process must hold all of them.
    """

    rows: bool = False
    moves: bool = False

    def prepare(self, parameters: Mapping[str, torch.nn.Parameter], counts: Tensor) -> None:  # noqa: B027
        """Told once, before anything is evaluated, what is trained and on how many interactions of each item, [I]."""

    @abstractmethod
    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Make the torch optimizer that takes the steps."""

    @abstractmethod
    def accumulate(self, evaluate: Evaluate, backward: Backward) -> Tensor:
        """Add one (micro-)batch's gradient to ``.grad`` and return its plain total, a detached scalar."""

    def state_dict(self) -> dict[str, Any]:
        """What a later call depends on besides parameters and optimizer: tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Go on from what ``state_dict`` gave."""
