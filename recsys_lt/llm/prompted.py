"""What all models share that are told a history in titles and answer in words."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypedDict, Unpack

from torch import Tensor

from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.item_data import ATTRIBUTES, TITLE
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.errors import UserError
from recsys_lt.llm.answer_losses import mean_answer_losses
from recsys_lt.llm.choice import LLM
from recsys_lt.llm.prompt import Prompt
from recsys_lt.recommenders.answering_model import AnsweringModel


class Told(TypedDict):
    """What is read, and who reads it: what all these models are made with.

    Parameters
    ----------
    llm
        The language model.
    prompt
        The prompt's fixed texts.
    max_length
        Latest events told.
    title_tokens
        Tokens told of an item, its first ones.
    attributes
        Whether items are told with their attributes; an answer is a title alone.
    train
        False takes the language model as it is.
    """

    llm: LLM
    prompt: Prompt
    max_length: int
    title_tokens: int
    attributes: bool
    train: bool


class PromptedModel(AnsweringModel):
    """A language model that reads an opening, a row's own words, and answers.

    Parameters
    ----------
    facts
        Sizes and titles of the data.
    **told
        See ``Told``.

    Raises
    ------
    UserError
        For a number that is not positive, data without titles, or without attributes that are to be told.
    """

    def __init__(self, facts: DataFacts, **told: Unpack[Told]) -> None:
        super().__init__()
        prompt, max_length, title_tokens = told["prompt"], told["max_length"], told["title_tokens"]
        if max_length < 1 or title_tokens < 1:
            raise UserError(
                f"max_length {max_length}, title_tokens {title_tokens} leave nothing to read",
                where="model",
                remedy="Give positive numbers, such as 10 and 32",
            )
        texts = [title or prompt.untitled for title in facts.texts(TITLE)]
        known = facts.texts(ATTRIBUTES, "model.attributes=true") if told["attributes"] else []
        self.language = told["llm"].load(adapted=told["train"])
        self.max_length, self.trainable = max_length, told["train"]
        self.task = Prefixes(max_length)
        self.opening: Tensor
        self.register_buffer("opening", self.language.opening(prompt.opening), persistent=False)
        self.titles = self.told = self._tokens_of(texts, title_tokens)
        if known:
            both = [f"{text} ({more})" if more else text for text, more in zip(texts, known, strict=True)]
            self.told = self._tokens_of(both, title_tokens)

    def _tokens_of(self, texts: Sequence[str], longest: int) -> list[list[int]]:
        """Each text's first tokens, as they stand after a space."""
        return [ids[:longest] for ids in self.language.ids([f" {text}" for text in texts])]

    def answer_losses(self, batch: Batch) -> Tensor:
        """See ``AnsweringModel.answer_losses``."""
        prompts, answers = self.asked_and_answered(batch)
        return mean_answer_losses(self.language, self.opening, prompts, answers, batch.streams, batch.step_key)

    @abstractmethod
    def asked_and_answered(self, batch: Batch) -> tuple[Sequence[list[int]], Sequence[list[int]]]:
        """Each training row's tokens after the opening, and its answer's."""
