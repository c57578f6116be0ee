"""The door every optimizer comes through."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

# Totals [W] under item weights [W, I] (None: one row of ones). Asking again is pure: same negatives, same dropout.
Evaluate = Callable[[Tensor | None], Tensor]
# Adds the gradient of a scalar to the parameters' ``.grad``.
Backward = Callable[[Tensor], None]


class UpdateRule(ABC):
    """Turns evaluations of a batch's totals into gradients for a torch optimizer to step on.

    Attributes
    ----------
    rows
        Whether its optimizer takes a large table's gradient as the rows a step touches (a sparse tensor).
    """

    rows: bool = False

    @abstractmethod
    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Make the torch optimizer that takes the steps."""

    @abstractmethod
    def accumulate(self, evaluate: Evaluate, backward: Backward) -> Tensor:
        """Add one (micro-)batch's gradient to ``.grad`` and return its plain total, a detached scalar."""
