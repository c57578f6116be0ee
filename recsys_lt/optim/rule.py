"""Update rules: the base class, the gradient closure they evaluate, and plain training."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

import torch
from pydantic import PositiveFloat
from torch import Tensor

from recsys_lt.errors import UserError
from recsys_lt.optim.weighting import Weighting
from recsys_lt.system import package

Named = Mapping[str, torch.nn.Parameter]
#: One for each parameter given to ``UpdateRule.prepare``, in that order; None where there is none.
Gradients = list[Tensor | None]


class GradientClosure(Protocol):
    """Losses of the batches of a step, and their gradients; every call draws the same negatives and dropout masks."""

    def __call__(self, weights: Tensor | None, /) -> tuple[Tensor, list[Gradients]]:
        """Weighted mean losses, [W] and detached, and the gradients of each at the present parameters.

        Item weights are [W, I]; None for one row of ones. The caller may overwrite the gradients.
        """

    def targets(self) -> Tensor:
        """Item ids of the batches' targets, in any order and with repeats."""


class UpdateRule(ABC):
    """From the losses of a step to the gradients that a torch optimizer steps on.

    Raises UserError if the optimizer cannot be made, or cannot step on a gradient alone.

    Parameters
    ----------
    base
        The torch optimizer that takes the steps: its class, with settings other than the two below as keywords.
    lr
        Learning rate.
    weight_decay
        The optimizer's weight decay; None for an optimizer that has none.

    Attributes
    ----------
    sparse_gradients
        Whether the optimizer takes a large table's gradient as a sparse tensor of the rows in use.
    moves_parameters
        Whether the rule moves parameters itself, for which every process must hold all of them.
    per_step
        Whether the closure covers all batches of a step, and not one of them. The batches are then evaluated one
        after the other, so that memory is that of one.
    """

    sparse_gradients: bool = False
    moves_parameters: bool = False
    per_step: bool = False

    def __init__(
        self, base: Callable[..., torch.optim.Optimizer], lr: PositiveFloat, weight_decay: float | None = 0.0
    ) -> None:
        if not callable(base):
            raise UserError(f"it is {base!r}", where="optimizer.base", remedy=f"Choose one with optimizer/base={base}")
        self.base = base
        self.settings = {"lr": lr} if weight_decay is None else {"lr": lr, "weight_decay": weight_decay}
        for key in sorted(self.settings.keys() & getattr(base, "keywords", {}).keys()):
            raise UserError("it is given twice", where=f"optimizer.base.{key}", remedy=f"Use optimizer.{key} alone")
        self.item_weights: Tensor | None = None
        if package.only_ranks:
            return  # it will not train, and a trial step imports what takes a second
        unused = torch.nn.Parameter(torch.zeros(1))
        try:  # torch refuses here what it would refuse in training
            trial = self.build([unused])
            unused.grad = torch.zeros(1)
            trial.step()
        except (TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(reason, where="optimizer", remedy="Look at torch.optim for its settings") from error

    def prepare(self, parameters: Named, item_tables: Collection[Tensor], counts: Tensor) -> None:
        """Set up the rule for a model, once, before training.

        Given are what is trained, by name, the parameters among it with one row an item, and the items' training
        interactions [I].
        """
        weights = self.weights_of(counts)
        self.item_weights = None if weights is None else torch.stack(weights)

    def weights_of(self, counts: Tensor) -> tuple[Tensor, ...] | None:
        """Item weights that the rule evaluates the loss under, [I] each; None where all items count alike."""
        return None

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimizer of these parameters; item weights move to their device."""
        parameters = list(parameters)
        if self.item_weights is not None:
            self.item_weights = self.item_weights.to(parameters[0].device)
        return self.base(parameters, **self.settings)

    @abstractmethod
    def gradients(self, closure: GradientClosure) -> tuple[Tensor, Gradients]:
        """The plain mean loss, a detached scalar, and the gradients to step on."""

    def overflowed(self) -> None:  # noqa: B027
        """Note that the last gradients were not finite and no step was taken (fp16: the scale is lowered)."""

    def state_dict(self) -> dict[str, Any]:
        """State that a later step depends on besides parameters and optimizer: tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Restore what ``state_dict`` gave."""


def added(gradients: Gradients, others: Gradients) -> Gradients:
    """Sums of gradients; the first ones may be overwritten."""
    return [
        one if other is None else other if one is None else one.add_(other)
        for one, other in zip(gradients, others, strict=True)
    ]


class Plain(UpdateRule):
    """A torch optimizer on the gradient of the mean loss.

    Parameters
    ----------
    base, lr, weight_decay
        See ``UpdateRule``. ``torch.optim.Adam`` adds its decay to the gradient (coupled L2, as in the published runs);
        ``torch.optim.AdamW`` takes ``lr * weight_decay`` off each weight.
    """

    def __init__(self, *of_rule: Any, **by_name: Any) -> None:
        super().__init__(*of_rule, **by_name)
        self.sparse_gradients = getattr(getattr(self.base, "func", self.base), "sparse_gradients", False)

    def gradients(self, closure: GradientClosure) -> tuple[Tensor, Gradients]:
        totals, (gradients,) = closure(self.item_weights)
        return totals[0], gradients


class Reweighted(Plain):
    """A torch optimizer on the mean of f(n_{y_b}) l_b instead of l_b: inverse-frequency weighting.

    For f see ``Weighting``: ``power`` with gamma 1 is the inverse frequency, clipped.
    """

    def __init__(
        self, *of_rule: Any, weighting: str = "power", gamma: float = 1.0, normalise: bool = True, **by_name: Any
    ) -> None:
        super().__init__(*of_rule, **by_name)
        self.weighting = Weighting(weighting, gamma, normalise)

    def weights_of(self, counts: Tensor) -> tuple[Tensor, ...]:
        return (self.weighting(counts),)
