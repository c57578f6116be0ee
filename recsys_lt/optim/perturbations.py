"""Perturbations of sharpness-aware rules: the step within a neighbourhood that raises the loss most, to first order."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

Targets = Callable[[], Tensor]  # item ids, with repeats

_EPSILON = 1e-12  # as in the published code: a gradient of zero moves nothing


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of several tensors together, in float32."""
    return torch.stack([tensor.float().norm() for tensor in tensors]).norm()


class Perturbation(ABC):
    """A neighbourhood of the parameters, of radius rho."""

    def __init__(self, rho: float) -> None:
        self.rho = rho

    @abstractmethod
    def steps(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        """What to add to each parameter.

        The gradients are those of the loss to raise, and may be overwritten; ``targets`` gives the items whose losses
        make it up.
        """


class Joint(Perturbation):
    """One ball for all parameters: rho g / |g| (Foret et al., ICLR 2021, equation 2)."""

    def steps(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        factor = self.rho / (_norm(gradients) + _EPSILON)
        return [gradient.mul_(factor) for gradient in gradients]


class PerTensor(Perturbation):
    """A ball for each tensor with a radius of rho times the tensor's norm, so that it grows with the weights."""

    def steps(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        return [
            gradient.mul_(self.rho * _norm([parameter]) / (_norm([gradient]) + _EPSILON))
            for parameter, gradient in zip(parameters, gradients, strict=True)
        ]


class Adaptive(Perturbation):
    """ASAM's ellipsoid: rho T^2 g / |T g|, T = |w| + eta for weights and 1 for biases (Kwon et al., ICML 2021)."""

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


class PerItem(Perturbation):
    """A ball for each item in the item tables, and one for all other parameters. Our reconstruction.

    Item i's row of a table (``tables`` says which parameters are one) moves by rho f_i s_i g_i / |g_i|: item-wise in
    the literal sense, at no further pass. f are the item weights [I]; s is the row's norm where radii are relative,
    else 1. By default only the targets of the batch move (``every_item``: all do). In the many batches that have no
    target of a rare item, its gradient is that of a negative, whatever f is: the row would move to where the item is
    scored higher, and be trained down.
    """

    def __init__(
        self, rho: float, item_weights: Tensor, tables: Sequence[bool], relative: bool, every_item: bool = False
    ) -> None:
        super().__init__(rho)
        self.item_weights, self.tables, self.relative, self.every_item = item_weights, tables, relative, every_item

    def steps(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        others = [gradient for gradient, table in zip(gradients, self.tables, strict=True) if not table]
        rest = self.rho / (_norm(others) + _EPSILON) if others else None
        self.item_weights = self.item_weights.to(gradients[0].device)
        reach = self.rho * self.item_weights
        if not self.every_item:
            ids = targets()
            reach = torch.zeros_like(reach).index_copy_(0, ids, reach[ids])
        steps = []
        for parameter, gradient, table in zip(parameters, gradients, self.tables, strict=True):
            if not table:
                assert rest is not None
                factor = rest * _norm([parameter]) if self.relative else rest
                steps.append(gradient.mul_(factor))
                continue
            by_item = gradient.flatten(1) if gradient.dim() > 1 else gradient.unsqueeze(1)
            radius = reach
            if self.relative:
                radius = radius * parameter.view_as(by_item).norm(dim=1)
            by_item.mul_((radius / (by_item.norm(dim=1) + _EPSILON)).unsqueeze(1))
            steps.append(gradient)
        return steps


@contextmanager
def perturbed(parameters: Sequence[torch.nn.Parameter], steps: Sequence[Tensor]) -> Iterator[None]:
    """Parameters moved by their steps inside the block, restored bit for bit after it; the steps' memory is freed."""
    kept = [p.detach().clone() for p in parameters]
    try:
        with torch.no_grad():
            for p, step in zip(parameters, steps, strict=True):
                p.add_(step)
        del steps, step  # the next gradients take their memory
        yield
    finally:
        with torch.no_grad():
            for p, was in zip(parameters, kept, strict=True):
                p.copy_(was)  # w + e - e is not w
