"""Plain training and loss reweighting: one evaluation a step."""

from typing import Any

from torch import Tensor

from recsys_lt.optim.rule import GradientClosure, Gradients, UpdateRule
from recsys_lt.optim.weighting import Weighting


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

    Parameters
    ----------
    weighting, gamma, normalise
        f: see ``Weighting``. ``power`` with gamma 1 is the inverse frequency, clipped.
    """

    def __init__(
        self, *of_rule: Any, weighting: str = "power", gamma: float = 1.0, normalise: bool = True, **by_name: Any
    ) -> None:
        super().__init__(*of_rule, **by_name)
        self.weighting = Weighting(weighting, gamma, normalise)

    def weights_of(self, counts: Tensor) -> tuple[Tensor, ...]:
        return (self.weighting(counts),)
