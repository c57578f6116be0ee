"""Item vectors from interactions: of counts in training histories, or of a trained model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.data.features import ItemVectors, reduced
from recsys_lt.data.needs import Need, TrainedRun
from recsys_lt.data.neighbours import transitions
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.losses.output_table import OutputTable


@dataclass(frozen=True)
class Counts(ItemVectors):
    """Truncated singular value decomposition of positive pointwise mutual information of items in a history.

    Entry (i, j) of the matrix is max(0, log(n_ij n / (n_i n_j))), with n_ij the pairs of training events of one user,
    at most ``distance`` apart, of items i and j. Source: Levy & Goldberg, NeurIPS 2014.

    Parameters
    ----------
    width
        Entries of a vector.
    distance
        Largest distance of two events that counts.
    """

    width: PositiveInt = 64
    distance: PositiveInt = 50

    def check(self, data: Sequences) -> None:
        """There is nothing that data may lack."""

    def encode(self, data: Sequences, needs: Mapping[str, Any]) -> NDArray[np.float32]:
        counts = transitions(data, decay=1.0, distance=self.distance, backward=1.0).tocoo()
        sums = np.asarray(counts.sum(1), dtype=np.float64)
        counts.data = np.maximum(np.log(counts.data * sums.sum() / (sums[counts.row] * sums[counts.col])), 0).astype(
            np.float32
        )
        return reduced(counts.tocsr(), self.width)


@dataclass(frozen=True)
class OfRun(ItemVectors):
    """Rows of the output table of a sequential model.

    Parameters
    ----------
    run
        Run folder of the model, trained on the same events; None has one of ``model`` and ``loss`` trained first.
    model, loss
        Choices of a model that is trained first.
    """

    run: str | None = None
    model: str = "sasrec"
    loss: str = "ce"

    def needs(self) -> Mapping[str, Need]:
        """The trained model."""
        return {"run": TrainedRun(self.run, self.model, self.loss, Backbone)}

    def check(self, data: Sequences) -> None:
        """There is nothing that data may lack."""

    def encode(self, data: Sequences, needs: Mapping[str, Any]) -> NDArray[np.float32]:
        table = needs["run"].scorer()
        if not isinstance(table, OutputTable):
            remedy = "Name a run of another model, such as sasrec"
            raise UserError("the model of this run has no item vectors", where="item_ids.vectors.run", remedy=remedy)
        found: NDArray[np.float32] = table.weight.detach().float().cpu().numpy()
        return found
