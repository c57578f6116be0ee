"""The generative recommender: a network that writes the tokens of the next item."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor

from recsys_lt.data.batch import Batch, SeenSets
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.needs import Need
from recsys_lt.data.streams import key_of, keys_of, uniform, unseen_pool
from recsys_lt.data.tasks.next_item import EveryPosition, Prefixes
from recsys_lt.errors import UserError
from recsys_lt.generative.code_answers import CodeAnswers
from recsys_lt.generative.decoding import Lists
from recsys_lt.generative.decoding import decode as search
from recsys_lt.generative.item_ids import IdMap
from recsys_lt.generative.networks import CausalDecoder, EncoderDecoder, Sizes
from recsys_lt.generative.templates import Read, Templates
from recsys_lt.generative.trie import Trie
from recsys_lt.losses.blocks import plain_means
from recsys_lt.losses.loss import Loss
from recsys_lt.metrics.long_tail import K
from recsys_lt.metrics.ranking import UNLISTED
from recsys_lt.recommenders.full_ranking import Ranking
from recsys_lt.recommenders.preferring import PreferringRecommender

# They set these draws apart from each other and from dropout's.
_TASK, _TEMPLATE, _START, _NEGATIVES, _ORDER = (key_of(12, n) for n in range(5))
_MOST_STRINGS = 1 << 20  # in free decoding


class GenerativeRecommender(PreferringRecommender):
    """Items are sequences of tokens; a network reads a history and writes the tokens of the next item.

    The loss of a target is the mean cross-entropy of its tokens, among all tokens that items are made of. Ranking is a
    beam search, which lists ``beams`` items; an item that is not listed is a miss.

    Parameters
    ----------
    facts
        Of the data; what is needed are the item ids, an ``IdMap``.
    arch
        ``encoder_decoder``: a row is a prefix of a history, written in words, and its next item. ``decoder``: a row is
        a user, each of whose items is predicted from those before it in one pass; it reads no words.
    sizes, weights, templates
        Of the network; the folder of a pretrained T5 that it starts from (None: random weights); what it reads.
    max_length
        Latest events read.
    beams
        Of the search.
    decode
        ``trie``: tokens of items alone are written; ``free``: any digits, which may be no item's (POD).
    length_penalty
        See ``decoding.decode``.
    prompt_vectors
        Learned vectors before a row, of each task its own (POD).
    random_start
        Whether a row's history begins at a random event of its prefix in training (POD).
    top_n, candidates
        Share of the training rows, in [0, 1), that are of the templates' second task, and how many candidates there
        are; all but the answer are drawn from the items that the user has no training interaction with.
    tau
        Of logit adjustment, 0 for none: a token's logit is raised in training by tau times the logarithm of its share
        of the training interactions of the items that it and its siblings lead to. The softmax is among these siblings
        then, in training and in the search.

    References
    ----------
    Rajput et al., "Recommender Systems with Generative Retrieval" (TIGER), NeurIPS 2023; Hua et al., "How to Index Item
    IDs for Recommendation Foundation Models" (P5), SIGIR-AP 2023; Li et al., "Prompt Distillation" (POD), CIKM 2023.
    Logit adjustment, of items scored at once: Menon et al., ICLR 2021.
    """

    takes_item_ids: ClassVar[bool] = True

    @classmethod
    def needs(cls, options: Mapping[str, Any], start_from: str | None) -> Mapping[str, Need]:
        """Nothing but the item ids, which the choice ``item_ids`` makes.

        Settings that do not go together are refused here, before these are made.
        """
        beams, templates = options["beams"], options["templates"]
        texts = [*templates["sequential"], templates["ranking"], *templates.get("top_n", ())]
        if beams < K:
            what, remedy = f"a beam search with {beams} beams lists {beams} items", f"Give {K} or more, for NDCG@{K}"
            raise UserError(what, where="model.beams", remedy=remedy)
        if options["arch"] == "decoder" and options["weights"] is not None:
            what, remedy = "a pretrained T5 has an encoder and a decoder", "Use model.arch=encoder_decoder"
            raise UserError(what, where="model.arch=decoder", remedy=remedy)
        if options["arch"] == "decoder" and (
            set(texts) != {"{items}"} or options["prompt_vectors"] or options["top_n"]
        ):
            what, remedy = "a decoder reads only item tokens", "Use model=tiger, or model.arch=encoder_decoder"
            raise UserError(what, where="model.arch=decoder", remedy=remedy)
        if not cls.keeps_users and any("{user}" in text for text in texts):
            remedy = "Remove {user}, or use model=p5 or pod, which rank only for users they were trained on"
            raise UserError("this model does not read user numbers", where="model.templates", remedy=remedy)
        if options.get("tau") and options["decode"] == "free":
            what, remedy = "logit adjustment is among the tokens that lead to an item", "Use model.decode=trie"
            raise UserError(what, where="model.tau", remedy=remedy)
        if options["top_n"] and not templates.get("top_n"):
            remedy = "Give model.templates.top_n, or set model.top_n=0"
            raise UserError("there is no template for the top-N task", where="model.top_n", remedy=remedy)
        return {}

    def __init__(
        self,
        facts: DataFacts,
        *,
        arch: Literal["encoder_decoder", "decoder"],
        sizes: Sizes,
        weights: str | None,
        templates: Templates,
        max_length: PositiveInt,
        beams: PositiveInt,
        decode: Literal["trie", "free"],
        length_penalty: NonNegativeFloat,
        prompt_vectors: NonNegativeInt,
        random_start: bool,
        top_n: Annotated[float, Field(ge=0, lt=1)],
        candidates: Annotated[int, Field(ge=2)],
        tau: NonNegativeFloat = 0.0,  # runs of before have none
    ) -> None:
        causal = arch == "decoder"
        task = EveryPosition(max_length) if causal else Prefixes(max_length)
        super().__init__(facts.n_items, task, max_length, needs_seen=top_n > 0)
        if top_n and candidates > facts.n_items:
            what, remedy = f"the catalogue has {facts.n_items} items", f"Give at most {facts.n_items}"
            raise UserError(what, where=f"model.candidates={candidates}", remedy=remedy)
        self.ids: IdMap = facts.needs["item_ids"]
        self._templates, self._dataset = templates, facts.name
        self._beams, self._penalty, self._start, self._candidates = beams, length_penalty, random_start, candidates
        self._top_n, self._n_prompts, self._weights = top_n, prompt_vectors, weights
        tokens = self.ids.tokens
        self._tokens = [row[row >= 0].tolist() for row in tokens]
        words = templates.words(facts.name)
        self._vocabulary = {word: self.ids.n_tokens + number for number, word in enumerate(words)}
        self.network: EncoderDecoder | CausalDecoder
        if causal:
            self.network = CausalDecoder(sizes, self.ids.n_tokens)
        else:
            n_prompts = prompt_vectors * (2 if top_n else 1)
            whole = templates.counted != "none"
            self.network = EncoderDecoder(sizes, self.ids.n_tokens, words, n_prompts, whole, weights)
        self.answers: Tensor
        self.register_buffer("answers", torch.from_numpy(tokens.astype(np.int64)), persistent=False)
        self._strings = _Strings.of(self.ids) if decode == "free" else None
        self._trie = Trie.of(tokens if self._strings is None else self._strings.codes)
        self.shift: Tensor | None
        shares = self._trie.shares(facts.popularity.clamp(min=1)) if tau else None
        self.register_buffer("shift", None if shares is None else (tau * shares.log()).float(), persistent=False)
        self._log = _Log()

    def facts(self) -> Mapping[str, Any]:
        notes = {"weights": self._weights or "random initialisation", "item_ids": self.ids.facts(), **self._log.facts()}
        return {"tokens_read": self.network.tokens_read, "first_codes": self.ids.codes[:, 0], "notes": notes}

    # What does a batch cost?

    def batch_losses(self, batch: Batch, item_weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        if self.loss.of_answers:
            return self.preference_losses(batch, item_weights)
        with self.autocast(self.precision.backbone):
            if isinstance(self.network, CausalDecoder):
                losses = self.network.losses(self._whole_rows(batch), batch.streams, self._shift(batch))
            else:
                rows, answers = self._training_rows(batch), self.answers[batch.targets]
                losses = self.network.losses(rows, answers, batch.streams, self._shift(batch))
        return *plain_means(losses, self.target_weights(batch, item_weights)), batch.targets

    def _shift(self, batch: Batch) -> Tensor | float:
        if self.shift is None:
            return 0.0
        return self._trie.to(self.shift.device).of_tokens(batch.targets, self.shift, self.ids.n_tokens)

    def take_loss(self, loss: Loss) -> None:
        if loss.of_answers and (isinstance(self.network, CausalDecoder) or self._top_n or self.shift is not None):
            what = "a preference loss needs rows with one target and no candidates, and logits as they are"
            remedy = "Use model.arch=encoder_decoder, model.top_n=0 and model.tau=0"
            raise UserError(what, where="loss", remedy=remedy)
        super().take_loss(loss)

    def check_reference(self, model: object) -> None:
        same = isinstance(model, GenerativeRecommender) and np.array_equal(model.ids.codes, self.ids.codes)
        if not same:
            what, remedy = "it does not write the same item ids", "Name a run of the same model with the same item_ids"
            raise UserError(what, where="loss.reference", remedy=remedy)

    def answering(self, batch: Batch, loss: Loss | None = None) -> CodeAnswers:
        assert isinstance(self.network, EncoderDecoder)  # see ``take_loss``
        mean = (loss or self.loss).mean_tokens
        return CodeAnswers(self.network, self.answers, self._training_rows(batch), batch.streams, mean)

    def _whole_rows(self, batch: Batch) -> list[list[list[int]]]:
        """The tokens of each row's items, the last target among them."""
        ends = batch.targets[batch.offsets[1:] - 1].tolist()  # every event has a target
        histories = (events.tolist() for events in batch.items.split(batch.lengths))
        return [[self._tokens[item] for item in (*events, end)] for events, end in zip(histories, ends, strict=True)]

    def _training_rows(self, batch: Batch) -> list[Read]:
        templates = self._templates
        second = uniform(keys_of(_TASK, batch.streams)) < self._top_n
        template, start = (uniform(keys_of(key, batch.streams)).tolist() for key in (_TEMPLATE, _START))
        users, histories = batch.users.tolist(), [events.tolist() for events in batch.items.split(batch.lengths)]
        pools = self._pools(batch, second)
        rows = []
        for row, (user, events) in enumerate(zip(users, histories, strict=True)):
            of_task = templates.top_n if row in pools else templates.sequential
            parts = of_task[int(template[row] * len(of_task))]
            first = int(start[row] * len(events)) if self._start else 0
            rows.append(self._read(parts, user, pools.get(row, events[first:]), task=int(row in pools)))
        return rows

    def _pools(self, batch: Batch, second: Tensor) -> dict[int, list[int]]:
        """The candidates of each row of the second task: its target and items not seen in training, in random order."""
        pools = {}
        for row in second.nonzero().squeeze(1).tolist():
            assert batch.seen is not None
            stream, target = int(batch.streams[row]), int(batch.targets[row])
            seen = batch.seen.items[batch.seen.offsets[row] : batch.seen.offsets[row + 1]]
            keys = key_of(_NEGATIVES, stream), key_of(_ORDER, stream)
            pools[row] = unseen_pool(target, seen, self.n_items, self._candidates, keys).tolist()
        return pools

    def _read(self, parts: Any, user: int, items: Sequence[int], task: int = 0) -> Read:
        written = [self._tokens[item] for item in items]
        found = self._templates.filled(parts, user, written, self._vocabulary, self._dataset)
        if not found.tokens:  # a user without history
            found = Read([self.network.start], [0])
        first = self.network.start + 1 + task * self._n_prompts
        prompts = list(range(first, first + self._n_prompts))
        return Read(prompts + found.tokens, [0] * len(prompts) + found.whole_words)

    # How is the catalogue ranked?

    def begin_ranking(self) -> None:
        self._log = _Log()

    def item_scores(self, batch: Batch, items: Tensor) -> Tensor | None:
        """See ``Recommender.item_scores``: log-probabilities of the items' tokens; None of a decoder."""
        if not isinstance(self.network, EncoderDecoder):
            return None
        among: Tensor | float = 0.0
        if self.shift is not None:  # among the tokens that lead to an item, as the search
            trie = self._trie.to(self.shift.device)
            among = trie.of_tokens(items.flatten(), torch.zeros_like(self.shift), self.ids.n_tokens)
        return self.network.log_probabilities(self._ranking_rows(batch), self.answers[items], batch.streams, among)

    def _ranking_rows(self, batch: Batch) -> list[Read]:
        latest = batch.latest(self.max_length)
        pairs = zip(batch.users.tolist(), latest.items.split(latest.lengths), strict=True)
        return [self._read(self._templates.ranking, user, events.tolist()) for user, events in pairs]

    def rank(self, batch: Batch, k: int) -> Ranking:
        """See ``Recommender.rank``: the items that the search finds, and their log-probabilities.

        With lists (k > 0) the part ``unmasked`` has the targets' ranks where nothing is masked: the same search keeps
        beams of its own for it.
        """
        began, masked = perf_counter(), self.masked(batch)
        encoded = self.network.read(self._ranking_rows(batch))
        lists = 2 if k and masked is not None else 1  # of each user: one without seen items, one of all
        found = self._searched(encoded, masked, lists)
        self._log.add(perf_counter() - began, len(batch))
        items, scores = found.items[::lists], found.scores[::lists]
        if self._strings is not None:
            self._log.add_strings(items, scores)
        parts = {}
        if lists == 2:
            parts["unmasked"] = self._ranking(batch.targets, found.items[1::2], found.scores[1::2], 0)
        return replace(self._ranking(batch.targets, items, scores, k), parts=parts)

    def _searched(self, encoded: Any, masked: SeenSets | None, lists: int) -> Lists:
        """The search's items, -1 for a string that is no item; a user's second list, if any, leaves out nothing."""
        strings = self._strings
        if masked is not None:
            masked = masked if strings is None else strings.of_items(masked)
            masked = SeenSets(masked.items, masked.offsets.repeat_interleave(lists)[lists - 1 :])
        network, beams, trie = self.network, self._beams, self._trie.to(self.answers.device)
        among, penalty = self.shift is not None, self._penalty
        found = search(
            network, encoded, trie, beams, masked, beams, lists=lists, length_penalty=penalty, renormalise=among
        )
        if strings is None:
            return found
        items = strings.items.to(trie.leaf_item)[found.items]
        return found._replace(items=items.masked_fill(found.items < 0, -1))

    def _ranking(self, targets: Tensor, items: Tensor, scores: Tensor, k: int) -> Ranking:
        """A ranking with lists of k of what a search found, [B, beams]; ``targets`` [B], or none."""
        hit = items == targets.unsqueeze(1) if len(targets) else items[:0] < 0
        ranks = torch.where(hit.any(1), hit.int().argmax(1) + 1, UNLISTED)
        if self._strings is not None:  # a string that is no item keeps its place in the ranks, and is not recommended
            order = (items < 0).int().argsort(dim=1, stable=True)
            items = items.gather(1, order)
            scores = scores.gather(1, order).masked_fill(items < 0, -torch.inf)
        width = max(k - self._beams, 0)
        items, scores = F.pad(items[:, :k], (0, width), value=-1), F.pad(scores[:, :k], (0, width), value=-torch.inf)
        return Ranking(ranks, items, scores, depth=self._beams)


class NumberedUsers(GenerativeRecommender):
    """The same where templates hold the user's number, so that it ranks for the users it was trained on alone."""

    keeps_users: ClassVar[bool] = True


@dataclass(frozen=True)
class _Strings:
    """Every string of digits, in order: what a free search may write.

    ``codes`` [S, L] are the strings' digits, ``items`` [S] the item of each, -1 for none, and ``numbers`` [I] the
    string of each item.
    """

    codes: NDArray[np.int32]
    items: Tensor
    numbers: Tensor

    @classmethod
    def of(cls, ids: IdMap) -> "_Strings":
        """The strings of item ids that are digits, as many for each item; a UserError for other ids."""
        base, n = ids.sizes[0], ids.sizes[0] ** ids.depth
        if not ids.shared or (ids.codes < 0).any() or n > _MOST_STRINGS:
            what, remedy = (
                f"it needs items that are numbers, written as digits, and at most {_MOST_STRINGS:,} strings",
                "Use item_ids=random or sequential",
            )
            raise UserError(what, where="model.decode=free", remedy=f"{remedy}, or model.decode=trie")
        powers = base ** np.arange(ids.depth - 1, -1, -1)
        numbers = torch.from_numpy(ids.codes.astype(np.int64) @ powers)
        items = torch.full((n,), -1).index_copy_(0, numbers, torch.arange(len(numbers)))
        return cls((np.arange(n)[:, None] // powers % base).astype(np.int32), items, numbers)

    def of_items(self, masked: SeenSets) -> SeenSets:
        """Sets of items as sets of their strings."""
        rows, numbers = masked.rows(), self.numbers[masked.items.cpu()]
        order = (rows.cpu() * len(self.items) + numbers).argsort()
        return SeenSets(numbers[order].to(masked.items.device), masked.offsets)


@dataclass
class _Log:
    """What a ranking has written so far."""

    users: int = 0
    seconds: float = 0.0
    strings: int = 0
    of_items: int = 0

    def add(self, seconds: float, users: int) -> None:
        self.seconds, self.users = self.seconds + seconds, self.users + users

    def add_strings(self, items: Tensor, scores: Tensor) -> None:
        """Count the strings that were written, and those that are an item's."""
        self.strings += int((scores > -torch.inf).sum())
        self.of_items += int((items >= 0).sum())

    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = {"ranked_per_second": self.users / self.seconds} if self.seconds else {}
        return found | ({"valid_strings": self.of_items / self.strings} if self.strings else {})
