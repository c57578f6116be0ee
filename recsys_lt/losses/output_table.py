"""What states are scored against."""

from typing import NamedTuple

from torch import Tensor


class OutputTable(NamedTuple):
    """Score of item v for a state h: ``weight[v] . h + bias[v]``.

    Parameters
    ----------
    weight
        [I, d].
    bias
        [I], or None for none.
    sparse
        Whether a loss that reads few of the rows may return the gradients of those alone, as a sparse tensor.
    """

    weight: Tensor
    bias: Tensor | None = None
    sparse: bool = False
