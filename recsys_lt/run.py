"""One run, as a recipe: build, train, test, leave evidence."""

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from recsys_lt.analysis.final_table import print_final_table
from recsys_lt.atomic import remove_unfinished
from recsys_lt.build import build
from recsys_lt.data.loader import RankBatches, Share, TrainBatches, UsersWithTarget, rank_loader, train_loader
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.evidence.checkpoints import BEST, LAST, AtomicCheckpointIO, load
from recsys_lt.evidence.commit import commit
from recsys_lt.evidence.journal import Journal, StopRun
from recsys_lt.evidence.memory import forget_peak_rss
from recsys_lt.evidence.progress import TrainingProgress
from recsys_lt.evidence.results import Results, measure, shared_titles
from recsys_lt.evidence.stored import Names
from recsys_lt.evidence.tightness import Tightness
from recsys_lt.evidence.trained import first_stage
from recsys_lt.launch import launch
from recsys_lt.recommenders.recommender import Recommender
from recsys_lt.settings import TrainerSettings


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
    commit()  # asked now and remembered: files may change while it trains
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
    measuring = partial(measure, data, measured, groups)
    also = dict if watch is None else watch.row
    journal = Journal(folder, settings, measuring, data.fingerprint, [parts.logger], also)
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
        if (shared := shared_titles(module, data)) is not None:
            Console().print(
                f"{data.name}: {shared}, share a title with another item; a model that ranks by title cannot rank them"
                " first",
                highlight=False,
                soft_wrap=True,
            )
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
                how = (config, names, data, measured, groups)
                metrics, pictures = Results(*how, journal, trainer, batches, module.evaluation, finished).write(folder)
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
            remedy="Leave-one-out needs users with three events; of a temporal split, move dataset.temporal_cuts",
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
