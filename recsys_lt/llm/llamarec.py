"""LlamaRec: a language model re-ranks the first items of a retriever."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.streams import key_of, keys_of, unseen_pool
from recsys_lt.errors import UserError
from recsys_lt.llm.language_model import LanguageModel
from recsys_lt.llm.prompt import PromptedModel, PromptSettings
from recsys_lt.recommenders.full_ranking import Ranking

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NEGATIVES, _ORDER, _TOLD = key_of(5), key_of(6), key_of(24)


class LlamaRec(PromptedModel):
    """A re-ranker whose prompt lists a user's history and lettered candidates, and whose answer is a letter.

    In training the candidates are the target and items drawn uniformly from those the user has no training interaction
    with, in random order, and the loss is on the letter and the end of the answer. In ranking they are the retriever's
    first ones, 2 to 26, and one forward pass orders them by the logits of their letters (the verbaliser).

    Parameters
    ----------
    facts, **settings
        See ``PromptedModel``.
    order
        In which order the prompt tells the candidates in ranking: the retriever's, or a random one for each user, the
        same in every ranking.

    References
    ----------
    Yue et al., "LlamaRec", arXiv 2311.02089, and Yueeeeeeee/LlamaRec.
    """

    most_candidates = len(_LETTERS), ": each candidate is one letter"

    def __init__(
        self,
        facts: DataFacts,
        *,
        order: Literal["retriever", "random"],
        **settings: Unpack[PromptSettings],
    ) -> None:
        super().__init__(facts, needs_seen=True, **settings)
        self._shuffled = order == "random"
        max_length, prompt, candidates = settings["max_length"], settings["prompt"], self.n_candidates
        self._numbers = self.language.ids(prompt.events(max_length))
        self._marks, self._ends = map(self.language.ids, prompt.candidates(_LETTERS[:candidates]))
        self._pool, self._closing = self.language.ids([prompt.pool, prompt.closing])
        self.letters: Tensor
        self.register_buffer("letters", _one_token_each(self.language, prompt.closing, candidates), persistent=False)
        longest = sorted(map(len, self.item_texts), reverse=True)
        self.language.check_length(
            len(self.opening) + max_length * longest[0] + sum(longest[:candidates])
            + sum(map(len, [*self._numbers, *self._marks, *self._ends])) + len(self._pool) + len(self._closing) + 2,
            f"model.max_length={max_length}",
        )  # fmt: skip

    def prompts_and_answers(self, batch: Batch) -> tuple[Sequence[list[int]], Sequence[list[int]]]:
        pools = self._drawn(batch, batch.streams)
        place = (pools == batch.targets.unsqueeze(1)).int().argmax(1)
        answers = [[letter] for letter in self.letters[place].tolist()]
        return self._prompts(batch.items.split(batch.lengths), pools), answers

    def _drawn(self, batch: Batch, streams: Tensor) -> Tensor:
        """The target and uniform items the user has no training interaction with, in random order: [B, C] int64."""
        assert batch.seen is not None
        seen = batch.seen.items.split(batch.seen.offsets.diff().tolist())
        pools = []
        for target, stream, own in zip(batch.targets.tolist(), streams.tolist(), seen, strict=True):
            keys = key_of(_NEGATIVES, stream), key_of(_ORDER, stream)
            pools.append(unseen_pool(target, own, len(self.titles), self.n_candidates, keys))
        return torch.stack(pools)

    def _prompts(self, histories: Iterable[Tensor], pools: Tensor) -> list[list[int]]:
        """Prompts after the opening: history, candidates, and the closing that precedes the letter."""
        return [
            self._listed(self._numbers, events[-self.n_events :].tolist())
            + self._pool
            + self._listed(self._marks, pool, self._ends)
            + self._closing
            for events, pool in zip(histories, pools.tolist(), strict=True)
        ]

    def rank(self, batch: Batch, k: int) -> Ranking:
        """See ``Recommender.rank``: the scores of candidates are their letters' logits.

        ``position_bias`` is measured for each user whose candidates the model orders: the rank correlation of its order
        with the order of the prompt; 1 where they are the same.
        """
        retrieved, users = self.retrieved(batch, k)
        pools = retrieved.items[users, : self.n_candidates]
        scores = retrieved.scores.new_empty(pools.shape)
        if len(users):
            if self._shuffled:
                own = zip(batch.users[users].tolist(), pools, strict=True)
                pools = torch.stack([pool[keys_of(key_of(_TOLD, user), pool).argsort()] for user, pool in own])
            scores = self._logits(batch, users, pools)
        bias = scores.new_full((len(batch),), torch.nan)
        bias[users] = _correlation_with_order(scores)
        found = self.reranked(batch, retrieved, users, pools, scores, k)
        return replace(found, measured={"position_bias": bias})

    def item_scores(self, batch: Batch, items: Tensor) -> Tensor:
        """See ``Recommender.item_scores``: the logits of the letters, of at most as many items as it was trained on."""
        if items.shape[1] > self.n_candidates:
            what = f"the model orders {self.n_candidates} candidates, and there are {items.shape[1]}"
            raise UserError(what, where="LlamaRec", remedy="Give fewer, or train it with more model.candidates")
        return self._logits(batch, torch.arange(len(batch), device=items.device), items)[:, : items.shape[1]]

    def _logits(self, batch: Batch, users: Tensor, pools: Tensor) -> Tensor:
        """Logits of the candidates' letters for these users of the batch, [n, C]."""
        histories = batch.items.split(batch.lengths)
        prompts = self._prompts((histories[row] for row in users.tolist()), pools)
        states = self.language.states_after(self.opening, prompts)
        # In float32, whatever the model's own: in bfloat16 candidates would tie, and ties count against the target.
        with torch.autocast(states.device.type, enabled=False):
            return F.linear(states.float(), self.language.vocabulary[self.letters].float())


def _correlation_with_order(scores: Tensor) -> Tensor:
    """Spearman's correlation of each row's order by score, highest first, with that of its columns, [n, C] -> [n]."""
    n = scores.shape[1]
    places = scores.argsort(dim=1, descending=True, stable=True)
    apart = (places - torch.arange(n, device=scores.device)).double().square().sum(1)
    return (1 - 6 * apart / (n * (n * n - 1))).to(scores.dtype)


def _one_token_each(language: LanguageModel, closing: str, n: int) -> Tensor:
    """The tokens of the first n letters as they stand after the prompt, [n] int64."""
    before = language.ids([closing])[0]
    read = language.ids([closing + letter for letter in _LETTERS[:n]])
    if any(ids[:-1] != before for ids in read) or len({ids[-1] for ids in read}) < n:
        what = "its tokenizer does not read a letter at the prompt's end as a token of its own"
        remedy = "Choose another llm, or end model.prompt.closing in another way, such as with a line break"
        raise UserError(what, where="llm", remedy=remedy)
    return torch.tensor([ids[-1] for ids in read])
