"""Item vectors from content: id embeddings with a learned projection of the items' features, in any backbone."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.data.features import ItemVectors
from recsys_lt.errors import UserError


@dataclass(frozen=True)
class ItemFeatures:
    """What a backbone's item tables are made of besides the ids.

    Parameters
    ----------
    encoder
        Makes a feature vector f_i of norm 1 for each item.
    mode
        ``add``: v_i = e_i + P f_i, with the id embedding e_i and a learned projection P; e_i is 0 for an item without
        training interactions, which nothing would teach it. ``only``: v_i = P f_i, so that ids play no part. ``init``:
        v_i = e_i, which begins as a random projection of f_i and is learned freely.
    """

    encoder: ItemVectors
    mode: Literal["add", "only", "init"] = "add"

    def attach(self, backbone: Backbone, vectors: NDArray[np.float32], popularity: Tensor) -> "Content | None":
        """Make the item tables of a backbone of the feature vectors [I, w] too; ``popularity`` is [I].

        Weights come of torch's current seed. Raises UserError for a backbone that has no item table.
        """
        features = torch.from_numpy(vectors).float()
        tables = backbone.item_tables()
        found = [
            (module, name)
            for module in backbone.modules()
            for name, one in module.named_parameters(recurse=False)
            if one.dim() == 2 and any(one is table for table in tables)
        ]
        if not found:
            what = f"{type(backbone).__name__} has no item table that features could join"
            raise UserError(what, where="features", remedy="Leave features out, or choose a model such as model=sasrec")
        if self.mode == "init":
            for module, name in found:
                weight = getattr(module, name)
                with torch.no_grad():
                    weight.copy_(features @ _projection(features, weight))
            return None
        return Content(found, features, None if self.mode == "only" else popularity > 0, tables)


def _projection(features: Tensor, like: Tensor) -> Tensor:
    """A random projection [w, d] that gives features of norm 1 vectors as long as the table's rows [I, d] are now."""
    return torch.randn(features.shape[1], like.shape[1]) * like.detach().std()


class Content:
    """The item tables of a backbone that are computed from content; ``begin`` computes them once a step.

    Parameters
    ----------
    tables
        Modules, and the names of their parameters [I, d] that become computed tables.
    features
        [I, w].
    known
        Items with an id embedding, [I] bool; None where ids play no part.
    item_tables
        The backbone's parameters with one row an item, as they are before.
    """

    def __init__(
        self,
        tables: list[tuple[nn.Module, str]],
        features: Tensor,
        known: Tensor | None,
        item_tables: list[Tensor],
    ) -> None:
        self._computed = []
        # Parameters that stay: id embeddings (the same objects), and biases.
        computed = [getattr(module, name) for module, name in tables]
        self.item_tables = [
            one for one in item_tables if known is not None or not any(one is table for table in computed)
        ]
        for module, name in tables:
            weight = getattr(module, name)
            table = _Table(features, _projection(features, weight), known)
            if known is None:
                delattr(module, name)
                # parametrize wants a tensor, which is not read; DDP writes into it, so it is no expanded one.
                module.register_buffer(name, torch.zeros(()), persistent=False)
            parametrize.register_parametrization(module, name, table, unsafe=True)
            parametrized = getattr(module.parametrizations, name)
            if known is None:
                parametrized.register_buffer("original", parametrized.original, persistent=False)
            self._computed.append((table, parametrized))

    def begin(self) -> None:
        """Compute the tables, and keep them until the next call."""
        for table, parametrized in self._computed:
            table.kept = None
            table.kept = parametrized()


class _Table(nn.Module):
    features: Tensor
    known: Tensor | None

    def __init__(self, features: Tensor, projection: Tensor, known: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("features", features, persistent=False)  # the run folder has them among its needs
        self.register_buffer("known", None if known is None else known.unsqueeze(1))
        self.projection = nn.Parameter(projection)
        self.kept: Tensor | None = None
        # Weights that are read from a file make a kept table stale.
        self.register_load_state_dict_pre_hook(_forget)

    def forward(self, ids: Tensor) -> Tensor:
        if self.kept is not None:
            return self.kept
        content = self.features @ self.projection
        return content if self.known is None else torch.where(self.known, content + ids, content)


def _forget(table: _Table, *_: object) -> None:
    table.kept = None
