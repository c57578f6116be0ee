"""One run, as a recipe: build, train, test, leave evidence."""

import os
import platform
import signal
import statistics
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

import recsys_lt
from recsys_lt.analysis.final_table import print_final_table
from recsys_lt.analysis.plots.history_length import ndcg_by_history_length
from recsys_lt.analysis.plots.learning_curve import learning_curve
from recsys_lt.analysis.plots.long_tail import ndcg_along_the_tail
from recsys_lt.analysis.plots.ndcg_by_popularity import ndcg_by_popularity
from recsys_lt.atomic import remove_unfinished, replacing, write_json
from recsys_lt.build import build
from recsys_lt.data.loader import RankBatches, Share, TrainBatches, UsersWithTarget, rank_loader, train_loader
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.evidence.checkpoints import BEST, LAST, AtomicCheckpointIO, load
from recsys_lt.evidence.journal import Journal, StopRun
from recsys_lt.evidence.memory import forget_peak_rss, peak_rss_mb
from recsys_lt.evidence.progress import TrainingProgress
from recsys_lt.evidence.stored import Names
from recsys_lt.evidence.tightness import Tightness
from recsys_lt.evidence.trained import first_stage
from recsys_lt.launch import launch
from recsys_lt.metrics.groups import GROUPS, ItemGroups
from recsys_lt.metrics.long_tail import K, deciles, histories
from recsys_lt.metrics.report import report
from recsys_lt.recommenders.evaluation import Evaluation
from recsys_lt.recommenders.recommender import Recommender
from recsys_lt.settings import MetricsSettings, TrainerSettings


def run(config: DictConfig, names: Names, folder: Path, group: str | None, resumed: bool) -> dict[str, Any]:
    """Do one run and return what its metrics.json holds.

    Parameters
    ----------
    config
        The composed configuration.
    names
        The choices' names.
    folder
        The run folder; it exists.
    group
        W&B group; None for one made of the names.
    resumed
        Whether ``folder`` holds an earlier, unfinished run to go on with.

    Raises
    ------
    UserError
        For what the user can mend.
    KeyboardInterrupt
        After a Ctrl-C, once what was reached is evaluated and written.
    """
    parts = build(config)
    parts.strategy.check(parts.trainer.devices, parts.trainer.clip)
    parts.check()
    console = Console()
    # Prepared (fetched, checked, cached) once, here: the processes of a run then only map it.
    data = parts.data(partial(console.print, highlight=False))
    # A run of several processes spreads them here, where the data are ready and the folder is known.
    if parts.strategy.several and parts.trainer.devices > 1:
        plain = OmegaConf.to_container(config, resolve=True)
        metrics: dict[str, Any] = launch(_one_process, (plain, names, folder, group, resumed), parts.trainer.devices)
    else:
        metrics = _train_and_test(config, data, names, folder, group, resumed)
    print_final_table(metrics, console=console, ks=parts.metrics.ks)
    console.print(f"run folder: {folder}", highlight=False, soft_wrap=True)
    if not metrics["finished"]:
        raise KeyboardInterrupt
    return metrics


def _one_process(plain: Any, names: Names, folder: Path, group: str | None, resumed: bool) -> dict[str, Any]:
    config = OmegaConf.create(plain)
    assert isinstance(config, DictConfig)
    data = build(config).data(lambda _line: None)
    return _train_and_test(config, data, names, folder, group, resumed)


def _train_and_test(
    config: DictConfig, data: Sequences, names: Names, folder: Path, group: str | None, resumed: bool
) -> dict[str, Any]:
    parts = build(config)
    settings, measured = parts.trainer, parts.metrics
    measured.check(data.n_items)
    groups = measured.groups.of(data)
    parts.loss.check(data.n_items)
    _quiet()
    forget_peak_rss()
    pl.seed_everything(config.seed, verbose=False)
    module = parts.recommender(data, first_stage(config, folder, data))
    watch = None if measured.bound_targets is None else Tightness(measured.bound_targets, groups)
    measure = partial(_measured, data, measured, groups)
    also = dict if watch is None else watch.row
    journal = Journal(folder, settings, measure, data.fingerprint, [parts.logger], also)
    trainer = pl.Trainer(
        **parts.strategy.arguments(),
        devices=settings.devices,
        max_epochs=settings.max_epochs,
        callbacks=[*([] if watch is None else [watch]), journal, TrainingProgress(Console(), journal)],
        plugins=[AtomicCheckpointIO(data.fingerprint)],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    parts.precision.check(trainer.strategy.root_device)
    if trainer.strategy.root_device.type == "cuda":
        # Sums by atomics end in another last bit every time; where torch has a form that does not, it is taken.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    share = Share(trainer.global_rank, trainer.world_size)
    batches = TrainBatches(
        data,
        module.row_plan.plan(data),
        settings.batch_rows,
        config.seed,
        share,
        module.needs_seen,
        settings.accumulate,
        settings.max_train_rows,
    )
    if module.trainable and len(batches.rows) == 0:
        raise UserError(
            "no user has two training events, so there is nothing to learn from",
            where=data.name,
            remedy="Use more data, or model=pop",
        )
    rank = partial(_ranking, data, module, settings, measured.max_users, share)
    if trainer.is_global_zero:
        plain: Any = OmegaConf.to_container(config, resolve=True)
        cell = {"dataset": data.name, "model": names.model, "loss": names.loss, "optimizer": names.optimizer}
        parts.logger.start(folder, plain, cell | {"seed": config.seed}, group)
    metrics: dict[str, Any] | None = None
    pictures: dict[str, Path] = {}
    try:
        with _stop_on_interrupt(journal):
            last = _go_on_from(folder / LAST, data.fingerprint, settings) if resumed else None
            if trainer.is_global_zero:
                remove_unfinished(folder)
                (folder / "metrics.json").unlink(missing_ok=True)  # where it is, all the rest is of the same run
            if last is None and settings.eval_untrained:
                trainer.validate(module, rank("valid"), verbose=False)
                journal.record(trainer, 0, {})
            if module.trainable and settings.max_epochs > 0:
                loader = train_loader(batches, settings.num_workers, 0 if last is None else last.epoch)
                with suppress(StopRun):
                    path = None if last is None else last.path
                    trainer.fit(module, loader, rank("valid"), ckpt_path=path, weights_only=True)
                trainer.should_stop = False
                trainer.strategy.optimizers = []  # their moments are twice the model's size, and nobody steps any more
            finished = not journal.stop_asked
            if journal.best is None:  # stopped before the first validation, or nothing trained
                trainer.validate(module, rank("valid"), verbose=False)
                reached = journal.history.pop() if journal.history else {"epoch": 0}
                journal.record(trainer, reached.pop("epoch"), reached)
            trainer.strategy.barrier("best")  # the first process has written what all read now
            best = load(folder / BEST, data.fingerprint)
            module.load_state_dict(best["state_dict"])
            journal.best = best["notes"]["best"]
            trainer.test(module, rank("test"), verbose=False)
            assert module.evaluation is not None
            if trainer.is_global_zero:
                metrics, pictures = _leave_evidence(
                    config,
                    data,
                    names,
                    folder,
                    module.evaluation,
                    journal,
                    measured,
                    groups,
                    finished,
                    trainer,
                    batches,
                )
    except SystemExit as stop:
        if stop.code != 1:  # a cluster's scheduler takes the machine back: submitit has queued the job again
            raise
        raise KeyboardInterrupt from stop  # Lightning's answer to a second Ctrl-C
    finally:
        if trainer.is_global_zero:
            parts.logger.finish(metrics, pictures)
    return metrics or {}


class _Last(NamedTuple):
    """Where an earlier run stopped: its checkpoint, and the epochs it had completed."""

    path: Path
    epoch: int


def _go_on_from(path: Path, fingerprint: str, settings: TrainerSettings) -> _Last | None:
    """The checkpoint to go on from; None if the run was stopped before its first epoch ended."""
    if not path.exists():
        return None
    if path.is_dir():  # DeepSpeed's own format, which only DeepSpeed reads
        return _Last(path, 0)
    done = int(load(path, fingerprint)["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
    if settings.max_epochs < done:
        raise UserError(
            f"the run has trained {done} epochs already",
            where="trainer.max_epochs",
            remedy=f"Give at least {done}",
        )
    return _Last(path, done)


def _ranking(
    data: Sequences, module: Recommender, settings: TrainerSettings, max_users: int | None, share: Share, stage: str
) -> Any:
    """Ranking batches of this process's part of the users who have a target at this stage."""
    users = UsersWithTarget(data, stage, max_users)
    if len(users) == 0:
        raise UserError(
            f"no user has a {stage} target with an event before it",
            where=data.name,
            remedy="Leave-one-out needs users with three events",
        )
    return rank_loader(
        RankBatches(
            data,
            users,
            stage,
            module.max_length,
            settings.rank_rows,
            with_seen=module.mask_seen != "none",
            share=share,
        )
    )


def _measured(
    data: Sequences, measured: MetricsSettings, groups: ItemGroups, found: Evaluation
) -> dict[str, float | None]:
    return report(found.ranks, found.targets, found.exposure, data.popularity, groups.of, measured.ks)


def _leave_evidence(
    config: DictConfig,
    data: Sequences,
    names: Names,
    folder: Path,
    test: Evaluation,
    journal: Journal,
    measured: MetricsSettings,
    groups: ItemGroups,
    finished: bool,
    trainer: pl.Trainer,
    batches: TrainBatches,
) -> tuple[dict[str, Any], dict[str, Path]]:

    def capped(some: int, every: int) -> str | None:
        return None if some == every else f"{some:,} of {every:,}"

    trained = [row for row in journal.history if row["epoch"] > 0]
    seconds = statistics.median(row["seconds"] for row in trained) if trained else None
    tokens = [row["tokens_per_second"] for row in trained if "tokens_per_second" in row]
    assert journal.best is not None
    assert test.exposure is not None
    exposed = test.exposure.counts[test.exposure.ks.index(K)]
    tested = _measured(data, measured, groups, test)
    long_tail = {
        "deciles": deciles(test.ranks, test.targets, exposed, groups),
        "histories": histories(test.ranks, test.targets, data.test_at[test.users], groups),
    }
    metrics = {
        "dataset": data.name,
        "model": names.model,
        "loss": names.loss,
        "optimizer": names.optimizer,
        "seed": config.seed,
        "protocol": {
            "split": data.split,
            "users": data.n_users,
            "items": data.n_items,
            "interactions": len(data.items),
            "max_length": config.model.get("max_length"),
            "ranking": f"full, over all {data.n_items} items",
            "ranked_users": capped(len(test.users), len(UsersWithTarget(data, "test"))),
            "training_rows": capped(batches.n_rows, len(batches.rows)),
            "mask_seen": measured.mask_seen,
            "ties": "against the model",
            "groups": dict(zip(GROUPS, measured.groups.shares, strict=True)),
            "groups_by": groups.words,
            "selection": "highest validation NDCG@10, earliest on ties",
            "fingerprint": data.fingerprint,
        },
        "valid": journal.best["valid"],
        "test": tested,
        "long_tail": long_tail,
        "best_epoch": journal.best_epoch(),
        "epochs": journal.history[-1]["epoch"],
        "finished": finished,
        "train": {
            "seconds_per_epoch": seconds,
            "eval_seconds": statistics.median(r["eval_seconds"] for r in journal.history if "eval_seconds" in r),
            "peak_rss_mb": peak_rss_mb(),
            "targets_per_second": batches.rows.n_targets * batches.n_rows / len(batches.rows) / seconds
            if seconds
            else None,
            "tokens_per_second": statistics.median(tokens) if tokens else None,
            "parameters": sum(p.numel() for p in trainer.lightning_module.parameters()),
            "trained_parameters": sum(p.numel() for p in trainer.lightning_module.parameters() if p.requires_grad),
            "device": str(trainer.strategy.root_device),
            "processes": trainer.world_size,
            "threads": torch.get_num_threads(),
        },
        "versions": {
            "recsys_lt": recsys_lt.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "pytorch_lightning": pl.__version__,
            "numpy": np.__version__,
        },
    }
    ranks = pd.DataFrame(
        {
            "user": test.users.astype(np.int32),
            "target": test.targets.astype(np.int32),
            "rank": test.ranks.astype(np.int32),
            "group": groups.of[test.targets],
        }
    )
    with replacing(folder / "ranks.parquet") as partial_file:
        ranks.to_parquet(partial_file, index=False, compression="zstd")
    title = f"{names.model} + {names.loss} on {data.name}"
    drawn = ("learning_curve", "ndcg_by_popularity", "long_tail", "history_length")
    pictures = {name: folder / f"{name}.png" for name in drawn}
    learning_curve(journal.history, pictures["learning_curve"], title)
    ndcg_by_popularity(test.ranks, test.targets, groups, pictures["ndcg_by_popularity"], title)
    ndcg_along_the_tail(long_tail["deciles"], groups, tested["ndcg@10"], pictures["long_tail"], title)
    ndcg_by_history_length(long_tail["histories"], pictures["history_length"], title)
    write_json(folder / "metrics.json", metrics)  # last: its presence says that all the rest is there
    return metrics, pictures


@contextmanager
def _stop_on_interrupt(journal: Journal) -> Iterator[None]:
    """The first Ctrl-C stops at the next batch and keeps what was reached; the second stops at once."""

    def ask(_signal: int, _frame: object) -> None:
        if journal.stop_asked:
            raise KeyboardInterrupt
        journal.stop_asked = True
        print("stopping: what was reached is evaluated and written; Ctrl-C again to stop at once", file=sys.stderr)

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not the main thread: whoever embeds us handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _quiet() -> None:
    """Lightning's hints are for people who chose its flags; here they are chosen for a reason."""
    import logging

    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")
    warnings.filterwarnings("ignore", message=r".*(isinstance\(treespec|LeafSpec|does not have many workers).*")
