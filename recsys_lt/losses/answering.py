"""Models that answer: what a model gives a batch's targets and other items."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from recsys_lt.losses.blocks import cross_entropies
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.losses.preference import Answers


class Answering(Protocol):
    """A model that has read the histories of N targets."""

    @property
    def n_items(self) -> int:
        """Size of the catalogue, I."""

    def answers(self, targets: Tensor, ids: Tensor, comparable: bool = False) -> Answers:
        """What it gives the targets [N] and K items of each [N, K].

        Log-probabilities, or numbers that differ from them by a constant of the row; where they are to be
        ``comparable`` between rows, log-probabilities.
        """


@dataclass(frozen=True)
class Scored:
    """A model's states of a batch's targets, [N, d], and the table they are scored against. An ``Answering``."""

    states: Tensor
    table: OutputTable

    @property
    def n_items(self) -> int:
        return self.table.n_items

    def __getitem__(self, rows: slice) -> "Scored":
        return Scored(self.states[rows], self.table)

    def answers(self, targets: Tensor, ids: Tensor, comparable: bool = False) -> Answers:
        """Scores; log-probabilities over the catalogue where they are to be comparable."""
        weight, bias = self.table.weight, self.table.bias
        chosen = (self.states * weight[targets]).sum(1)
        rejected = torch.bmm(weight[ids], self.states.unsqueeze(2)).squeeze(2)
        if bias is not None:
            chosen, rejected = chosen + bias[targets], rejected + bias[ids]
        if not comparable:
            return Answers(chosen, rejected)
        logs = -cross_entropies(self.states, targets, self.table)
        return Answers(logs, rejected + (logs - chosen).unsqueeze(1))
