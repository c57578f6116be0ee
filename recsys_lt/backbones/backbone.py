"""Base class of backbones: from histories to states, and the scorer of states."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from recsys_lt.backbones.layers import PaddedItems
from recsys_lt.data.batch import Batch
from recsys_lt.data.needs import HasNeeds
from recsys_lt.data.tasks.task import Task
from recsys_lt.errors import UserError
from recsys_lt.losses.output_table import LARGE_TABLE, OutputTable, Scorer


class Backbone(HasNeeds, nn.Module, ABC):
    """Turns packed histories into states of width d, scored against an output table.

    Constructors share names: ``facts`` (sizes of the data), ``width`` (d, of embeddings and states), ``blocks`` (how
    many), ``heads`` (of attention; they must divide ``width``), ``max_length`` (L, latest events read; in a window
    short histories are padded on the left), ``dropout`` (a probability, of embeddings and layers) and ``tied`` (whether
    states are scored with the input embeddings; else with a table of their own).
    """

    #: What a training example is for this backbone.
    task: Task
    #: How many of a user's latest events it reads.
    max_length: int
    #: False for a model that has nothing to learn by gradient (popularity).
    trainable: ClassVar[bool] = True
    #: See ``Recommender.takes_loss``.
    takes_loss: ClassVar[bool] = True
    #: See ``Recommender.takes_item_ids``.
    takes_item_ids: ClassVar[bool] = False
    #: See ``Recommender.keeps_users``.
    keeps_users: ClassVar[bool] = False
    #: Whether scores are cosines (``Loss.cosine``).
    cosine: bool = False

    def __init__(self, **sizes: int) -> None:
        """Raise UserError for a size below 1, or ``heads`` that do not divide ``width`` and have no ``head_width``."""
        super().__init__()
        divided = "heads" in sizes and "head_width" not in sizes
        if sizes and (min(sizes.values()) < 1 or (divided and sizes["width"] % sizes["heads"])):
            what = f"{type(self).__name__} has {', '.join(f'{key} {value}' for key, value in sizes.items())}"
            remedy = "Each must be at least 1" + (", and heads must divide width" if divided else "")
            raise UserError(what, where="model", remedy=remedy)

    def item_tables(self) -> list[Tensor]:
        """Parameters with one row an item: those of the output table; a backbone with input embeddings apart adds them.

        What is perturbed by ``optimizer.perturb=table`` and item by item by ``optimizer.form=rowwise``. Scores computed
        from features through a projection have no such parameter.
        """
        table = self.output_table()
        tensors = (table.weight, table.bias) if isinstance(table, OutputTable) else ()
        return [tensor for tensor in tensors if isinstance(tensor, nn.Parameter)]

    def use_sparse_gradients(self) -> None:
        """Have look-ups in large tables return the gradients of the rows they read, as sparse tensors."""
        for module in self.modules():
            if isinstance(module, nn.Embedding | PaddedItems):
                module.sparse = isinstance(module.weight, nn.Parameter) and len(module.weight) >= LARGE_TABLE

    def states(self, batch: Batch) -> Tensor:
        """A state for each target of a training batch, [N, d], in the order of ``batch.targets``.

        By default that of each row, for tasks with one target a row.
        """
        return self.user_states(batch)

    @abstractmethod
    def user_states(self, batch: Batch) -> Tensor:
        """A state for each row, read after its last event, [B, d]."""

    def padded_states(self, items: Tensor, real: Tensor) -> Tensor:
        """``user_states`` of padded histories, in eval mode: tensor operations of fixed shapes, which can be exported.

        Parameters
        ----------
        items
            The last events of each history at the right of a window of ``max_length``, [B, L] int64; 0 in pads.
        real
            Which places hold an event, [B, L] bool.

        Returns
        -------
        Tensor
            [B, d], that of ``user_states`` to within rounding.

        Raises
        ------
        UserError
            If the backbone has no such form.
        """
        what = f"{type(self).__name__} has no padded form (Backbone.padded_states), which ONNX needs"
        raise UserError(what, where="model", remedy="Export another model, such as a run of model=sasrec")

    @abstractmethod
    def output_table(self) -> Scorer:
        """Scorer of states: an ``OutputTable``, or another one. It may be wanted before any ``begin_step``."""

    def scorer(self) -> Scorer:
        """Scorer of states in training and ranking: the output table, or where ``cosine`` its ``OutputTable.unit``."""
        table = self.output_table()
        return table.unit() if self.cosine and isinstance(table, OutputTable) else table

    def begin_step(self) -> None:
        """See ``Recommender.begin_step``."""

    def begin_ranking(self) -> None:
        """See ``Recommender.begin_ranking``."""

    def facts(self) -> Mapping[str, Any]:
        return {}
