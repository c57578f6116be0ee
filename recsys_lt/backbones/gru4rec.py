"""GRU4Rec: a recurrent network over each prefix."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.backbones.layers import RowDropout
from recsys_lt.backbones.recurrence import GRULayer, Steps
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.tasks.next_item import OnePass, Prefixes
from recsys_lt.losses.output_table import OutputTable


class GRU4Rec(Backbone):
    """A GRU over item embeddings, read after the last event; scored with the embeddings themselves.

    Source: Hidasi et al., ICLR 2016, as trained in MTandHJ/CE-SCE-LLMRec: every prefix is a row, and
    between the embeddings and the scores stand one dropout, the GRU without bias, and one linear map.

    Parameters
    ----------
    facts, width, max_length, dropout
        See ``Backbone``; dropout is of the embeddings, event by event.
    layers
        Stacked GRU layers.
    one_pass
        Train on all positions of a user in one pass, rather than on each prefix as a row of its own. Inputs,
        targets and gradients are those of the prefixes, in expectation over dropout. Not the same are the
        noise (a user's prefixes share their dropout masks) and the company (they share a batch). Rows
        hold several targets then: set ``trainer.batch_rows`` for about 512 of them (87 on Beauty).
    """

    def __init__(
        self,
        facts: DataFacts,
        *,
        width: int = 64,
        layers: int = 1,
        max_length: int = 50,
        dropout: float = 0.5,
        one_pass: bool = False,
    ) -> None:
        super().__init__(width=width, layers=layers, max_length=max_length)
        self.max_length = max_length
        self.task = OnePass(max_length) if one_pass else Prefixes(max_length)
        self.items = nn.Embedding(facts.n_items, width)
        self.dropout = RowDropout(dropout, salt=0)
        self.gru = nn.GRU(width, width, layers, bias=False)
        self.dense = nn.Linear(width, width)
        nn.init.xavier_normal_(self.items.weight)
        for weight in self.gru.parameters():
            nn.init.xavier_uniform_(weight)

    def states(self, batch: Batch) -> Tensor:
        """[N, d]: after each row, or in one pass after each event with a target."""
        if batch.target_events is None:
            return self.user_states(batch)
        return self.dense(self._hidden(batch, batch.target_events))

    def user_states(self, batch: Batch) -> Tensor:
        return self.dense(self._hidden(batch, batch.offsets[1:] - 1))

    def padded_states(self, items: Tensor, real: Tensor) -> Tensor:
        """See ``Backbone.padded_states``; without biases, the state stays zero until the first event."""
        x = (self.items(items) * real.unsqueeze(2)).transpose(0, 1)
        return self.dense(self.gru(x)[0][-1])

    def _hidden(self, batch: Batch, at: Tensor) -> Tensor:
        """Hidden states after the events ``at`` [n] -> [n, d]; a row without history has a state of zeros.

        Such a row's "last event" is the one before its first: of another row, or -1.
        """
        if len(batch.items) == 0:
            return self.dense.weight.new_zeros(len(at), self.dense.in_features)
        steps = Steps.of(batch.lengths, batch.items.device, piece=max(batch.lengths))
        x = self.dropout(self.items(batch.items[steps.order]), batch.event_streams()[steps.order])
        if x.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            for layer in range(self.gru.num_layers):
                of_input, of_state = (self.gru.get_parameter(f"weight_{kind}_l{layer}") for kind in ("ih", "hh"))
                x = GRULayer.apply(x, of_input, of_state, steps.running)
        else:
            # The packed form lets a row leave the recurrence at its end: one cuDNN call, no work on padding.
            x = self.gru(PackedSequence(x, torch.tensor(steps.running)))[0].data
        hidden = x[steps.places[at]]
        if min(batch.lengths) == 0 and len(at) == len(batch):
            hidden = hidden.masked_fill(batch.offsets.diff().eq(0).unsqueeze(1), 0)
        return hidden

    def output_table(self) -> OutputTable:
        return OutputTable(self.items.weight)
