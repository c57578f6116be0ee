"""How far up a gradient the parameters go: what shape the neighbourhood has in which the loss is to be flat."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Targets = Callable[[], Tensor]  # item ids, with repeats

_EPSILON = 1e-12  # as in the published code: a gradient of zero moves nothing


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of all of them together, in float32."""
    return torch.stack([tensor.float().norm() for tensor in tensors]).norm()


class Ball(ABC):
    """The neighbourhood: where in it the loss is largest, to first order.

    Parameters
    ----------
    rho
        Its radius.
    """

    def __init__(self, rho: float) -> None:
        self.rho = rho

    @abstractmethod
    def steps(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        """What to add to each parameter; may overwrite the gradients. ``targets``: the items whose loss it is."""


class Shared(Ball):
    """One ball for all parameters: rho g / |g| (Foret et al., ICLR 2021, equation 2)."""

    def steps(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        factor = self.rho / (_norm(gradients) + _EPSILON)
        return [gradient.mul_(factor) for gradient in gradients]


class PerTensor(Ball):
    """A ball for each tensor, its radius rho times the tensor's own norm, so that none is too small as weights grow."""

    def steps(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        return [
            gradient.mul_(self.rho * _norm([parameter]) / (_norm([gradient]) + _EPSILON))
            for parameter, gradient in zip(parameters, gradients, strict=True)
        ]


class Adaptive(Ball):
    """ASAM's ellipsoid: rho T^2 g / |T g|, T = |w| + eta for weights and 1 for biases (Kwon et al., ICML 2021).

    Parameters
    ----------
    rho
        Its radius.
    eta
        Keeps T from zero.
    weights
        Which of the parameters are weights.
    """

    def __init__(self, rho: float, eta: float, weights: Sequence[bool]) -> None:
        super().__init__(rho)
        self.eta, self.weights = eta, weights

    def steps(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        scales = [
            parameter.abs().add_(self.eta) if weight else torch.ones_like(parameter)
            for parameter, weight in zip(parameters, self.weights, strict=True)
        ]
        for gradient, scale in zip(gradients, scales, strict=True):
            gradient.mul_(scale)
        factor = self.rho / (_norm(gradients) + _EPSILON)
        return [gradient.mul_(scale).mul_(factor) for gradient, scale in zip(gradients, scales, strict=True)]


class Rows(Ball):
    """Every item its own ball in the item tables, the other parameters one together.

    Row i of a table goes rho f_i s_i g_i / |g_i|: in the literal sense item-wise, and no pass more. Our reconstruction.
    An item's ball is about its own loss, so by default only the rows of the batch's targets go anywhere. What a batch
    tells of any other row is that of a negative: it would go to where it is scored higher, whatever f says of it, in
    all of the many batches that have no target of a rare item, and be trained down for it.

    Parameters
    ----------
    rho
        Radius of the shared ball, and of a row's where f and s are 1.
    item_weights
        f, [I].
    tables
        Which of the parameters are item tables: one row an item.
    relative
        Whether s is the row's norm (and radii are relative); else 1.
    every_row
        Whether rows of items that are no target of the batch go too.
    """

    def __init__(
        self, rho: float, item_weights: Tensor, tables: Sequence[bool], relative: bool, every_row: bool = False
    ) -> None:
        super().__init__(rho)
        self.item_weights, self.tables, self.relative, self.every_row = item_weights, tables, relative, every_row

    def steps(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        others = [gradient for gradient, table in zip(gradients, self.tables, strict=True) if not table]
        rest = self.rho / (_norm(others) + _EPSILON) if others else None
        reach = self.rho * self.item_weights
        if not self.every_row:
            ids = targets()
            reach = torch.zeros_like(reach, device=ids.device).index_copy_(0, ids, reach.to(ids.device)[ids])
        steps = []
        for parameter, gradient, table in zip(parameters, gradients, self.tables, strict=True):
            if not table:
                assert rest is not None
                factor = rest * _norm([parameter]) if self.relative else rest
                steps.append(gradient.mul_(factor))
                continue
            rows = gradient.flatten(1) if gradient.dim() > 1 else gradient.unsqueeze(1)
            radius = reach.to(gradient.device)
            if self.relative:
                radius = radius * parameter.view_as(rows).norm(dim=1)
            rows.mul_((radius / (rows.norm(dim=1) + _EPSILON)).unsqueeze(1))
            steps.append(gradient)
        return steps
