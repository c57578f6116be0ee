"""Optimizing on sparse gradients: Adam that updates the rows a batch touches, and clipping."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.adam import adam


class LazyAdam(torch.optim.Adam):
    """``torch.optim.Adam`` that also takes sparse gradients, and updates their rows alone.

    A row is touched by a step if its item is in the batch's histories, targets or negatives. Touched rows get Adam's
    own update, with the table's count of steps in the bias correction: a step that touches every row is Adam's to the
    last bit. The two differ in the rows that a step does not touch. Adam lets their moments decay and goes on moving
    them by what is left of the first; here weights and moments do not change until the row is touched again, as in
    ``torch.optim.SparseAdam``. Weight decay is coupled L2, as in Adam, but only touched rows decay.

    A gradient of all rows (CE; more ids in a step than the table has rows; own negatives scored densely; tables of
    fewer than 1,000 rows) touches every row: that step is Adam's.

    The moments are dense and serve both kinds of steps, so that a checkpoint is Adam's. But for the two moments, no
    tensor of a table's size is ever made.
    """

    #: Read by ``recsys_lt.optim.rule.Plain``.
    sparse_gradients: ClassVar[bool] = True

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, fused=True)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        hidden = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._step_on_rows(group, parameter, parameter.grad.coalesce())
                    hidden.append((parameter, parameter.grad))
                    parameter.grad = None
        step = torch.optim.Adam.step
        # Once a plain Adam was made, its step runs the hooks too, and those of this class's step run already.
        getattr(step, "__wrapped__", step)(self) if getattr(step, "hooked", False) else step(self)
        for parameter, gradient in hidden:
            parameter.grad = gradient
        return loss

    @torch.no_grad()
    def _step_on_rows(self, group: dict[str, Any], parameter: Tensor, gradient: Tensor) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        ids = gradient.indices()[0]  # ascending, so memory is walked in one direction
        tables = (parameter, state["exp_avg"], state["exp_avg_sq"])
        rows = [table.index_select(0, ids) for table in tables]
        # Torch's own kernel on the rows laid end to end: the same arithmetic as for a whole table, to the last bit.
        beta1, beta2 = group["betas"]
        settings: dict[str, Any] = {key: group[key] for key in ("lr", "weight_decay", "eps")}
        settings |= {"beta1": beta1, "beta2": beta2, "amsgrad": False, "maximize": False}
        adam([rows[0]], [gradient.values()], [rows[1]], [rows[2]], [], [state["step"]], fused=True, **settings)
        for table, row in zip(tables, rows, strict=True):
            table.index_copy_(0, ids, row)


def clip_norm(parameters: Iterable[torch.nn.Parameter], largest: float) -> Tensor:
    """Scale all gradients so that their joint norm is at most ``largest``; the norm before, a scalar.

    As ``torch.nn.utils.clip_grad_norm_``, which takes no sparse gradients. The rows of these count once their repeats
    are summed.
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
