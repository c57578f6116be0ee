"""Gradient clipping by the joint norm, with sparse gradients."""

from collections.abc import Iterable

import torch
from torch import Tensor


def clip_norm(parameters: Iterable[torch.nn.Parameter], largest: float) -> Tensor:
    """Scale all gradients so that their joint norm is at most ``largest``.

    As ``torch.nn.utils.clip_grad_norm_``, which takes no sparse gradients. The rows of these count once their repeats
    are summed.

    Returns
    -------
    The norm before, a scalar.
    """
    values = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            values.append(parameter.grad.values())
        else:
            values.append(parameter.grad)
    norm = torch.nn.utils.get_total_norm(values)
    scale = (largest / (norm + 1e-6)).clamp(max=1.0)
    for value in values:
        value.mul_(scale)
    return norm
