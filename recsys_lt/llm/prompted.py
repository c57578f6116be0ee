"""Language models that read a history as titles and are trained to give an answer in words."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

from torch import Tensor

from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.item_data import ATTRIBUTES, TITLE
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.errors import UserError
from recsys_lt.llm.answer_losses import mean_answer_losses
from recsys_lt.llm.choice import LLM
from recsys_lt.llm.prompt import Prompt
from recsys_lt.losses.blocks import plain_means
from recsys_lt.recommenders.contract import check_losses
from recsys_lt.recommenders.recommender import Recommender


class PromptSettings(TypedDict):
    """The language model and what its prompts hold: arguments of all models of this kind.

    Parameters
    ----------
    llm
        The language model.
    prompt
        The prompt's fixed texts.
    max_length
        Latest events in a prompt.
    title_tokens
        Tokens of an item in a prompt, its first ones.
    attributes
        Whether prompts give items with their attributes; an answer is a title alone.
    train
        False uses the language model as it is.
    """

    llm: LLM
    prompt: Prompt
    max_length: int
    title_tokens: int
    attributes: bool
    train: bool


class PromptedModel(Recommender):
    """A language model that reads an opening and a row's own text, and is trained on the row's answer.

    Parameters
    ----------
    facts
        Sizes and titles of the data.
    needs_seen
        See ``Recommender``.
    **settings
        See ``PromptSettings``.

    Raises
    ------
    UserError
        For a number that is not positive, data without titles or wanted attributes, or nothing to train.
    """

    def __init__(self, facts: DataFacts, *, needs_seen: bool = False, **settings: Unpack[PromptSettings]) -> None:
        prompt, max_length, title_tokens = settings["prompt"], settings["max_length"], settings["title_tokens"]
        if max_length < 1 or title_tokens < 1:
            raise UserError(
                f"max_length {max_length}, title_tokens {title_tokens} leave nothing to read",
                where="model",
                remedy="Give positive numbers, such as 10 and 32",
            )
        texts = [title or prompt.untitled for title in facts.texts(TITLE)]
        known = facts.texts(ATTRIBUTES, "model.attributes=true") if settings["attributes"] else []
        super().__init__(
            facts.n_items, Prefixes(max_length), max_length, trainable=settings["train"], needs_seen=needs_seen
        )
        self.language = settings["llm"].load(adapted=self.trainable, outline=facts.outline)
        if self.trainable and not any(p.requires_grad for p in self.parameters()):
            raise UserError(
                "there is nothing to train",
                where="llm.lora=null",
                remedy="Leave llm.lora as it is, or use the model as it is: model.train=false",
            )
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
