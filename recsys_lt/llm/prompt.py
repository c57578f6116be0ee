"""Prompts of titles, and the language models that read a history as titles and answer in words."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any, ClassVar, TypedDict, Unpack

import torch
from pydantic import PositiveInt
from torch import Tensor

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.data.batch import Batch, SeenSets
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.item_data import ATTRIBUTES, TITLE
from recsys_lt.data.needs import Need, TrainedRun
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.errors import UserError
from recsys_lt.llm.choice import LLM
from recsys_lt.llm.likelihoods import log_likelihoods, means
from recsys_lt.llm.lora import keep_trained_alone
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
    pool, candidate, behind
        Before the candidates, where there are any, and before and after each of them; ``{letter}`` is the one to answer
        with.
    """

    def __init__(
        self,
        opening: str,
        closing: str,
        noun: str,
        event: str = "",
        pool: str = "",
        candidate: str = "",
        behind: str = "",
        untitled: str = "untitled {noun}",
    ) -> None:
        self.noun, self._event, self._candidate, self._behind = noun, event, candidate, behind
        self.opening, self.closing = self._filled("opening", opening), self._filled("closing", closing)
        self.pool, self.untitled = self._filled("pool", pool), self._filled("untitled", untitled)
        self.events(1)  # a template that cannot be filled is refused here
        self.candidates("A")

    def events(self, n: int) -> list[str]:
        """Texts before each of the n items of a history."""
        return [self._filled("event", self._event, number=number) for number in range(1, n + 1)]

    def candidates(self, letters: Sequence[str]) -> tuple[list[str], list[str]]:
        """Texts before each candidate, and texts after each."""
        before = [self._filled("candidate", self._candidate, letter=letter) for letter in letters]
        return before, [self._filled("behind", self._behind, letter=letter) for letter in letters]

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
    retriever: str | None  # run folder of what finds the candidates; None has LRURec trained first
    candidates: int | None  # how many of the retriever's first items are put in order; None for no retriever


class PromptedModel(Recommender):
    """A language model that reads an opening and a row's own text, and is trained on the row's answer.

    With ``candidates`` it puts a retriever's first items in order; the rest of the catalogue keeps the retriever's
    order behind them. For ``needs_seen`` see ``Recommender``. Data without titles or wanted attributes, and a model
    without anything to train, are a UserError.
    """

    #: Most candidates it can put in order, and why; None for the whole catalogue.
    most_candidates: ClassVar[tuple[int, str] | None] = None

    @classmethod
    def needs(cls, options: Mapping[str, Any], start_from: str | None) -> Mapping[str, Need]:
        """The trained backbone whose first items are put in order, where there are candidates."""
        if options["candidates"] is None:
            return {}
        return {"retriever": TrainedRun(options["retriever"], "lrurec", "ce", Backbone)}

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
        self.n_candidates, self.retriever = self._candidates(facts, settings)
        if self.retriever is not None:
            # The longer of the two; each cuts what it reads.
            self.max_length = max(max_length, self.retriever.max_length)
        self.opening: Tensor
        self.register_buffer("opening", self.language.opening(prompt.opening), persistent=False)
        #: Tokens of the items' titles, as answers and as prompts give them.
        self.titles = self.item_texts = self._tokens_of(texts, title_tokens)
        if known:
            both = [f"{text} ({more})" if more else text for text, more in zip(texts, known, strict=True)]
            self.item_texts = self._tokens_of(both, title_tokens)

    def _candidates(self, facts: DataFacts, settings: PromptSettings) -> tuple[int, Backbone | None]:
        """How many candidates there are and what finds them; 0 and None where the whole catalogue is ranked."""
        n, retriever = settings["candidates"], settings["retriever"]
        if n is None and self.most_candidates is None:
            if retriever is not None:
                remedy = "Say how many of its first items are put in order, such as model.candidates=20"
                raise UserError("nothing is wanted of it", where="model.retriever", remedy=remedy)
            return 0, None
        most, why = self.most_candidates or (facts.n_items, "")
        if n is None or not 2 <= n <= min(most, facts.n_items):
            remedy = f"Give 2 to {min(most, facts.n_items)}{why}"
            raise UserError(f"it is {'null' if n is None else n}", where="model.candidates", remedy=remedy)
        return n, facts.needs["retriever"].eval()

    def train(self, mode: bool = True) -> "PromptedModel":
        """Set the language model's mode; the retriever stays in eval mode."""
        super().train(mode)
        if self.retriever is not None:
            self.retriever.eval()
        return self

    def _tokens_of(self, texts: Sequence[str], longest: int) -> list[list[int]]:
        """Each text's first tokens, as they stand after a space."""
        return [ids[:longest] for ids in self.language.ids([f" {text}" for text in texts])]

    def _listed(
        self, marks: Sequence[list[int]], items: Sequence[int], ends: Iterable[list[int]] = repeat([])
    ) -> list[int]:
        """Tokens of a list of items, each after its mark and before its end; marks beyond the items are left."""
        each = zip(marks, items, ends, strict=False)
        return [token for mark, item, end in each for token in (*mark, *self.item_texts[item], *end)]

    def facts(self) -> Mapping[str, Any]:
        return {
            "tokens_read": self.language.tokens_read,
            **({"candidates": self.n_candidates} if self.retriever is not None else {}),
        }

    def begin_ranking(self) -> None:
        if self.retriever is not None:
            self.retriever.begin_ranking()

    def retrieved(self, batch: Batch, k: int) -> tuple[Ranking, Tensor]:
        """How the retriever ranks a batch's users, and the rows whose candidates are to be put in order, [n].

        Lists are of ``k`` items, or of the candidates where those are more. The rows are those whose target is among
        the candidates; where lists are wanted too (k > 0), all. A user with fewer items left than there are candidates
        keeps the retriever's order.
        """
        n = self.n_candidates
        found = self.found(batch, batch.targets, self.masked(batch), max(k, n))
        users = torch.arange(len(batch), device=found.items.device)
        if not k:
            users = users[found.target_rank <= n]
        return found, users[(found.items[users, :n] >= 0).all(1)]

    def found(self, batch: Batch, targets: Tensor, masked: SeenSets | None, k: int) -> Ranking:
        """The retriever's ranking; see ``rank_by_scores``."""
        assert self.retriever is not None
        # A retriever reads as much as it was trained to, however much the prompts hold.
        states = self.retriever.user_states(batch.latest(self.retriever.max_length))
        return rank_by_scores(states, self.retriever.scorer(), targets, masked, k)

    def reranked(
        self, batch: Batch, retrieved: Ranking, users: Tensor, pools: Tensor, scores: Tensor, k: int
    ) -> Ranking:
        """The retriever's ranking with the candidates of some users in the order of their scores.

        Parameters
        ----------
        retrieved, users
            See ``retrieved``.
        pools, scores
            Candidates of these users, in any order, and their scores, [n, C]; of equal scores the first comes first.
            Items that are no candidates have no score.
        k
            Length of the lists.
        """
        n = self.n_candidates
        ranks, items = retrieved.target_rank.clone(), retrieved.items.clone()
        listed = torch.full(items.shape, -torch.inf, device=items.device)
        if len(batch.targets):
            hit = pools == batch.targets[users].unsqueeze(1)
            own = scores.masked_fill(~hit, -torch.inf).amax(1, keepdim=True)
            # Ties count against the target, as everywhere: one that ties with what is listed is no candidate.
            found = hit.any(1) & (ranks[users] <= n)
            ranks[users] = torch.where(found, (scores >= own).sum(1), ranks[users])
        listed[users, :n], order = scores.sort(dim=1, descending=True, stable=True)
        items[users, :n] = pools.gather(1, order)
        alone = replace(retrieved, items=retrieved.items[:, :k], scores=retrieved.scores[:, :k])
        return Ranking(ranks, items[:, :k], listed[:, :k], parts={"retriever": alone})

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
    """The prompt lists the titles of a history; the answer is the title of what came next.

    With ``candidates`` their order is by the mean log-likelihood of their titles' tokens after the prompt.
    """

    def __init__(self, facts: DataFacts, **settings: Unpack[PromptSettings]) -> None:
        super().__init__(facts, **settings)
        if self.retriever is not None:
            keep_trained_alone(self.retriever)  # so a checkpoint is the same with candidates and without
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
        super().begin_ranking()
        self.read_opening = self.language.read(self.language.vectors(self.opening)) if len(self.opening) else None
        # Of a model that is held in fewer bits, a copy; detached, since a parameter would join the checkpoint.
        self._vocabulary = self.language.vocabulary.detach().float()

    def scored(self, batch: Batch) -> tuple[Tensor, Scorer] | None:
        return None if self.n_candidates else (self.scores(batch), ScoreMatrix(self.n_items))

    def rank(self, batch: Batch, k: int) -> Ranking:
        """See ``Recommender.rank``: of all items by ``scores``, or of the candidates by their titles' likelihood."""
        if not self.n_candidates:
            return rank_by_scores(self.scores(batch), ScoreMatrix(self.n_items), batch.targets, self.masked(batch), k)
        retrieved, users = self.retrieved(batch, k)
        pools = retrieved.items[users, : self.n_candidates]
        prompts = self._prompts(batch)
        scores = self.title_scores([prompts[user] for user in users.tolist()], pools)
        return self.reranked(batch, retrieved, users, pools, scores, k)

    def item_scores(self, batch: Batch, items: Tensor) -> Tensor | None:
        """See ``Recommender.item_scores``: by what the model ranks by."""
        return (
            self.title_scores(self._prompts(batch), items) if self.n_candidates else super().item_scores(batch, items)
        )

    def title_scores(self, prompts: Sequence[Sequence[int]], items: Tensor) -> Tensor:
        """Likelihoods of the titles of some items after each prompt, [B, C] -> [B, C] float32; see ``likelihoods``."""
        scores = torch.empty(items.shape, device=items.device)
        for row, (prompt, own) in enumerate(zip(prompts, items.tolist(), strict=True)):
            scores[row] = self.likelihoods(prompt, [self.titles[item] for item in own])
        return scores

    def likelihoods(self, prompt: Sequence[int], titles: Sequence[Sequence[int]]) -> Tensor:
        """Mean log-likelihood of each title's tokens after a prompt (without the opening), [n] float32.

        The prompt is read once, and the titles are branches that do not see each other.
        """
        tokens = torch.tensor(prompt, device=self.opening.device)
        read = self.language.read(self.language.vectors(tokens), after=self.read_opening)
        found = log_likelihoods(self.language, read, titles, self._vocabulary)
        return means(found, [len(title) for title in titles])

    @abstractmethod
    def scores(self, batch: Batch) -> Tensor:
        """Scores of the catalogue for each user, [B, I]; higher is better."""
