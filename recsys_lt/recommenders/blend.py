"""A blend of trained models: their scores as probabilities, mixed by weights that are chosen on validation."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.loader import RankBatches, users_with_target
from recsys_lt.data.needs import Artifact, Need, TrainedRun
from recsys_lt.data.sequences import Sequences
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.errors import UserError
from recsys_lt.metrics.choice import Quality, check_keep, chosen, is_nonhead
from recsys_lt.metrics.ranking import UNLISTED
from recsys_lt.recommenders.full_ranking import ScoreMatrix

_TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_WEIGHTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_STARTS = (1.0, 4.0)  # temperatures that the search begins with
_ROUNDS = 2  # of the search over all parts
_CANDIDATES = 200  # first items of each part that a trial ranks
_ROWS = 512  # users ranked at a time
_FILE, _TRIALS = "mixture.json", "trials.json"


class Mixture(NamedTuple):
    """Weights of the parts, which sum to 1, and the temperatures of their softmaxes, one of each a part."""

    weights: tuple[float, ...]
    temperatures: tuple[float, ...]

    def __call__(self, standardised: Sequence[Tensor]) -> Tensor:
        """Mixed probabilities [B, I] of the parts' standardised scores, [B, I] each."""
        return _weighted_sum(self.weights, map(_probabilities, standardised, self.temperatures))


def _weighted_sum(weights: Sequence[float], parts: Any) -> Tensor:
    """The weighted sum of tensors."""
    weighted = (weight * part for weight, part in zip(weights, parts, strict=True))
    return torch.as_tensor(sum(weighted))


def _standardised(scores: Tensor, batch: Batch) -> Tensor:
    """Scores [B, I] less their mean and divided by their standard deviation, both over a user's unseen items."""
    kept = torch.ones_like(scores, dtype=torch.bool)
    if batch.seen is not None:
        kept[batch.seen.rows(), batch.seen.items] = False
    n = kept.sum(1, keepdim=True).clamp(min=1)
    mean = (scores * kept).sum(1, keepdim=True) / n
    centred = scores - mean
    deviation = ((centred.square() * kept).sum(1, keepdim=True) / n).sqrt()
    return centred / deviation.clamp(min=torch.finfo(scores.dtype).tiny)


def _probabilities(standardised: Tensor, temperature: float) -> Tensor:
    return (standardised / temperature).softmax(1)


def _all_scores(model: Backbone, batch: Batch) -> Tensor:
    """Scores of all items by a backbone, [B, I]."""
    scorer = model.scorer()
    return scorer.block(model.user_states(batch.latest(model.max_length)), 0, scorer.n_items)


@dataclass(frozen=True)
class ChosenMixture(Artifact):
    """The mixture that is best on validation users, by a search over one number after the other.

    Parameters
    ----------
    parts
        Run folders.
    users
        How many validation users each trial ranks for, at most.
    mask_seen
        As the blend ranks (``metrics.mask_seen``).
    keep
        See ``choice.chosen``.
    """

    parts: tuple[str, ...]
    users: int
    mask_seen: str
    keep: float = 1.0

    def __post_init__(self) -> None:
        check_keep(self.keep)

    def needs(self) -> Mapping[str, Need]:
        return _runs(self.parts)

    def make(self, data: Sequences, needs: Mapping[str, Any], folder: Path) -> None:
        models = [needs[name] for name in _runs(self.parts)]
        found = self._search(models, data) if len(models) > 1 else []
        mixture = chosen(found, self.keep)[0] if found else Mixture((1.0,), (1.0,))
        rows = [{**tried._asdict(), **reached.row()} for tried, reached in found]
        (folder / _TRIALS).write_text(json.dumps(rows, indent=1) + "\n")
        (folder / _FILE).write_text(json.dumps(mixture._asdict()) + "\n")

    def load(self, folder: Path) -> Mixture:
        read = json.loads((folder / _FILE).read_text())
        return Mixture(tuple(read["weights"]), tuple(read["temperatures"]))

    @torch.no_grad()
    def _search(self, models: Sequence[Backbone], data: Sequences) -> list[tuple[Mixture, Quality]]:
        """Mixtures and their quality: each part's temperature and weight in turn, from several starts.

        A trial ranks the target among the items that some part has in its first ``_CANDIDATES``, and no others.
        """
        candidates = _Candidates.of(models, data, self.users, self.mask_seen)
        n, found = len(models), []
        for start in _STARTS:
            mixture = Mixture((1 / n,) * n, (start,) * n)
            found.append((mixture, candidates.quality(mixture)))
            found += _climbed(candidates, found[-1], 1.0, 0.0)
        if self.keep < 1:  # from the best overall towards rare targets
            best = chosen(found, 1.0)
            found += _climbed(candidates, best, self.keep, best[1].overall)
        return found


def _climbed(
    candidates: "_Candidates", trial: tuple[Mixture, Quality], keep: float, top: float
) -> Iterator[tuple[Mixture, Quality]]:
    """Trials around the best so far: a part's temperature and weight, then the next part's; see ``choice.chosen``."""
    for part in [*range(len(trial[0].weights))] * _ROUNDS:
        weights, temperatures = trial[0]
        around = [trial]
        for temperature, weight in product(_TEMPERATURES, _WEIGHTS):
            rest = 1 - weights[part]
            scaled = [weight if k == part else w * (1 - weight) / rest for k, w in enumerate(weights)]
            changed = (*temperatures[:part], temperature, *temperatures[part + 1 :])
            mixture = Mixture(tuple(scaled), changed)
            around.append((mixture, candidates.quality(mixture)))
        yield from around[1:]
        trial = chosen(around, keep, top)


@dataclass(frozen=True)
class _Candidates:
    """Standardised scores of the parts for the items of the first places, the target in the first column.

    ``scores`` are [U, C] for each part, minus infinity where an item is there a second time or masked; ``normalisers``
    are the logarithms of the softmaxes' sums over the catalogue, [U, 1], by part and temperature; ``nonhead`` says
    whose target is mid or tail, [U].
    """

    scores: list[Tensor]
    normalisers: list[dict[float, Tensor]]
    nonhead: NDArray[np.bool_]

    @classmethod
    def of(cls, models: Sequence[Backbone], data: Sequences, n_users: int, mask_seen: str) -> "_Candidates":
        """Rank for ``n_users`` validation users, drawn as ``users_with_target`` draws them."""
        users = users_with_target(data, "valid", n_users)
        if len(users) == 0:
            what, remedy = "no user has a validation target with an event before it", "Blend runs of other data"
            raise UserError(what, where=data.name, remedy=remedy)
        for model in models:
            model.begin_ranking()
        longest = max(model.max_length for model in models)
        batches = RankBatches(data, users, "valid", longest, _ROWS, with_seen=mask_seen != "none")
        k = min(_CANDIDATES, data.n_items)
        scores: list[list[Tensor]] = [[] for _ in models]
        sums: list[dict[float, list[Tensor]]] = [{one: [] for one in _TEMPERATURES} for _ in models]
        for step in range(len(batches)):
            batch = batches[step]
            full = [_standardised(_all_scores(model, batch), batch) for model in models]
            for part, own in zip(full, sums, strict=True):
                for temperature, found in own.items():
                    found.append((part / temperature).logsumexp(1, keepdim=True))
            masked, hidden = torch.zeros(len(batch), data.n_items, dtype=torch.bool), batch.masked(mask_seen)
            if hidden is not None:
                masked[hidden.rows(), hidden.items] = True
            tops = [part.masked_fill(masked, -torch.inf).topk(k).indices for part in full]
            items = torch.cat([batch.targets.unsqueeze(1), torch.cat(tops, 1).sort(1).values], 1)
            again = items == items[:, :1]
            again[:, 2:] |= items[:, 2:] == items[:, 1:-1]
            again[:, 0] = False
            again |= masked.gather(1, items)
            for part, kept in zip(full, scores, strict=True):
                kept.append(part.gather(1, items).masked_fill(again, -torch.inf))
        joined = [{one: torch.cat(found) for one, found in own.items()} for own in sums]
        return cls(
            [torch.cat(kept) for kept in scores], joined, is_nonhead(data.targets(users, "valid"), data.popularity)
        )

    def quality(self, mixture: Mixture) -> Quality:
        """What a mixture reaches."""
        parts = (
            (part / temperature - own[temperature]).exp()
            for part, own, temperature in zip(self.scores, self.normalisers, mixture.temperatures, strict=True)
        )
        mixed = _weighted_sum(mixture.weights, parts)
        ranks = (mixed >= mixed[:, :1]).sum(1).masked_fill(mixed[:, 0] == 0, UNLISTED)
        return Quality.of(ranks.numpy(), self.nonhead)


class Blend(Backbone):
    """Trained models of one dataset whose scores are mixed.

    A user's score of an item is sum_k w_k softmax(z_k / t_k), where z_k are the scores of part k less their mean and
    divided by their standard deviation over the user's unseen items. Weights w and temperatures t are those of highest
    NDCG@10 on validation users. A blend of one part ranks as the part does. States are the scores, [B, I].

    Parameters
    ----------
    facts
        See ``Backbone``; what is needed are the parts and the mixture.
    parts
        Run folders, trained on the same events.
    tune_users
        How many validation users each trial of the search ranks for, at most.
    mask_seen
        ``metrics.mask_seen``, as the trials rank.
    keep
        Below 1, the mixture of highest nonhead NDCG@10 among those that keep this share of the highest NDCG@10.
    """

    trainable: ClassVar[bool] = False

    @classmethod
    def needs(cls, options: Mapping[str, Any], start_from: str | None) -> Mapping[str, Need]:
        """The parts, and the mixture that is chosen of them."""
        parts = options["parts"]
        if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
            raise UserError(f"they are {parts!r}", where="model.parts", remedy="Give run folders: model.parts=[a,b]")
        if len(set(parts)) < len(parts):
            raise UserError("a run is there twice", where="model.parts", remedy="Name each run once")
        chosen = ChosenMixture(tuple(parts), options["tune_users"], options["mask_seen"], options["keep"])
        return {**_runs(parts), "mixture": chosen}

    def __init__(self, facts: DataFacts, *, parts: Sequence[str], tune_users: int, mask_seen: str, keep: float) -> None:
        super().__init__(users=tune_users, width=1)
        self.models = nn.ModuleList(facts.needs[name] for name in _runs(parts))
        self.max_length = max(model.max_length for model in self._parts)
        self.task = Prefixes(self.max_length)
        self.mixture: Mixture = facts.needs["mixture"]
        self._n_items = facts.n_items

    @property
    def _parts(self) -> list[Backbone]:
        return [model for model in self.models if isinstance(model, Backbone)]

    def facts(self) -> Mapping[str, Any]:
        return {"chosen": {key: list(value) for key, value in self.mixture._asdict().items()}}

    def begin_ranking(self) -> None:
        for model in self._parts:
            model.begin_ranking()

    def user_states(self, batch: Batch) -> Tensor:
        scores = [_all_scores(model, batch) for model in self._parts]
        if len(scores) == 1:  # ranked as the part ranks, to the last bit
            return scores[0]
        return self.mixture([_standardised(one, batch) for one in scores])

    def output_table(self) -> ScoreMatrix:
        return ScoreMatrix(self._n_items)


def _runs(parts: Sequence[str]) -> dict[str, TrainedRun]:
    return {f"part_{number}": TrainedRun(folder, kind=Backbone) for number, folder in enumerate(parts)}
