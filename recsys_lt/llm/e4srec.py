"""E4SRec: a language model that reads item vectors and scores all items at once."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.needs import Need, TrainedRun
from recsys_lt.data.streams import keys_of
from recsys_lt.data.tasks.next_item import EveryPosition, Prefixes
from recsys_lt.errors import UserError
from recsys_lt.llm.choice import LLM
from recsys_lt.llm.prompt import Prompt
from recsys_lt.losses.output_table import OutputTable


class E4SRec(Backbone):
    """Frozen item vectors of a sequential model, through a linear adaptor, as the words a language model reads.

    The prompt's opening is followed by one vector an event; the state that is scored against the class head (one row an
    item, no bias) is read after the last of them. What is trained is the adaptor, the head and the language model's
    adapters; every loss of the ``loss`` group works on it.

    Parameters
    ----------
    facts, max_length
        See ``Backbone``; what is needed is the sequential model whose output table gives the item vectors [I, d].
    llm, prompt
        The language model and the prompt's texts; the closing is read with ``supervise=last`` alone.
    item_vectors
        Run folder of the sequential model; None has one trained first.
    supervise
        ``all``: a causal model predicts the next item after every event of a history in one pass, and its state is
        read at the event itself (ours). ``last``: a row is a prefix, read after the closing (as published).

    References
    ----------
    Li et al., "E4SRec", arXiv 2312.02443, and HestiaSky/E4SRec.
    """

    vectors: Tensor

    @classmethod
    def needs(cls, options: Mapping[str, Any], start_from: str | None) -> Mapping[str, Need]:
        """The trained backbone whose output table gives the item vectors."""
        return {"item_vectors": TrainedRun(options["item_vectors"], "sasrec", "ce", Backbone)}

    def __init__(
        self,
        facts: DataFacts,
        *,
        llm: LLM,
        prompt: Prompt,
        item_vectors: str | None,
        max_length: PositiveInt,
        supervise: Literal["all", "last"],
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self._last = supervise == "last"
        self.task = Prefixes(max_length) if self._last else EveryPosition(max_length)
        self.language = llm.load(outline=facts.outline)
        self.opening: Tensor
        self.register_buffer("opening", self.language.opening(prompt.opening), persistent=False)
        closing = self.language.ids([prompt.closing])[0] if self._last else []
        self.closing: Tensor
        self.register_buffer("closing", torch.tensor(closing, dtype=torch.int64), persistent=False)
        self.language.check_length(len(self.opening) + max_length + len(closing), f"model.max_length={max_length}")
        table = facts.needs["item_vectors"].scorer()
        if not isinstance(table, OutputTable):
            where, remedy = f"model.item_vectors={item_vectors}", "Name the run of another model, such as model=sasrec"
            raise UserError("its model scores items without vectors", where=where, remedy=remedy)
        found = table.weight.detach().float().clone()
        self.register_buffer("vectors", found)  # in checkpoints: the other run may be trained anew
        self.adaptor = nn.Linear(found.shape[1], self.language.width)
        self.head = nn.Linear(self.language.width, facts.n_items, bias=False)

    def facts(self) -> Mapping[str, Any]:
        return {"tokens_read": self.language.tokens_read}

    def output_table(self) -> OutputTable:
        return OutputTable(self.head.weight)

    def states(self, batch: Batch) -> Tensor:
        hidden, ends = self._hidden(batch)
        return hidden[ends] if self._last else hidden

    def user_states(self, batch: Batch) -> Tensor:
        hidden, ends = self._hidden(batch)
        return hidden[ends]

    def _hidden(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Hidden states of all that is read after the opening, [T, H], and the place of each row's last one, [B]."""
        rows, streams, lengths = self._read(batch), batch.event_streams(), batch.lengths
        if self._last:
            closing = self.language.vectors(self.closing)
            place = torch.arange(len(closing), device=streams.device) + (1 << 20)  # apart from the events' places
            closed = [torch.cat([events, closing]) for events in rows.split(lengths)]
            keys = [torch.cat([own, keys_of(int(own[-1]), place)]) for own in streams.split(lengths)]
            rows, streams, lengths = torch.cat(closed), torch.cat(keys), tuple(map(len, closed))
        opening = self.language.vectors(self.opening)
        hidden = self.language.hidden(opening, rows, lengths, streams, batch.step_key)
        ends = torch.tensor(lengths, device=hidden.device).cumsum(0) - 1
        return hidden.to(self.head.weight.dtype), ends

    def _read(self, batch: Batch) -> Tensor:
        """The events' item vectors, as the language model reads them, [T, H]."""
        read: Tensor = self.adaptor(self.vectors[batch.items])
        return read.to(self.language.vocabulary.dtype)
