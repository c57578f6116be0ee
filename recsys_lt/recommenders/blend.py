"""A blend of trained models: their scores as probabilities, mixed by weights that are chosen on validation."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.data.batch import Batch
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.loader import RankBatches, users_with_target
from recsys_lt.data.needs import Artifact, Need, TrainedRun
from recsys_lt.data.sequences import Sequences
from recsys_lt.data.tasks.next_item import Prefixes
from recsys_lt.errors import UserError
from recsys_lt.metrics.ranking import UNLISTED, gains
from recsys_lt.recommenders.full_ranking import ScoreMatrix

_TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_WEIGHTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_ROUNDS = 2  # of the search over all parts
_ROWS = 512  # users ranked at a time
_LARGEST = 1 << 28  # scores held by the search: 1 GB
_FILE, _TRIALS = "mixture.json", "trials.json"


class Mixture(NamedTuple):
    """Weights of the parts, which sum to 1, and the temperatures of their softmaxes, one of each a part."""

    weights: tuple[float, ...]
    temperatures: tuple[float, ...]

    def __call__(self, standardised: Sequence[Tensor]) -> Tensor:
        """Mixed probabilities [B, I] of the parts' standardised scores, [B, I] each; a single part is left as it is."""
        if len(standardised) == 1:
            return standardised[0]
        return _weighted_sum(self.weights, map(_probabilities, standardised, self.temperatures))


def _weighted_sum(weights: Sequence[float], parts: Any) -> Tensor:
    """The weighted sum of tensors."""
    weighted = (weight * part for weight, part in zip(weights, parts, strict=True))
    return torch.as_tensor(sum(weighted))


def _standardised(scores: Tensor, batch: Batch) -> Tensor:
    """Scores [B, I] less their mean and divided by their standard deviation, both over a user's unseen items."""
    kept = torch.ones_like(scores, dtype=torch.bool)
    if batch.seen is not None:
        row = torch.repeat_interleave(batch.seen.offsets.diff(), output_size=len(batch.seen.items))
        kept[row, batch.seen.items] = False
    n = kept.sum(1, keepdim=True).clamp(min=1)
    mean = (scores * kept).sum(1, keepdim=True) / n
    centred = scores - mean
    deviation = ((centred.square() * kept).sum(1, keepdim=True) / n).sqrt()
    return centred / deviation.clamp(min=torch.finfo(scores.dtype).tiny)


def _probabilities(standardised: Tensor, temperature: float) -> Tensor:
    return (standardised / temperature).softmax(1)


def _all_scores(model: Backbone, batch: Batch) -> Tensor:
    """Scores of all items by a backbone, [B, I]."""
    scorer = model.output_table()
    return scorer.block(model.user_states(batch.latest(model.max_length)), 0, scorer.n_items)


@dataclass(frozen=True)
class ChosenMixture(Artifact):
    """The mixture of highest NDCG@10 on validation users, by a search over one number after the other.

    Parameters
    ----------
    parts
        Run folders.
    users
        How many validation users each trial ranks for, at most.
    mask_seen
        As the blend ranks (``metrics.mask_seen``).
    """

    parts: tuple[str, ...]
    users: int
    mask_seen: str

    def needs(self) -> Mapping[str, Need]:
        return _runs(self.parts)

    def make(self, data: Sequences, needs: Mapping[str, Any], folder: Path) -> None:
        models = [needs[name] for name in _runs(self.parts)]
        found = list(self._search(models, data)) if len(models) > 1 else [(Mixture((1.0,), (1.0,)), None)]
        chosen = max(found, key=lambda trial: trial[1] or 0.0)[0]  # the first of equals
        rows = [{**mixture._asdict(), "valid/ndcg@10": value} for mixture, value in found]
        (folder / _TRIALS).write_text(json.dumps(rows, indent=1) + "\n")
        (folder / _FILE).write_text(json.dumps(chosen._asdict()) + "\n")

    def load(self, folder: Path) -> Mixture:
        read = json.loads((folder / _FILE).read_text())
        return Mixture(tuple(read["weights"]), tuple(read["temperatures"]))

    @torch.no_grad()
    def _search(self, models: Sequence[Backbone], data: Sequences) -> Iterator[tuple[Mixture, float]]:
        """Mixtures and their NDCG@10: each part's temperature and weight in turn, from equal weights."""
        n = len(models)
        most = min(self.users, max(1, _LARGEST // (2 * n * data.n_items)))
        users = users_with_target(data, "valid", most)
        longest = max(model.max_length for model in models)
        batches = RankBatches(data, users, "valid", longest, _ROWS, with_seen=True)
        scores = [torch.empty(len(users), data.n_items) for _ in models]
        seen = torch.zeros(0, 2, dtype=torch.int64)
        targets: list[Tensor] = []
        start = 0
        for step in range(len(batches)):
            batch = batches[step]
            stop = start + len(batch)
            for rows, model in zip(scores, models, strict=True):
                rows[start:stop] = _standardised(_all_scores(model, batch), batch)
            if self.mask_seen != "none" and batch.seen is not None:
                row = torch.repeat_interleave(batch.seen.offsets.diff()) + start
                items = batch.seen.items
                if self.mask_seen == "keep_target":
                    other = items != batch.targets[row - start]
                    row, items = row[other], items[other]
                seen = torch.cat([seen, torch.stack([row, items], 1)])
            targets.append(batch.targets)
            start = stop
        target = torch.cat(targets).unsqueeze(1)

        def quality(parts: Sequence[Tensor], weights: Sequence[float]) -> float:
            mixed = _weighted_sum(weights, parts)
            mixed[seen[:, 0], seen[:, 1]] = -torch.inf
            score = mixed.gather(1, target)
            rank = (mixed >= score).sum(1).masked_fill(score[:, 0] == -torch.inf, UNLISTED)
            return float(gains("ndcg", rank.numpy(), 10).mean())

        weights, temperatures = [1 / n] * n, [1.0] * n
        parts = [_probabilities(part, 1.0) for part in scores]
        best = quality(parts, weights)
        yield Mixture(tuple(weights), tuple(temperatures)), best
        for _ in range(_ROUNDS):
            for part in range(n):
                for value in _TEMPERATURES:
                    tried = [*parts[:part], _probabilities(scores[part], value), *parts[part + 1 :]]
                    reached = quality(tried, weights)
                    changed = [*temperatures[:part], value, *temperatures[part + 1 :]]
                    yield Mixture(tuple(weights), tuple(changed)), reached
                    if reached > best:
                        best, parts, temperatures = reached, tried, changed
                for value in _WEIGHTS:
                    rest = 1 - weights[part]
                    scaled = [value if k == part else w * (1 - value) / rest for k, w in enumerate(weights)]
                    reached = quality(parts, scaled)
                    yield Mixture(tuple(scaled), tuple(temperatures)), reached
                    if reached > best:
                        best, weights = reached, scaled


class Blend(Backbone):
    """Trained models of one dataset whose scores are mixed.

    A user's score of an item is sum_k w_k softmax(z_k / t_k), where z_k are the scores of part k less their mean and
    divided by their standard deviation over the user's unseen items. Weights w and temperatures t are those of highest
    NDCG@10 on validation users. Runs that differ in their seed alone make the average of seeds. A blend of one part
    ranks as the part does. States are the scores, [B, I].

    Parameters
    ----------
    facts
        See ``Backbone``; what is needed are the parts and the mixture.
    parts
        Run folders, trained on the same events.
    tune_users
        How many validation users each trial of the search ranks for, at most; fewer where their scores would take more
        than a gigabyte.
    mask_seen
        ``metrics.mask_seen``, as the trials rank.
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
        chosen = ChosenMixture(tuple(parts), options["tune_users"], options["mask_seen"])
        return {**_runs(parts), "mixture": chosen}

    def __init__(self, facts: DataFacts, *, parts: Sequence[str], tune_users: int, mask_seen: str) -> None:
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
        if len(scores) == 1:
            return scores[0]
        return self.mixture([_standardised(one, batch) for one in scores])

    def output_table(self) -> ScoreMatrix:
        return ScoreMatrix(self._n_items)


def _runs(parts: Sequence[str]) -> dict[str, TrainedRun]:
    return {f"part_{number}": TrainedRun(folder, kind=Backbone) for number, folder in enumerate(parts)}
