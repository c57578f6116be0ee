"""Results of a tested run: metrics.json, the rank of every target, and figures."""

import platform
import statistics
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray

from recsys_lt.data.loader import TrainBatches, users_with_target
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.llm.title_prior import ItemPrior
from recsys_lt.metrics.all_metrics import all_metrics, first_code_metrics
from recsys_lt.metrics.groups import GROUPS, HEAD, ItemGroups
from recsys_lt.metrics.long_tail import K, deciles, histories, uniform
from recsys_lt.metrics.own import own_metrics
from recsys_lt.metrics.prior import NAMES, prior_effects, prior_groups, prior_matrix, prior_metrics
from recsys_lt.metrics.ranking import gains, random_order, ranking
from recsys_lt.recommenders.full_ranking import Evaluation
from recsys_lt.recommenders.lists import lists
from recsys_lt.recommenders.recommender import Recommender
from recsys_lt.results.plots.run_figures import RunFigures
from recsys_lt.results.report.examples import drawn
from recsys_lt.runs.ranks import Ranks
from recsys_lt.runs.stored import Stored
from recsys_lt.system.atomic import replacing, write_json
from recsys_lt.system.machine import peak_rss_mb
from recsys_lt.system.package import __version__, commit
from recsys_lt.training.build import Parts
from recsys_lt.training.journal import Journal
from recsys_lt.training.settings import MetricsSettings

_PICTURES = ("learning_curve", "long_tail", "history_length")
_KINDS = ("png", "pdf")


def measure(
    data: Sequences, measured: MetricsSettings, groups: ItemGroups, found: Evaluation
) -> dict[str, float | None]:
    """Every metric of an evaluation, of all users and by group, by its name.

    Metrics of a ranking that this one was made from are under its name, such as ``retriever/``; where its first items
    were re-ranked, those of a random order of them are under ``random_order/``. What else the model measures of its
    users has its own name. None for a metric of a group without users, or at a k beyond ``Evaluation.depth``. UserError
    for a model whose lists are too short to select the best epoch.
    """
    if found.depth is not None and found.depth < K:
        raise UserError(
            f"it lists {found.depth} items, and the best epoch is selected by NDCG@{K}",
            where="model",
            remedy=f"Have it list {K} or more, such as by more beams",
        )
    values = all_metrics(
        found.ranks, found.targets, found.exposure, data.popularity, groups.of, measured.ks, found.depth
    )
    if measured.extra:
        lists = found.exposure.get(K)  # none in validation
        group_of_target = groups.of[found.targets]
        members = {name: group_of_target == group for group, name in enumerate(GROUPS)}
        members["nonhead"] = group_of_target != HEAD
        values |= own_metrics(measured.extra, found.ranks, found.targets, data.popularity, lists, members)
    for name, part in found.parts.items():
        values |= {f"{name}/{metric}": value for metric, value in ranking(part.ranks, measured.ks, part.depth).items()}
    if found.candidates is not None:
        chance = random_order(found.parts["retriever"].ranks, found.candidates, measured.ks)
        values |= {f"random_order/{metric}": value for metric, value in chance.items()}
    return {**values, **found.means}


def shared_titles(module: Recommender, data: Sequences) -> str | None:
    """How many items the model cannot distinguish from another, in words; None for none."""
    indistinct = module.facts().get("indistinct")
    if indistinct is None or not indistinct.any():
        return None
    users = users_with_target(data, "test")
    targets = data.targets(users, "test")
    share = indistinct.numpy()[targets].mean() if len(users) else 0.0
    return f"{int(indistinct.sum()):,} of {data.n_items:,} items, {share:.1%} of test targets"


@dataclass(frozen=True)
class Results:
    """Results of a run, computed from its parts, data, journal and a ranking.

    ``ranked`` is the ranking of the test at the best epoch; in a run without a test, that of a validation. ``finished``
    is False if the user stopped the run early. ``prior`` is what a language model knew of the items, where a prior is
    configured.
    """

    this: Stored
    parts: Parts
    data: Sequences
    groups: ItemGroups
    journal: Journal
    trainer: pl.Trainer
    batches: TrainBatches
    ranked: Evaluation
    finished: bool
    prior: ItemPrior | None = None

    def write(self, folder: Path) -> tuple[dict[str, Any], dict[str, Path]]:
        """Write them to the run's folder; what metrics.json holds, and the pictures (PNG) by name.

        All files are made before the first is put in its place: if one of them fails, the folder is as it was.
        """
        metrics = self._metrics()
        names = _PICTURES if self.parts.trainer.test else _PICTURES[:1]
        with ExitStack() as stack:
            # What is entered first is put in its place last: its presence says that all the rest is there.
            write_json(stack.enter_context(replacing(folder / "metrics.json")), metrics)
            if self.parts.trainer.test:
                ranks = stack.enter_context(replacing(folder / "ranks.parquet"))
                self._ranks().to_parquet(ranks, index=False, compression="zstd")
            files = {
                name: [stack.enter_context(replacing(folder / f"{name}.{kind}")) for kind in _KINDS] for name in names
            }
            self._draw(files, metrics)
            self.journal.begin()
        return metrics, {name: folder / f"{name}.png" for name in names}

    def _metrics(self) -> dict[str, Any]:
        assert self.journal.best is not None
        return {
            **self.this.names._asdict(),
            "dataset": self.data.name,
            "seed": self.parts.seed,
            "protocol": self._protocol(),
            "valid": self.journal.best["valid"],
            **self._tested(),
            **self._said("chosen"),
            **self._said("notes"),
            "best_epoch": self.journal.best["epoch"],
            "epochs": self.journal.history[-1]["epoch"],
            "finished": self.finished,
            "train": self._training(),
            "versions": {
                "recsys_lt": __version__,
                "commit": commit(),
                "python": platform.python_version(),
                "torch": torch.__version__,
                "pytorch_lightning": pl.__version__,
                "numpy": np.__version__,
            },
        }

    def _tested(self) -> dict[str, Any]:
        if not self.parts.trainer.test:
            return {}
        test = measure(self.data, self.parts.metrics, self.groups, self.ranked)
        codes = self.trainer.lightning_module.facts().get("first_codes")
        if codes is not None:
            test |= first_code_metrics(codes, self.ranked.exposure[K], self.ranked.targets, K)
        by_prior, matrices = ({}, {}) if self.prior is None else self._by_prior(self.prior.familiarity)
        return {"test": test | by_prior, "long_tail": self._long_tail(), **matrices}

    def _by_prior(self, values: NDArray[np.float64]) -> tuple[dict[str, float | None], dict[str, Any]]:
        """Test metrics by prior and popularity, and both matrices with their effects."""
        found, data, popularity = self.ranked, self.groups.of, self.data.popularity
        prior = prior_groups(values, self.groups.shares)
        ndcg, hr = (gains(metric, found.ranks, K) for metric in ("ndcg", "hr"))
        shown = found.exposure.get(K)
        matrices = {
            f"{size}x{size}": prior_matrix(size, found.targets, ndcg, hr, prior, data, popularity, shown)
            for size in NAMES
        }
        metrics = prior_metrics(found.ranks, found.targets, prior, data, self.parts.metrics.ks, found.depth)
        effects = prior_effects(found.targets, ndcg, prior, data, popularity)
        without = int((prior[found.targets] < 0).sum())
        return metrics, {"prior": {"users_without_prior": without, **matrices, "effects": effects}}

    def _said(self, name: str) -> dict[str, Any]:
        """A mapping among the model's facts."""
        found = self.trainer.lightning_module.facts().get(name)
        return {} if found is None else {name: dict(found)}

    def _protocol(self) -> dict[str, Any]:
        data, stage = self.data, "test" if self.parts.trainer.test else "valid"
        return {
            "split": data.split,
            "users": data.n_users,
            "items": data.n_items,
            "interactions": len(data.items),
            "max_length": self.parts.config.model.get("max_length"),
            "ranking": f"full, over all {data.n_items} items"
            if self.ranked.depth is None
            else f"the first {self.ranked.depth} of {data.n_items} items",
            "ranked_users": _capped(len(self.ranked.users), len(users_with_target(data, stage))),
            "training_rows": _capped(self.batches.n_rows, self.batches.n_examples),
            "shared_titles": shared_titles(self.trainer.lightning_module, data),
            "mask_seen": self.parts.metrics.mask_seen,
            "ties": "against the model",
            "groups": dict(zip(GROUPS, self.parts.metrics.groups.shares, strict=True)),
            "groups_by": self.groups.words,
            "selection": "highest validation NDCG@10, earliest on ties",
            "fingerprint": data.fingerprint,
            "item_fingerprint": data.item_fingerprint,
            "start_from": self.parts.start_from,
        }

    def _long_tail(self) -> dict[str, Any]:
        test = self.ranked
        return {
            "deciles": deciles(test.ranks, test.targets, test.exposure[K], self.groups),
            "histories": histories(test.ranks, test.targets, self.data.test_at[test.users], self.groups),
            "uniform": uniform(test.ranks, test.targets),
        }

    def _training(self) -> dict[str, Any]:
        history, batches, module = self.journal.history, self.batches, self.trainer.lightning_module
        trained = [row for row in history if row["epoch"] > 0]
        seconds = statistics.median(row["seconds"] for row in trained) if trained else None
        tokens = [row["tokens_per_second"] for row in trained if "tokens_per_second" in row]
        return {
            "seconds_per_epoch": seconds,
            "eval_seconds": statistics.median(row["eval_seconds"] for row in history if "eval_seconds" in row),
            "peak_rss_mb": peak_rss_mb(),
            "targets_per_second": batches.n_targets / seconds if seconds else None,
            "tokens_per_second": statistics.median(tokens) if tokens else None,
            "parameters": sum(p.numel() for p in module.parameters()),
            "trained_parameters": sum(p.numel() for p in module.parameters() if p.requires_grad),
            "device": str(self.trainer.strategy.root_device),
            "processes": self.trainer.world_size,
            "threads": torch.get_num_threads(),
        }

    def _ranks(self) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "user": self.ranked.users.astype(np.int32),
                "target": self.ranked.targets.astype(np.int32),
                "rank": self.ranked.ranks.astype(np.int32),
                "group": self.groups.of[self.ranked.targets],
            }
        )

    def examples(self, n: int) -> list[dict[str, Any]]:
        """Users with what they were recommended before the test, a mapping each; none where there was no test."""
        if n == 0 or not self.parts.trainer.test or self.parts.strategy.shards:
            return []
        data, found, groups = self.data, self.ranked, self.groups.of
        ranked = Ranks(found.users, found.targets, found.ranks, groups[found.targets].astype(np.int64))
        users = drawn(ranked, n)
        module: Any = self.trainer.lightning_module
        places, k = np.searchsorted(found.users, users), min(K, data.n_items)
        said = [str(data.titles[item]) or str(data.item_ids[item]) for item in found.targets[places]]
        return [
            {
                "user": one.user,
                "history": ", ".join(title or item for item, title in one.recent),
                "target": target,
                "group": GROUPS[ranked.group[place]],
                "rank": int(found.ranks[place]),
                "recommended": ", ".join(item.title or item.item for item in one.items),
            }
            for one, target, place in zip(lists(module, data, users, k, groups, "test"), said, places, strict=True)
        ]

    def _draw(self, pictures: dict[str, list[Path]], metrics: dict[str, Any]) -> None:
        figures = RunFigures(metrics, self.groups)
        figures.learning_curve(self.journal.history, *pictures["learning_curve"])
        if not self.parts.trainer.test:
            return
        figures.ndcg_along_the_tail(*pictures["long_tail"])
        figures.ndcg_by_history_length(*pictures["history_length"])


def _capped(some: int, every: int) -> str | None:
    return None if some == every else f"{some:,} of {every:,}"
