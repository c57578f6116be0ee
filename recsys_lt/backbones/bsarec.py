"""BSARec: self-attention beside a filter that weighs low and high frequencies."""

import math

import torch
from torch import Tensor, nn

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.backbones.layers import MLP, PaddedItems, RowDropout, is_event
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.errors import UserError
from recsys_lt.losses.output_table import OutputTable

EVERYWHERE = slice(None)
LAST = slice(-1, None)


class BSARec(Backbone):
    """Blocks that mix a frequency layer and causal attention, read at the last position.

    Source: Shin et al., AAAI 2024 (arXiv 2312.10325), as trained in MTandHJ/RecBoard. Each block is
    ``FFN(alpha * frequency(x) + (1 - alpha) * attention(x))``. The frequency layer mixes future
    positions into past ones, so every prefix is a row and only its end may be read.

    Parameters
    ----------
    facts, width, blocks, heads, max_length, dropout
        See ``Backbone``.
    alpha
        Share of the frequency layer in a block, in [0, 1].
    cutoff
        The paper's c: frequency bins 0..c // 2 count as low.
    attention_dropout
        Dropout of the attention weights.
    """

    def __init__(
        self,
        facts: DataFacts,
        *,
        width: int = 64,
        blocks: int = 2,
        heads: int = 1,
        max_length: int = 50,
        alpha: float = 0.7,
        cutoff: int = 5,
        dropout: float = 0.5,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__(width=width, blocks=blocks, heads=heads, max_length=max_length)
        if not 0 <= alpha <= 1 or cutoff < 0:
            what, remedy = f"BSARec has alpha {alpha}, cutoff {cutoff}", "alpha is in [0, 1] and cutoff not negative"
            raise UserError(what, where="model", remedy=remedy)
        self.max_length = max_length
        self.task = Prefixes(max_length, recent=True)
        self.items = PaddedItems(facts.n_items, width, std=0.02)
        self.positions = nn.Embedding(max_length, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = RowDropout(dropout, salt=0)
        self.blocks = nn.ModuleList(
            Block(
                FrequencyLayer(width, max_length, cutoff, dropout, salt=4 * block + 1),
                Attention(width, heads, dropout, attention_dropout, salt=4 * block + 2),
                FeedForward(width, dropout, salt=4 * block + 4),
                alpha,
            )
            for block in range(blocks)
        )
        nn.init.normal_(self.positions.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def user_states(self, batch: Batch) -> Tensor:
        return self._read(self.items(batch, self.max_length), is_event(batch, self.max_length), batch.streams)

    def padded_states(self, items: Tensor, real: Tensor) -> Tensor:
        """See ``Backbone.padded_states``."""
        return self._read(self.items.padded(items, real), real, items[:, 0])

    def _read(self, window: Tensor, events: Tensor, keys: Tensor) -> Tensor:
        """Embedded window [B, L, d], which places hold an event [B, L] and streams [B] -> [B, d]."""
        allowed = attention_mask(events)
        x = self.dropout(self.norm(window + self.positions.weight), keys)
        for block in self.blocks[:-1]:
            x = block(x, allowed, keys, EVERYWHERE)
        x = self.blocks[-1](x, allowed, keys, LAST)  # nothing reads its other positions
        return torch.squeeze(x, 1)

    def output_table(self) -> OutputTable:
        return OutputTable(self.items.weight)


def attention_mask(events: Tensor) -> Tensor:
    """Which keys each query may attend to: events [B, L] bool -> [B, L, L] bool.

    An event attends to the events up to itself. A pad attends to everything: the reference adds -1e4
    to forbidden scores, which all of a pad's are, so none is forbidden against another. Pads reach the
    read-out through the next block's frequency layer, so this is part of the model.
    """
    causal = events.new_ones(events.shape[1], events.shape[1]).tril()
    return (causal & events.unsqueeze(1)) | ~events.unsqueeze(2)


class Block(nn.Module):
    """``FFN(alpha * frequency(x) + (1 - alpha) * attention(x))`` at the positions ``at``."""

    def __init__(
        self, frequency: "FrequencyLayer", attention: "Attention", feed_forward: "FeedForward", alpha: float
    ) -> None:
        super().__init__()
        self.frequency, self.attention, self.feed_forward, self.alpha = frequency, attention, feed_forward, alpha

    def forward(self, x: Tensor, allowed: Tensor, keys: Tensor, at: slice) -> Tensor:
        """From x [B, L, d], allowed [B, L, L] and keys [B] to [B, n, d]: the n positions ``at``."""
        by_frequency = self.frequency(x, keys, at)
        by_attention = self.attention(x, allowed, keys, at)
        return self.feed_forward(self.alpha * by_frequency + (1 - self.alpha) * by_attention, keys)


class FrequencyLayer(nn.Module):
    """LN(x + drop(low + beta² * high)): a learned weight for the high frequencies of each coordinate.

    ``low`` keeps bins 0..cutoff // 2 of the spectrum over time and ``high = x - low``. The low-pass has
    nothing to learn, so it is the fixed matrix [L, L] its transform there and back amounts to.
    """

    low_pass: Tensor

    def __init__(self, width: int, length: int, cutoff: int, dropout: float, salt: int) -> None:
        super().__init__()
        spectra = torch.fft.rfft(torch.eye(length, dtype=torch.float64), dim=0)
        spectra[cutoff // 2 + 1 :] = 0
        low_pass = torch.fft.irfft(spectra, n=length, dim=0).to(torch.get_default_dtype())
        self.register_buffer("low_pass", low_pass, persistent=False)
        self.beta = nn.Parameter(torch.randn(1, 1, width))
        self.dropout = RowDropout(dropout, salt)
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, keys: Tensor, at: slice) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # the transform is exact in float32 only
            low = self.low_pass[at] @ x.to(self.low_pass.dtype)
        x = x[:, at]
        y = low + self.beta.square() * (x - low)
        return self.norm(x + self.dropout(y, keys))


class Attention(nn.Module):
    """LN(x + drop(W_o attention(x))), multi-head; uses dropout salts ``salt`` and the next."""

    def __init__(self, width: int, heads: int, dropout: float, attention_dropout: float, salt: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.weight_dropout = RowDropout(attention_dropout, salt)
        self.dropout = RowDropout(dropout, salt + 1)
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, allowed: Tensor, keys: Tensor, at: slice) -> Tensor:
        query = self._split(self.query(x[:, at]))
        key, value = self._split(self.key(x)), self._split(self.value(x))
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        scores = scores.masked_fill(~allowed[:, None, at], -math.inf)  # no row of it is empty
        weights = self.weight_dropout(scores.softmax(3), keys)
        heads = (weights @ value).transpose(1, 2).flatten(2)
        return self.norm(x[:, at] + self.dropout(self.out(heads), keys))

    def _split(self, x: Tensor) -> Tensor:
        """[B, n, d] -> [B, heads, n, d / heads]."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class FeedForward(nn.Module):
    """LN(x + drop(MLP(x))), the inner width 4d."""

    def __init__(self, width: int, dropout: float, salt: int) -> None:
        super().__init__()
        self.mlp = MLP(width)
        self.dropout = RowDropout(dropout, salt)
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        return self.norm(x + self.dropout(self.mlp(x), keys))
