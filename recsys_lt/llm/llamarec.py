"""LlamaRec: a language model re-ranks the first items of a retriever."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.needs import Need, TrainedRun
from recsys_lt.data.streams import key_of, keys_of
from recsys_lt.errors import UserError
from recsys_lt.llm.language_model import LanguageModel
from recsys_lt.llm.prompt import PromptedModel, PromptSettings
from recsys_lt.recommenders.full_ranking import Ranking, rank_by_scores

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NEGATIVES, _ORDER = key_of(5), key_of(6)


class LlamaRec(PromptedModel):
    """A re-ranker whose prompt lists a user's history and lettered candidates, and whose answer is a letter.

    In training the candidates are the target and items drawn uniformly from those the user has no training interaction
    with, in random order, and the loss is on the letter and the end of the answer. In ranking they are the retriever's
    first ones, and one forward pass orders them by the logits of their letters (the verbaliser); the rest of the
    catalogue keeps the retriever's order behind them.

    Parameters
    ----------
    facts, **settings
        See ``PromptedModel``.
    retriever
        Run folder of the retriever; None has LRURec trained first.
    candidates
        How many, 2 to 26.

    References
    ----------
    Yue et al., "LlamaRec", arXiv 2311.02089, and Yueeeeeeee/LlamaRec.
    """

    @classmethod
    def needs(cls, options: Mapping[str, Any], start_from: str | None) -> Mapping[str, Need]:
        """The trained backbone whose first items are re-ranked."""
        return {"retriever": TrainedRun(options["retriever"], "lrurec", "ce", Backbone)}

    def __init__(
        self, facts: DataFacts, *, retriever: str | None, candidates: int, **settings: Unpack[PromptSettings]
    ) -> None:
        if not 2 <= candidates <= len(_LETTERS) or candidates > facts.n_items:
            remedy = f"Give 2 to {min(len(_LETTERS), facts.n_items)}: each candidate is one letter"
            raise UserError(f"it is {candidates}", where="model.candidates", remedy=remedy)
        super().__init__(facts, needs_seen=True, **settings)
        max_length, prompt = settings["max_length"], settings["prompt"]
        self.retriever: Backbone = facts.needs["retriever"].eval()
        self.n_candidates = candidates
        # The longer of the two; each cuts what it reads.
        self.max_length = max(max_length, self.retriever.max_length)
        self._numbers = self.language.ids(prompt.events(max_length))
        self._marks = self.language.ids(prompt.candidates(_LETTERS[:candidates]))
        self._pool, self._closing = self.language.ids([prompt.pool, prompt.closing])
        self.letters: Tensor
        self.register_buffer("letters", _one_token_each(self.language, prompt.closing, candidates), persistent=False)
        longest = sorted(map(len, self.item_texts), reverse=True)
        self.language.check_length(
            len(self.opening) + max_length * longest[0] + sum(longest[:candidates])
            + sum(map(len, [*self._numbers, *self._marks])) + len(self._pool) + len(self._closing) + 2,
            f"model.max_length={max_length}",
        )  # fmt: skip

    def train(self, mode: bool = True) -> "LlamaRec":
        """Set the language model's mode; the retriever stays in eval mode."""
        super().train(mode)
        self.retriever.eval()
        return self

    def prompts_and_answers(self, batch: Batch) -> tuple[Sequence[list[int]], Sequence[list[int]]]:
        pools = self._drawn(batch, batch.streams)
        place = (pools == batch.targets.unsqueeze(1)).int().argmax(1)
        answers = [[letter] for letter in self.letters[place].tolist()]
        return self._prompts(batch.items.split(batch.lengths), pools), answers

    def _drawn(self, batch: Batch, streams: Tensor) -> Tensor:
        """The target and uniform items the user has no training interaction with, in random order: [B, C] int64."""
        assert batch.seen is not None
        pools = []
        seen = batch.seen.items.split(batch.seen.offsets.diff().tolist())
        every = torch.arange(len(self.titles), device=streams.device)
        for target, stream, own in zip(batch.targets.tolist(), streams.tolist(), seen, strict=True):
            # The items in the order of hashes: distinct, uniform, and the same in every evaluation.
            drawn = keys_of(key_of(_NEGATIVES, stream), every)
            drawn[own] = torch.iinfo(torch.int64).max
            drawn[target] = torch.iinfo(torch.int64).min
            pool = drawn.topk(self.n_candidates, largest=False).indices
            pools.append(pool[keys_of(key_of(_ORDER, stream), pool).argsort()])
        return torch.stack(pools)

    def _prompts(self, histories: Iterable[Tensor], pools: Tensor) -> list[list[int]]:
        """Prompts after the opening: history, candidates, and the closing that precedes the letter."""
        return [
            self._listed(self._numbers, events[-self.n_events :].tolist())
            + self._pool
            + self._listed(self._marks, pool)
            + self._closing
            for events, pool in zip(histories, pools.tolist(), strict=True)
        ]

    def facts(self) -> Mapping[str, Any]:
        return {**super().facts(), "candidates": self.n_candidates}

    def begin_ranking(self) -> None:
        self.retriever.begin_ranking()

    def rank(self, batch: Batch, k: int) -> Ranking:
        """See ``Recommender.rank``.

        The language model re-ranks for the users whose target is among the candidates; where lists are wanted too, for
        all. Scores are the letters' logits; items that are no candidates have none.
        """
        n = self.n_candidates
        # A retriever reads as much as it was trained to, however much the prompts hold.
        states = self.retriever.user_states(batch.latest(self.retriever.max_length))
        table = self.retriever.scorer()
        retrieved = rank_by_scores(states, table, batch.targets, self.masked(batch), max(k, n))
        ranks, items = retrieved.target_rank.clone(), retrieved.items.clone()
        scores = torch.full(items.shape, -torch.inf, device=items.device)
        users = torch.arange(len(batch), device=items.device)
        if not k:
            users = users[ranks <= n]
        users = users[(items[users, :n] >= 0).all(1)]  # who has seen nearly all items keeps the retriever's order
        if len(users):
            pools = items[users, :n]
            logits = self._logits(batch, users, pools)
            if len(batch.targets):
                hit = pools == batch.targets[users].unsqueeze(1)
                own = logits.masked_fill(~hit, -torch.inf).amax(1, keepdim=True)
                # Ties count against the target, as everywhere: one that ties with what is listed is no candidate.
                found = hit.any(1) & (ranks[users] <= n)
                ranks[users] = torch.where(found, (logits >= own).sum(1), ranks[users])
            scores[users, :n], order = logits.sort(dim=1, descending=True, stable=True)
            items[users, :n] = pools.gather(1, order)
        alone = replace(retrieved, items=retrieved.items[:, :k], scores=retrieved.scores[:, :k])
        return Ranking(ranks, items[:, :k], scores[:, :k], parts={"retriever": alone})

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


def _one_token_each(language: LanguageModel, closing: str, n: int) -> Tensor:
    """The tokens of the first n letters as they stand after the prompt, [n] int64."""
    before = language.ids([closing])[0]
    read = language.ids([closing + letter for letter in _LETTERS[:n]])
    if any(ids[:-1] != before for ids in read) or len({ids[-1] for ids in read}) < n:
        what = "its tokenizer does not read a letter at the prompt's end as a token of its own"
        remedy = "Choose another llm, or end model.prompt.closing in another way, such as with a line break"
        raise UserError(what, where="llm", remedy=remedy)
    return torch.tensor([ids[-1] for ids in read])
