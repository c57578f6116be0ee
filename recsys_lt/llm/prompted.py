"""Language models that read a history as titles and are trained to give an answer in words."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.item_data import ATTRIBUTES, TITLE
from recsys_lt.data.streams import keys_of
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.errors import UserError
from recsys_lt.llm.choice import LLM
from recsys_lt.llm.language_model import LanguageModel
from recsys_lt.llm.prompt import Prompt
from recsys_lt.losses.blocks import plain_means
from recsys_lt.recommenders.contract import check_losses
from recsys_lt.recommenders.full_ranking import Ranking, ScoreMatrix, rank_by_scores
from recsys_lt.recommenders.recommender import Recommender


class PromptSettings(TypedDict):
    """The language model and what its prompts hold: arguments of all models of this kind."""

    llm: LLM
    prompt: Prompt
    max_length: int  # latest events in a prompt
    title_tokens: int  # tokens of an item in a prompt, its first ones
    attributes: bool  # whether prompts give items with their attributes; an answer is a title alone
    train: bool  # False uses the language model as it is


class PromptedModel(Recommender):
    """A language model that reads an opening and a row's own text, and is trained on the row's answer.

    For ``needs_seen`` see ``Recommender``. Data without titles or wanted attributes, and a model without anything to
    train, are a UserError.
    """

    def __init__(self, facts: DataFacts, *, needs_seen: bool = False, **settings: Unpack[PromptSettings]) -> None:
        prompt, max_length, title_tokens = settings["prompt"], settings["max_length"], settings["title_tokens"]
        if max_length < 1 or title_tokens < 1:
            what = f"max_length {max_length}, title_tokens {title_tokens} leave nothing to read"
            raise UserError(what, where="model", remedy="Give positive numbers, such as 10 and 32")
        texts = [title or prompt.untitled for title in facts.texts(TITLE)]
        known = facts.texts(ATTRIBUTES, "model.attributes=true") if settings["attributes"] else []
        trainable = settings["train"]
        super().__init__(facts.n_items, Prefixes(max_length), max_length, trainable=trainable, needs_seen=needs_seen)
        self.language = settings["llm"].load(adapted=self.trainable, outline=facts.outline)
        if self.trainable and not any(p.requires_grad for p in self.parameters()):
            remedy = "Leave llm.lora as it is, or use the model as it is: model.train=false"
            raise UserError("there is nothing to train", where="llm.lora=null", remedy=remedy)
        self.n_events = max_length
        self.opening: Tensor
        self.register_buffer("opening", self.language.opening(prompt.opening), persistent=False)
        #: Tokens of the items' titles, as answers and as prompts give them.
        self.titles = self.item_texts = self._tokens_of(texts, title_tokens)
        if known:
            both = [f"{text} ({more})" if more else text for text, more in zip(texts, known, strict=True)]
            self.item_texts = self._tokens_of(both, title_tokens)

    def _tokens_of(self, texts: Sequence[str], longest: int) -> list[list[int]]:
        """Each text's first tokens, as they stand after a space."""
        return [ids[:longest] for ids in self.language.ids([f" {text}" for text in texts])]

    def _listed(self, marks: Sequence[list[int]], items: Sequence[int]) -> list[int]:
        """Tokens of a list of items, each after its mark; marks beyond the items are left."""
        pairs = zip(marks, items, strict=False)
        return [token for mark, item in pairs for token in (*mark, *self.item_texts[item])]

    def facts(self) -> Mapping[str, Any]:
        return {"tokens_read": self.language.tokens_read}

    def batch_losses(self, batch: Batch, item_weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        with self.autocast(self.precision.backbone):
            losses = self.answer_losses(batch).float()
        weights = self.target_weights(batch, item_weights)
        totals, losses = plain_means(losses, weights)
        check_losses(totals, losses, len(batch.targets), weights, f"{type(self).__name__}.answer_losses")
        return totals, losses, batch.targets

    def answer_losses(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of the tokens of each row's answer, [B], differentiable. Pure."""
        prompts, answers = self.prompts_and_answers(batch)
        return mean_answer_losses(self.language, self.opening, prompts, answers, batch.streams, batch.step_key)

    @abstractmethod
    def prompts_and_answers(self, batch: Batch) -> tuple[Sequence[list[int]], Sequence[list[int]]]:
        """Each training row's tokens after the opening, and its answer's."""


class TitleModel(PromptedModel):
    """The prompt lists the titles of a history; the answer is the title of what came next."""

    def __init__(self, facts: DataFacts, **settings: Unpack[PromptSettings]) -> None:
        super().__init__(facts, **settings)
        max_length, prompt = settings["max_length"], settings["prompt"]
        occurrences = Counter(map(tuple, self.titles))
        self._shared = torch.tensor([occurrences[tuple(title)] > 1 for title in self.titles])
        *self._marks, self._closing = self.language.ids([*prompt.events(max_length), prompt.closing])
        self.language.check_length(
            len(self.opening) + max_length * max(map(len, self.item_texts)) + sum(map(len, self._marks))
            + len(self._closing) + max(map(len, self.titles)) + 1,
            f"model.max_length={max_length}",
        )  # fmt: skip

    def prompts_and_answers(self, batch: Batch) -> tuple[Sequence[list[int]], Sequence[list[int]]]:
        return self._prompts(batch), [self.titles[item] for item in batch.targets.tolist()]

    def _prompts(self, batch: Batch) -> list[list[int]]:
        """Prompts after the opening: the titles, oldest first, and the closing that precedes the answer."""
        histories = batch.items.split(batch.lengths)
        return [self._listed(self._marks, events[-self.n_events :].tolist()) + self._closing for events in histories]

    def facts(self) -> Mapping[str, Any]:
        """See ``Recommender.facts``: items whose title, as far as it is read, another item has too are not distinct."""
        return {**super().facts(), "indistinct": self._shared}

    def begin_ranking(self) -> None:
        """See ``Recommender.begin_ranking``: all prompts go on from the opening, which is read here."""
        self.read_opening = self.language.read(self.language.vectors(self.opening)) if len(self.opening) else None

    def rank(self, batch: Batch, k: int) -> Ranking:
        return rank_by_scores(self.scores(batch), ScoreMatrix(self.n_items), batch.targets, self.masked(batch), k)

    @abstractmethod
    def scores(self, batch: Batch) -> Tensor:
        """Scores of the catalogue for each user, [B, I]; higher is better."""


def mean_answer_losses(
    language: LanguageModel,
    opening: Tensor,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    keys: Tensor,
    key: int,
) -> Tensor:
    """Mean cross-entropy of each answer's tokens, its end included, [B]; the prompt's tokens cost nothing.

    Parameters
    ----------
    language, opening
        The language model, and the tokens that all prompts begin with, [P].
    prompts, answers
        What follows it in each row, and the row's answer without the token that ends it.
    keys, key
        The random stream of each row, [B] int64, and that of the opening.
    """
    device = language.vocabulary.device
    ended = [[*answer, language.end] for answer in answers]
    # The last token is predicted, and never read.
    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    lengths = [len(row) for row in rows]
    ids = torch.tensor([token for row in rows for token in row], device=device)
    sizes = torch.tensor(lengths, device=device)
    place = torch.arange(len(ids), device=device) - torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    streams = keys_of(0, torch.repeat_interleave(keys, sizes) + place)
    hidden = language.hidden(language.vectors(opening), language.vectors(ids), lengths, streams, key)
    answered = [len(answer) for answer in ended]
    # Each token of an answer is predicted at the place before it: the last places of its row.
    at = [stop - n + step for stop, n in zip(accumulate(lengths), answered, strict=True) for step in range(n)]
    logits = F.linear(hidden[torch.tensor(at, device=device)], language.vocabulary).float()
    each = F.cross_entropy(logits, torch.tensor([t for row in ended for t in row], device=device), reduction="none")
    of_row = torch.repeat_interleave(torch.arange(len(rows), device=device), torch.tensor(answered, device=device))
    sums = each.new_zeros(len(rows)).index_add(0, of_row, each)
    return sums / torch.tensor(answered, device=device)
