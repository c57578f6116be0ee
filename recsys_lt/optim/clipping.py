"""Clipping by the norm of all gradients, those of rows among them."""

from collections.abc import Iterable

import torch
from torch import Tensor


def clip_norm(parameters: Iterable[torch.nn.Parameter], largest: float) -> Tensor:
    """Scale all gradients so that their joint norm is at most ``largest``, as ``torch.nn.utils.clip_grad_norm_``.

    That function takes no sparse gradients. Here they count by their rows, once each row's parts are summed.

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
