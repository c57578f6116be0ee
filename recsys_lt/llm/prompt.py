"""Prompts of titles, and the language models that read a history as titles and answer in words."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import torch
from pydantic import PositiveInt
from torch import Tensor

from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.item_data import ATTRIBUTES, TITLE
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.errors import UserError
from recsys_lt.llm.choice import LLM
from recsys_lt.llm.title_answers import TitleAnswers
from recsys_lt.losses.blocks import plain_means
from recsys_lt.losses.loss import Loss
from recsys_lt.losses.output_table import Scorer
from recsys_lt.recommenders.full_ranking import Ranking, ScoreMatrix, rank_by_scores
from recsys_lt.recommenders.preferring import PreferringRecommender
from recsys_lt.recommenders.recommender import Recommender


class Prompt:
    """Texts before, between and after the items of a prompt.

    In every text ``{noun}`` is what the dataset's items are. An item follows after a space.

    Parameters
    ----------
    opening, closing
        Before everything, the same for every row, and after it; the answer follows.
    noun
        movie, product, place, ....
    event, untitled
        Before each item of the history (``{number}`` counts them from 1), and in the place of a missing title.
    pool, candidate
        Before the candidates, where there are any, and before each of them; ``{letter}`` is the one to answer with.
    """

    def __init__(
        self,
        opening: str,
        closing: str,
        noun: str,
        event: str = "",
        pool: str = "",
        candidate: str = "",
        untitled: str = "untitled {noun}",
    ) -> None:
        self.noun, self._event, self._candidate = noun, event, candidate
        self.opening, self.closing = self._filled("opening", opening), self._filled("closing", closing)
        self.pool, self.untitled = self._filled("pool", pool), self._filled("untitled", untitled)
        self.events(1)  # a template that cannot be filled is refused here
        self.candidates("A")

    def events(self, n: int) -> list[str]:
        """Texts before each of the n items of a history."""
        return [self._filled("event", self._event, number=number) for number in range(1, n + 1)]

    def candidates(self, letters: Sequence[str]) -> list[str]:
        """Texts before each candidate."""
        return [self._filled("candidate", self._candidate, letter=letter) for letter in letters]

    def _filled(self, key: str, text: str, **names: object) -> str:
        try:
            return text.format(noun=self.noun, **names)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            may = " and ".join(f"{{{name}}}" for name in ("noun", *names))
            what, remedy = f"the template cannot be filled ({error})", f"Only {may} may stand in braces"
            raise UserError(what, where=f"model.prompt.{key}", remedy=f"{remedy}; write other braces twice") from error


class PromptSettings(TypedDict):
    """The language model and what its prompts hold: arguments of all models of this kind."""

    llm: LLM
    prompt: Prompt
    max_length: PositiveInt  # latest events in a prompt
    title_tokens: PositiveInt  # tokens of an item in a prompt, its first ones
    attributes: bool  # whether prompts give items with their attributes; an answer is a title alone
    train: bool  # False uses the language model as it is


class PromptedModel(Recommender):
    """A language model that reads an opening and a row's own text, and is trained on the row's answer.

    For ``needs_seen`` see ``Recommender``. Data without titles or wanted attributes, and a model without anything to
    train, are a UserError.
    """

    def __init__(self, facts: DataFacts, *, needs_seen: bool = False, **settings: Unpack[PromptSettings]) -> None:
        prompt, max_length, title_tokens = settings["prompt"], settings["max_length"], settings["title_tokens"]
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
        return *plain_means(losses, self.target_weights(batch, item_weights)), batch.targets

    def answer_losses(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of the tokens of each row's answer, [B], differentiable. Pure."""
        prompts, answers = self.prompts_and_answers(batch)
        return self.language.answer_losses(self.opening, prompts, answers, batch.streams, batch.step_key)

    @abstractmethod
    def prompts_and_answers(self, batch: Batch) -> tuple[Sequence[list[int]], Sequence[list[int]]]:
        """Each training row's tokens after the opening, and its answer's."""


class TitleModel(PromptedModel, PreferringRecommender):
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

    def check_reference(self, model: object) -> None:
        if not isinstance(model, TitleModel):
            what, remedy = f"{type(model).__name__} does not answer with titles", "Name a run of the same model"
            raise UserError(what, where="loss.reference", remedy=remedy)

    def batch_losses(self, batch: Batch, item_weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        if self.loss.of_answers:
            return self.preference_losses(batch, item_weights)
        return super().batch_losses(batch, item_weights)

    def answering(self, batch: Batch, loss: Loss | None = None) -> TitleAnswers:
        opening = self.opening.tolist()
        prompts = [[*opening, *prompt] for prompt in self._prompts(batch)]
        mean = (loss or self.loss).mean_tokens
        return TitleAnswers(self.language, self.titles, prompts, batch.streams, mean_tokens=mean)

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

    def scored(self, batch: Batch) -> tuple[Tensor, Scorer]:
        return self.scores(batch), ScoreMatrix(self.n_items)

    def rank(self, batch: Batch, k: int) -> Ranking:
        return rank_by_scores(*self.scored(batch), batch.targets, self.masked(batch), k)

    @abstractmethod
    def scores(self, batch: Batch) -> Tensor:
        """Scores of the catalogue for each user, [B, I]; higher is better."""
