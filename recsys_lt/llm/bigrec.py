"""BIGRec: a language model generates the next title, and the catalogue is ranked by distance to it."""

from dataclasses import replace
from itertools import takewhile
from typing import Any, Unpack

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.llm.language_model import Read
from recsys_lt.llm.prompt import PromptSettings, TitleModel
from recsys_lt.recommenders.full_ranking import Ranking, ScoreMatrix, rank_by_scores


class BIGRec(TitleModel):
    """Title generation and grounding.

    A title, generated or of the catalogue, is the last hidden state of its last token in the untuned language model;
    distances are Euclidean. With ``popularity`` a user's distances, from 0 (the nearest) to 1 (the farthest), are
    divided by (1 + C) ** gamma, C an item's training interactions from 0 to 1.

    With ``candidates`` nothing is generated: see ``TitleModel``.

    Parameters
    ----------
    facts, **settings
        See ``TitleModel``.
    beams
        Of the generation; 1 is greedy.
    popularity
        The exponent gamma; 0 ranks by distance alone.

    References
    ----------
    Bao et al., "BIGRec", arXiv 2308.08434, and SAI990323/BIGRec.
    """

    def __init__(
        self, facts: DataFacts, *, beams: PositiveInt, popularity: NonNegativeFloat, **settings: Unpack[PromptSettings]
    ) -> None:
        super().__init__(facts, **settings)
        self._beams, self._gamma, self._longest = beams, popularity, settings["title_tokens"]
        counts = facts.popularity.float()
        spread = (counts.max() - counts.min()).clamp(min=1)
        self.register_buffer("shares", (counts - counts.min()) / spread, persistent=False)
        self.shares: Tensor
        # A title is a line: an untuned model goes on with a list of them.
        line = self.language.ids(["\n"])[0]
        self._ends = [self.language.end, *(line if len(line) == 1 else [])]
        self._catalogue: Tensor | None = None
        self._known = set(map(tuple, self.titles))

    def begin_ranking(self) -> None:
        super().begin_ranking()
        # Of the untuned model, so the same in every ranking of a run.
        if not self.n_candidates and (self._catalogue is None or self._catalogue.device != self.opening.device):
            self._catalogue = self._embedded(self.titles)

    def rank(self, batch: Batch, k: int) -> Ranking:
        """See ``TitleModel.rank``.

        Measured of each generated title is whether it is one of the catalogue (``generated/catalogue``) and one of the
        history that the prompt holds (``generated/history``).
        """
        if self.n_candidates:
            return super().rank(batch, k)
        answers = self._answers(batch)
        found = rank_by_scores(self._nearness(answers), ScoreMatrix(self.n_items), batch.targets, self.masked(batch), k)
        histories = [events[-self.n_events :].tolist() for events in batch.items.split(batch.lengths)]
        told = [[self.titles[item] for item in events] for events in histories]
        repeats = torch.tensor([answer in titles for answer, titles in zip(answers, told, strict=True)])
        known = torch.tensor([tuple(answer) in self._known for answer in answers])
        measured = {"generated/catalogue": known.float(), "generated/history": repeats.float()}
        return replace(found, measured=measured)

    def scores(self, batch: Batch) -> Tensor:
        """Minus the re-weighted distances."""
        return self._nearness(self._answers(batch))

    def _nearness(self, generated: list[list[int]]) -> Tensor:
        assert self._catalogue is not None, "begin_ranking comes first"
        answers = self._embedded([title or [self.language.end] for title in generated])
        distances = torch.cdist(answers.float(), self._catalogue.float())
        if not self._gamma:
            return -distances
        low, high = distances.amin(1, keepdim=True), distances.amax(1, keepdim=True)
        return -(distances - low) / (high - low).clamp(min=1e-12) / (1 + self.shares) ** self._gamma

    def _embedded(self, titles: list[list[int]]) -> Tensor:
        """Last hidden states of titles in the untuned model, [n, H]."""
        language = self.language
        with language.untuned():
            return language.states_after(language.opening(""), titles)

    def _answers(self, batch: Batch) -> list[list[int]]:
        """The tokens that the language model generates for each user; prompts of about one length are read together."""
        prompts = self._prompts(batch)
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        answers: list[list[int]] = [[] for _ in prompts]
        for start in range(0, len(order), _TOGETHER):
            rows = order[start : start + _TOGETHER]
            ids, mask = self._padded([prompts[row] for row in rows])
            found = self._generated(ids, mask, self.read_opening)[:, ids.shape[1] :]
            for row, tokens in zip(rows, found.tolist(), strict=True):
                answers[row] = list(takewhile(self._goes_on, tokens))
            # The opening was counted when it was read; every beam reads its own tokens.
            read = int(mask.sum()) - len(mask) * len(self.opening)
            self.language.tokens_read += read + self._beams * sum(len(answers[row]) for row in rows)
        return answers

    def _padded(self, prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
        """The opening and each prompt, as long as the longest by a gap after the opening, and what is no gap."""
        opening, pad = self.opening.tolist(), self.language.end
        longest = max(map(len, prompts))
        gaps = [longest - len(prompt) for prompt in prompts]
        ids = [opening + [pad] * gap + prompt for gap, prompt in zip(gaps, prompts, strict=True)]
        mask = [[1] * len(opening) + [0] * gap + [1] * (longest - gap) for gap in gaps]
        device = self.opening.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

    def _goes_on(self, token: int) -> bool:
        # Many vocabularies have tokens that hold a line's end and more.
        return token != self.language.end and "\n" not in self.language.tokenizer.decode([token])

    def _generated(self, ids: Tensor, mask: Tensor, opening: Read | None) -> Any:
        """Prompts that begin with ``opening`` (None: read it with each), followed by what is generated."""
        # A prompt without its last token is read once for all beams. Generation starts at the last token.
        past = self.language.read_rows(ids[:, :-1], mask[:, :-1], opening)
        past.batch_repeat_interleave(self._beams)
        return self.language.causal.generate(
            input_ids=ids,
            attention_mask=mask,
            **{self.language.cache_argument: past},
            max_new_tokens=self._longest,
            num_beams=self._beams,
            do_sample=False,
            # Not the model's own settings: titles of the history may be repeated, and long ones generated.
            repetition_penalty=1.0,
            length_penalty=1.0,
            no_repeat_ngram_size=0,
            pad_token_id=self.language.end,
            eos_token_id=self._ends,
            use_cache=True,
        )


_TOGETHER = 32  # users whose answers are generated at a time
