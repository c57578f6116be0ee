"""Codes as answers: what a generative recommender gives the codes of chosen and rejected items."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_lt.generative.networks import EncoderDecoder
from recsys_lt.generative.templates import Read
from recsys_lt.losses.preference import Answers


@dataclass(frozen=True)
class CodeAnswers:
    """Log-probabilities of items' tokens after the rows of a batch. An ``Answering``.

    Parameters
    ----------
    network, codes
        Who reads, and the tokens of each item, [I, D] int64, -1 after the last.
    reads, streams
        The rows, and their random streams, [B] int64.
    mean_tokens
        Whether they are means over an item's tokens; else sums.
    """

    network: EncoderDecoder
    codes: Tensor
    reads: Sequence[Read]
    streams: Tensor
    mean_tokens: bool

    @property
    def n_items(self) -> int:
        return len(self.codes)

    def scores(self, items: Tensor) -> Tensor:
        """[B, M] for items [B, M]; a row is encoded once."""
        asked = self.codes[items]
        found = self.network.log_probabilities(self.reads, asked, self.streams)
        return found / (asked >= 0).sum(2) if self.mean_tokens else found

    def answers(self, targets: Tensor, ids: Tensor, comparable: bool = False) -> Answers:
        """Always log-probabilities, which are comparable between users."""
        found = self.scores(torch.cat([targets.unsqueeze(1), ids], 1))
        return Answers(found[:, 0], found[:, 1:])
