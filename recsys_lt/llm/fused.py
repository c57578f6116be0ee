"""Parts of a language model in fewer passes over memory, in bfloat16 on a processor with compiled kernels.

Each takes the place of the same part of ``transformers`` or ``peft``, whose form is the plain one: it goes on where
the tensors are others, or there are no kernels.
"""

import ctypes
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recsys_lt.backbones.layers import RowDropout
from recsys_lt.native.functions import NativeGate, NativeRmsNorm, dropped
from recsys_lt.native.library import usable

# Classes of transformers that all have Llama's forward.
_NORMS = ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm")
_GATED = ("LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP")


def fuse(causal: Any) -> None:
    """Have the parts of a causal language model that are known here run in fewer passes."""
    for module in causal.modules():
        if type(module).__name__ in _NORMS:
            fuse_as(_Norm, module)
        elif type(module).__name__ in _GATED and module.config.hidden_act == "silu":
            fuse_as(_Gated, module)


def fuse_as(part: type, module: nn.Module) -> None:
    """Give a module the forward of ``part``; its own is the plain form."""
    kind: Any = type(module)
    module.__class__ = _fused(part, kind)


@cache
def _fused(part: type, kind: type) -> type:
    return type(f"Fused{kind.__name__}", (part, kind), {})


class _Norm:
    """Division of each state by its root mean square."""

    weight: Tensor
    variance_epsilon: float

    def forward(self, hidden_states: Tensor) -> Tensor:
        kernels = usable(hidden_states, self.weight, dtype=torch.bfloat16)
        if kernels is None or self.weight.requires_grad:
            return super().forward(hidden_states)  # type: ignore[misc,no-any-return]
        rows = hidden_states.flatten(0, -2)
        found: Tensor = NativeRmsNorm.apply(rows, self.weight, self.variance_epsilon, kernels)
        return found.view_as(hidden_states)


class _Gated:
    """The feed-forward layer, whose inner values are gated by SiLU."""

    gate_proj: Any
    up_proj: Any
    down_proj: Any

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)
        kernels = usable(gate, up, dtype=torch.bfloat16)
        inner = F.silu(gate) * up if kernels is None else NativeGate.apply(gate, up, kernels)
        found: Tensor = self.down_proj(inner)
        return found


class Adapted:
    """A frozen linear layer with an adapter: the adapter's answer is added within its own product."""

    base_layer: nn.Linear

    def forward(self: Any, x: Tensor, *more: Any, **by_name: Any) -> Tensor:
        base = self.base_layer
        kernels = usable(x, base.weight, dtype=torch.bfloat16)
        if kernels is None or self.disable_adapters or self.merged or more or by_name:
            return super().forward(x, *more, **by_name)  # type: ignore[misc,no-any-return]
        (name,) = self.active_adapters
        down, up, dropout = self.lora_A[name].weight, self.lora_B[name].weight, self.lora_dropout[name]
        how = self.scaling[name], dropout.mask, dropout.keys, kernels
        found: Tensor = _Adapted.apply(x.flatten(0, -2), base.weight, base.bias, down, up, *how)
        return found.view(*x.shape[:-1], -1)


class _Adapted(torch.autograd.Function):
    """x W^T + bias + scale (dropout(x) A^T) B^T: x [n, in], W [out, in] frozen, A [r, in] and B [out, r] float32.

    Dropout's streams are ``keys`` [n]; None for no dropout. What is kept for the backward pass is x and r numbers a
    row; the dropout is repeated there.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
        mask: RowDropout,
        keys: Tensor | None,
        kernels: ctypes.CDLL,
    ) -> Tensor:
        x, down, up = x.contiguous(), down.to(x.dtype), up.to(x.dtype)
        how = None if keys is None or mask.cut == 0 else (keys, mask.salt, mask.cut, mask.scale, kernels)
        low = F.linear(x if how is None else dropped(x, None, *how), down)
        ctx.save_for_backward(x, weight, down, up, low)
        ctx.scale, ctx.how = scale, how
        return F.linear(x, weight, bias).addmm_(low, up.t(), alpha=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, down, up, low = ctx.saved_tensors
        grad = grad.contiguous()
        by_low = (grad @ up).mul_(ctx.scale)
        by_up = (low.t() @ grad).t().float().mul_(ctx.scale)
        by_down = (by_low.t() @ (x if ctx.how is None else dropped(x, None, *ctx.how))).float()
        if not ctx.needs_input_grad[0]:
            return None, None, None, by_down, by_up, None, None, None, None
        by_x = grad @ weight
        if ctx.how is None:
            by_x.addmm_(by_low, down)
        else:
            dropped(by_low @ down, by_x, *ctx.how)
        return by_x, None, None, by_down, by_up, None, None, None, None
