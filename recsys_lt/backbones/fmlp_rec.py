"""FMLP-Rec: learned filters in the frequency domain in place of attention."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.backbones.layers import MLP, PaddedItems, RowDropout
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.losses.output_table import OutputTable

_LONGEST = 256  # events of a window that is transformed by matrices


class FMLPRec(Backbone):
    """Blocks of a learned filter along time and a feed-forward, read at the last position.

    Source: Zhou et al., WWW 2022, as trained in MTandHJ/CE-SCE-LLMRec. A filter mixes future positions
    into past ones, so every prefix is a row and only its end may be read. Scored with the embeddings.

    Parameters: see ``Backbone``. The pads of short histories are filtered too.
    """

    def __init__(
        self, facts: DataFacts, *, width: int = 64, blocks: int = 4, max_length: int = 50, dropout: float = 0.5
    ) -> None:
        super().__init__(width=width, blocks=blocks, max_length=max_length)
        self.max_length = max_length
        self.task = Prefixes(max_length, recent=True)
        self.items = PaddedItems(facts.n_items, width, std=0.02)
        self.positions = nn.Embedding(max_length, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = RowDropout(dropout, salt=0)
        self.blocks = nn.ModuleList(
            FilterBlock(width, max_length, dropout, salt=1 + 2 * block) for block in range(blocks)
        )
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        # The reference makes its blocks by copying one, so their filters (which it does not draw anew
        # afterwards, as it does the linear maps) all start alike.
        first = self.blocks[0].get_parameter("filter").data
        for block in self.blocks:
            block.get_parameter("filter").data.copy_(first)

    def user_states(self, batch: Batch) -> Tensor:
        return self._read(self.items(batch, self.max_length), batch.streams)

    def padded_states(self, items: Tensor, real: Tensor) -> Tensor:
        """See ``Backbone.padded_states``."""
        return self._read(self.items.padded(items, real), items[:, 0])

    def _read(self, window: Tensor, keys: Tensor) -> Tensor:
        """Embedded window [B, L, d] and streams [B] -> [B, d]."""
        x = self.dropout(self.norm(window + self.positions.weight), keys)
        for block in self.blocks[:-1]:
            x = block(x, keys)
        x = self.blocks[-1](x, keys, only_last=True)  # nothing reads its other positions
        return torch.squeeze(x, 1)

    def output_table(self) -> OutputTable:
        return OutputTable(self.items.weight)


class FilterBlock(nn.Module):
    """x <- LN(x + drop(filter(x))), then x <- LN(x + drop(MLP(x))); uses dropout salts ``salt`` and the next.

    The filter multiplies each coordinate's spectrum over time by complex weights,
    ``filter`` [1, L // 2 + 1, d, 2]: a circular convolution with a learned kernel as long as the window.
    """

    def __init__(self, width: int, length: int, dropout: float, salt: int) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.randn(1, length // 2 + 1, width, 2) * 0.02)
        self.convolve = SpectralFilter(length)
        self.filter_dropout = RowDropout(dropout, salt)
        self.filter_norm = nn.LayerNorm(width, eps=1e-12)
        self.mlp = MLP(width)
        self.mlp_dropout = RowDropout(dropout, salt + 1)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, keys: Tensor, only_last: bool = False) -> Tensor:
        """From x [B, L, d] and keys [B] to [B, L, d], or the last position of it, [B, 1, d]."""
        y = self.convolve.last(x, self.filter) if only_last else self.convolve(x, self.filter)
        x = self.filter_norm((x[:, -1:] if only_last else x) + self.filter_dropout(y, keys))
        return self.mlp_norm(x + self.mlp_dropout(self.mlp(x), keys))


class SpectralFilter(nn.Module):
    """Multiplies each coordinate's spectrum over time by a complex weight: x [B, L, d] -> [B, L, d].

    A window is short (L = 50 events), so the transform there and back is two products with fixed matrices, [2F, L] and
    [L, 2F] for F = L // 2 + 1 frequencies: a quarter of the time of an FFT that steps over d coordinates. ``plain`` is
    the form with the FFT; both give the same values and gradients. Windows of over 256 events take that one.
    """

    there: Tensor
    back: Tensor

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        if length > _LONGEST:
            return
        # Real parts first, then imaginary parts; from the transforms of unit vectors, exact in float64.
        spectra = torch.fft.rfft(torch.eye(length, dtype=torch.float64), dim=0, norm="ortho")
        units = torch.eye(length // 2 + 1, dtype=torch.complex128)
        back = [torch.fft.irfft(unit, n=length, dim=0, norm="ortho") for unit in (units, 1j * units)]
        dtype = torch.get_default_dtype()
        self.register_buffer("there", torch.cat([spectra.real, spectra.imag]).to(dtype), persistent=False)
        self.register_buffer("back", torch.cat(back, 1).to(dtype), persistent=False)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """X [B, L, d] and weights [1, F, d, 2] (real, imaginary) -> [B, L, d] in the type of the weights."""
        if self.length > _LONGEST:
            return self.plain(x, weights)
        with torch.autocast(x.device.type, enabled=False):
            y: Tensor = _ThereAndBack.apply(x.to(weights.dtype), weights, self.there, self.back)
        return y

    def plain(self, x: Tensor, weights: Tensor) -> Tensor:
        """Evaluate the textbook form, by the FFT."""
        with torch.autocast(x.device.type, enabled=False):  # no half-precision transform of length 50
            spectrum = torch.fft.rfft(x.to(weights.dtype), dim=1, norm="ortho") * torch.view_as_complex(weights)
            y: Tensor = torch.fft.irfft(spectrum, n=self.length, dim=1, norm="ortho")
        return y

    def last(self, x: Tensor, weights: Tensor) -> Tensor:
        """``self(x, weights)[:, -1:]`` without transforming x: one weighted sum over time, [B, 1, d]."""
        with torch.autocast(x.device.type, enabled=False):
            kernel: Tensor = torch.fft.irfft(torch.view_as_complex(weights), n=self.length, dim=1)
            # Position L - 1 of a circular convolution: x[t] meets kernel[L - 1 - t].
            return (x.to(weights.dtype) * kernel.flip(1)).sum(1, keepdim=True)


class _ThereAndBack(torch.autograd.Function):
    """back @ (weights * (there @ x)), the product in the middle one of complex numbers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, there: Tensor, back: Tensor) -> Tensor:
        spectrum = torch.matmul(there, x)
        ctx.save_for_backward(spectrum, weights, there, back)
        return torch.matmul(back, _times(spectrum, weights[..., 0], weights[..., 1]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_y: Tensor) -> tuple[Tensor | None, ...]:
        spectrum, weights, there, back = ctx.saved_tensors
        by_product = torch.matmul(back.T, by_y)
        (real, imaginary), (by_real, by_imaginary) = spectrum.chunk(2, 1), by_product.chunk(2, 1)
        by_weights = torch.empty_like(weights)
        product = torch.mul(by_real, real).addcmul_(by_imaginary, imaginary)
        by_weights[..., 0] = product.sum(0, keepdim=True)
        torch.mul(by_imaginary, real, out=product).addcmul_(by_real, imaginary, value=-1)
        by_weights[..., 1] = product.sum(0, keepdim=True)
        # The adjoint of multiplying by a complex number multiplies by its conjugate.
        by_x = torch.matmul(there.T, _times(by_product, weights[..., 0], -weights[..., 1]))
        return by_x, by_weights, None, None


def _times(spectrum: Tensor, real: Tensor, imaginary: Tensor) -> Tensor:
    """Complex product of a spectrum [B, 2F, d], real parts first, with weights [1, F, d]."""
    out = torch.empty_like(spectrum)
    (a, b), (re, im) = spectrum.chunk(2, 1), out.chunk(2, 1)
    torch.mul(a, real, out=re).addcmul_(b, imaginary, value=-1)
    torch.mul(a, imaginary, out=im).addcmul_(b, real)
    return out
