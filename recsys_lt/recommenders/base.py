"""The base class of recommenders: Lightning's module, or torch's alone in a process that only ranks.

Lightning takes three seconds to import, and ranking needs nothing of it.
"""

from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import nn

from recsys_lt.system import package


class RankingModule(nn.Module):
    """A torch module that knows where its tensors are, as Lightning's does."""

    @property
    def device(self) -> torch.device:
        return next((each.device for each in chain(self.parameters(), self.buffers())), torch.device("cpu"))


if TYPE_CHECKING or not package.only_ranks:
    from pytorch_lightning import LightningModule

    Module = LightningModule
else:
    Module = RankingModule
