"""FMLP-Rec: learned filters in the frequency domain in place of attention."""

import torch
from torch import Tensor, nn

from recsys_lt.backbones.backbone import Backbone, check_sizes
from recsys_lt.backbones.circular import SpectralFilter
from recsys_lt.backbones.dropout import RowDropout
from recsys_lt.backbones.mlp import MLP
from recsys_lt.backbones.padding import PaddedItems
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.losses.output_table import OutputTable


class FMLPRec(Backbone):
    """Blocks of a learned filter along time and a feed-forward, read at the last position.

    Source: Zhou et al., WWW 2022, as trained in MTandHJ/CE-SCE-LLMRec. A filter mixes future positions
    into past ones, so every prefix is a row and only its end may be read. Scored with the embeddings.

    Parameters: see ``Backbone``. The pads of short histories are filtered too.
    """

    def __init__(
        self, facts: DataFacts, *, width: int = 64, blocks: int = 4, max_length: int = 50, dropout: float = 0.5
    ) -> None:
        super().__init__()
        check_sizes("FMLP-Rec", width=width, blocks=blocks, max_length=max_length)
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
        keys = batch.streams
        x = self.items(batch, self.max_length) + self.positions.weight
        x = self.dropout(self.norm(x), keys)
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
