"""Dropout with masks keyed by row: the same in any batch and at every evaluation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lt.data.streams import key_of, lanes
from recsys_lt.errors import UserError
from recsys_lt.native.functions import NativeDropout
from recsys_lt.native.library import usable


class _Mask(torch.autograd.Function):
    """The product x * keep * scale, saving the one-byte mask alone."""

    @staticmethod
    def forward(ctx, x: Tensor, keep: Tensor, scale: float) -> Tensor:  # type: ignore[override,no-untyped-def]
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return torch.ops.aten.native_dropout_backward(x, keep, scale)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override,no-untyped-def]
        (keep,) = ctx.saved_tensors
        return torch.ops.aten.native_dropout_backward(grad, keep, ctx.scale), None, None


class RowDropout(nn.Module):
    """Dropout from streams keyed by row; asking twice gives the same mask.

    Masks come of 16-bit integers, so the probability is ``p`` to within 2**-17; the scale matches the
    probability actually used, and the expectation is exact.

    Parameters
    ----------
    p
        Probability of zeroing an element, in [0, 1).
    salt
        Tells this layer's masks from those of the model's other dropout layers: number them 0, 1, 2, ...
    """

    def __init__(self, p: float, salt: int) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise UserError(f"dropout is {p}", where="model", remedy="A dropout is a probability in [0, 1)")
        self.p, self.cut, self.salt = p, min(round(p * 65536), 65535), key_of(salt)

    @property
    def scale(self) -> float:
        """What survivors are multiplied by: one over the probability of keeping."""
        return 65536 / (65536 - self.cut)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """X [n, ...] and the random stream of each of the n, [n] -> the same shape; see ``Batch.streams``."""
        if not self.training or self.cut == 0:
            return x
        if kernels := usable(x):
            return NativeDropout.apply(x, keys, self.salt, self.cut, self.scale, False, kernels)
        keep = self.kept(x.shape[1:].numel(), keys).view_as(x)
        return _Mask.apply(x, keep, self.scale)

    def relu(self, x: Tensor, keys: Tensor) -> Tensor:
        """Dropout of max(x, 0), in one pass where there are kernels."""
        if self.training and self.cut and (kernels := usable(x)):
            return NativeDropout.apply(x, keys, self.salt, self.cut, self.scale, True, kernels)
        return self(F.relu(x), keys)

    def kept(self, count: int, keys: Tensor) -> Tensor:
        """Which of ``count`` elements survive for every key: keys [n] -> [n, count] bool."""
        return lanes(keys ^ self.salt, count) >= self.cut - 32768
