"""SAM and ASAM: the gradient of the loss at perturbed parameters."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from recsys_lt.errors import UserError
from recsys_lt.optim.perturbations import Adaptive
from recsys_lt.optim.rule import GradientClosure, Gradients
from recsys_lt.optim.sharpness_aware import SharpnessAware


class SAM(SharpnessAware):
    """Sharpness-aware minimization (Foret et al., ICLR 2021): two forward and two backward passes."""

    def gradients(self, closure: GradientClosure) -> tuple[Tensor, Gradients]:
        totals, (ascent,) = closure(None)
        with self._perturbed(ascent, closure):
            _, (gradients,) = closure(None)
        return totals[0], gradients


class ASAM(SAM):
    """Adaptive SAM (Kwon et al., ICML 2021): the neighbourhood follows the size of each weight.

    Parameters
    ----------
    eta
        Added to every weight's size.
    """

    def __init__(self, *of_rule: Any, rho: float = 0.5, eta: float = 0.01, **by_name: Any) -> None:
        super().__init__(*of_rule, rho=rho, scale="none", **by_name)
        if not eta >= 0:
            raise UserError(f"it is {eta}", where="optimizer.eta", remedy="Give 0 or more")
        self.eta = eta

    def prepare(
        self, parameters: Mapping[str, torch.nn.Parameter], item_tables: Collection[Tensor], counts: Tensor
    ) -> None:
        super().prepare(parameters, item_tables, counts)
        # As in SamsungLabs/ASAM: whatever is called a weight.
        self.perturbation = Adaptive(self.rho, self.eta, ["weight" in name for name in self.perturbed_names])
