"""Item weights: functions of an item's number of training interactions."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from recsys_lt.errors import UserError

HEAD = 0.2  # share of the catalogue to which ``step`` gives weight 0: the most popular items
_LEAST, _MOST = 0.1, 10.0
_BETA = 0.999


def _power(n: Tensor, gamma: float) -> Tensor:
    seen = n[n > 0]
    median = seen.median() if len(seen) else torch.ones((), dtype=n.dtype)
    return (median / n.clamp(min=1)).pow(gamma).clamp(_LEAST, _MOST)


def _step(n: Tensor, _gamma: float) -> Tensor:
    tail = torch.ones_like(n)
    # Ties by item id, as in the groups of the metrics.
    tail[torch.sort(n, descending=True, stable=True).indices[: math.floor(HEAD * len(n) + 0.5)]] = 0
    return tail


_WEIGHTINGS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "power": _power,
    "effective": lambda n, _gamma: (1 - _BETA) / (1 - _BETA ** n.clamp(min=1)),
    "focal": lambda n, gamma: (1 - n / n.sum().clamp(min=1)).pow(gamma),
    "focal_max": lambda n, gamma: (1 - n / (n.max() + 1)).pow(gamma),
    "step": _step,
    "uniform": lambda n, _gamma: torch.ones_like(n),
}


class Weighting:
    """f(n) of an item with n training interactions.

    ``power`` (n_median / n)^gamma, within [0.1, 10]; ``effective`` (1 - beta) / (1 - beta^n), beta = 0.999 (Cui et al.,
    CVPR 2019); ``focal`` (1 - n / sum n)^gamma (Focal-SAM, arXiv 2505.01660); ``focal_max`` (1 - n / (max n +
    1))^gamma; ``step`` 0 for the most popular 20 % of the items and 1 for the others (ImbSAM, arXiv 2308.07815);
    ``uniform`` 1. Raises UserError for an unknown name, or a negative gamma.

    Parameters
    ----------
    name
        Name of one of these functions.
    gamma
        Exponent of ``power``, ``focal`` and ``focal_max``. That of ``power`` may be negative: frequent items then
        weigh more.
    normalise
        Scale f so that its mean over the training interactions is 1.
    """

    def __init__(self, name: str, gamma: float, normalise: bool) -> None:
        if name not in _WEIGHTINGS:
            choices = f"Choose from {', '.join(_WEIGHTINGS)}"
            raise UserError(f"no weighting is named {name!r}", where="optimizer.weighting", remedy=choices)
        if gamma < 0 and name != "power":
            remedy = "Give 0 or more (weighting=power takes any number; below 0 the frequent weigh more)"
            raise UserError(f"it is {gamma}", where="optimizer.gamma", remedy=remedy)
        self._of, self.gamma, self.normalise = _WEIGHTINGS[name], gamma, normalise

    def __call__(self, counts: Tensor) -> Tensor:
        """Weights [I] float32 from the training interactions of each item [I]."""
        n = counts.double()
        weights = self._of(n, self.gamma)
        if self.normalise:
            mean = (n * weights).sum() / n.sum()
            if mean > 0:
                weights = weights / mean
        return weights.float()
