"""One run, as a recipe: build, train, test, leave evidence."""

import os
import warnings
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.plugins.environments import LightningEnvironment
from rich.console import Console

from recsys_lt.data.loader import RankBatches, Share, TrainBatches, rank_loader, train_loader, users_with_target
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.recommenders.recommender import Recommender
from recsys_lt.results.final_table import print_final_table
from recsys_lt.runs.checkpoints import AtomicCheckpointIO, load
from recsys_lt.runs.commit import commit
from recsys_lt.runs.run_folder import BEST, resume_command
from recsys_lt.runs.stored import Names, Stored
from recsys_lt.runs.trained_as import trained_as
from recsys_lt.system import stopping
from recsys_lt.system.atomic import remove_unfinished
from recsys_lt.system.memory import forget_peak_rss
from recsys_lt.system.stopping import Stop, Stopped
from recsys_lt.training.build import build
from recsys_lt.training.earlier import begin_anew, read_earlier
from recsys_lt.training.journal import Journal, StopRun
from recsys_lt.training.launch import launch
from recsys_lt.training.progress import TrainingProgress
from recsys_lt.training.settings import TrainerSettings
from recsys_lt.training.tightness import Tightness
from recsys_lt.training.trained import first_stage
from recsys_lt.training.write_results import Results, measure, shared_titles


def run(this: Stored, folder: Path, resumed: bool) -> dict[str, Any]:
    """Do one run and return what its metrics.json holds.

    Parameters
    ----------
    this
        The composed configuration, its choices' names and the W&B group (None for one made of the names).
    folder
        The run folder; it exists, and no other process works on it.
    resumed
        Whether ``folder`` holds an earlier, unfinished run to go on with.

    Raises
    ------
    UserError
        For what the user can mend. What the folder holds of an earlier state is as it was.
    Stopped
        After a signal, once what was reached is evaluated and written.
    """
    parts = build(this.config)
    parts.strategy.check(parts.trainer.devices, parts.trainer.clip)
    parts.check()
    console = Console(markup=False, emoji=False)  # a dataset's or a folder's name is no markup
    # Prepared (fetched, checked, cached) once, here: the processes of a run then only map it.
    data = parts.data(partial(console.print, highlight=False))
    # A run of several processes spreads them here, where the data are ready and the folder is known.
    if parts.strategy.several and parts.trainer.devices > 1:
        plain = OmegaConf.to_container(this.config, resolve=False)
        arguments = (plain, this.names, this.group, folder, resumed)
        ended, signal = launch(_one_process, arguments, parts.trainer.devices, f"Go on with {resume_command(folder)}")
    else:
        ended = _train_and_test(this, data, folder, resumed, None)
        signal = ended.signal
    print_final_table(ended.metrics, console=console, ks=parts.metrics.ks)
    console.print(f"run folder: {folder}", highlight=False, soft_wrap=True)
    if signal or ended.signal:
        raise Stopped(signal or ended.signal)
    return ended.metrics


class _Ended(NamedTuple):
    """What metrics.json holds ({} in all processes of a run but the first), and the signal that stopped it, or 0."""

    metrics: dict[str, Any]
    signal: int


def _one_process(plain: Any, names: Names, group: str | None, folder: Path, resumed: bool, stop: Stop) -> _Ended:
    config = OmegaConf.create(plain)
    assert isinstance(config, DictConfig)
    data = build(config).data(lambda _line: None)
    return _train_and_test(Stored(config, names, group), data, folder, resumed, stop)


def _train_and_test(this: Stored, data: Sequences, folder: Path, resumed: bool, stop: Stop | None) -> _Ended:
    commit()  # asked now and remembered: files may change while it trains
    config, names = this.config, this.names
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
    recipe = trained_as(config)

    begin = cache(partial(begin_anew, folder, this))

    stop = stop or Stop(_say_so)
    journal = Journal(folder, settings, measuring, data.fingerprint, recipe, stop, begin, [parts.logger], also)
    checkpoints = AtomicCheckpointIO(data.fingerprint, recipe)
    trainer = pl.Trainer(
        **parts.strategy.arguments(),
        devices=settings.devices,
        max_epochs=settings.max_epochs,
        callbacks=[*([] if watch is None else [watch]), journal, TrainingProgress(Console(), journal)],
        # Processes are started here, if any: a cluster's variables (SLURM_NTASKS) say nothing of this run.
        plugins=[checkpoints] if parts.strategy.several else [checkpoints, LightningEnvironment()],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    # Lightning's own handler of SIGTERM ends a process with exit code 0, and has ranks wait for each other for ever.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    parts.precision.check(trainer.strategy.root_device)
    if trainer.strategy.root_device.type == "cuda":
        # Sums by atomics end in another last bit every time; where torch has a form that does not, it is taken.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    share = Share(trainer.global_rank, trainer.world_size)
    batches = TrainBatches(
        data,
        module.task,
        settings.batch_rows,
        config.seed,
        share,
        module.needs_seen,
        settings.accumulate,
        settings.max_train_rows,
    )
    if module.trainable and batches.n_examples == 0:
        raise UserError(
            "no user has two training events, so there is nothing to learn from",
            where=data.name,
            remedy="Use more data, or model=pop",
        )
    rank = partial(_ranking, data, module, settings, measured.max_users, share)
    if trainer.is_global_zero and (shared := shared_titles(module, data)) is not None:
        Console(markup=False, emoji=False).print(
            f"{data.name}: {shared}, share a title with another item; a model that ranks by title cannot rank them"
            " first",
            highlight=False,
            soft_wrap=True,
        )
    earlier = read_earlier(folder, data.fingerprint, config, module) if resumed else None
    if trainer.is_global_zero:
        remove_unfinished(folder)
        plain: Any = OmegaConf.to_container(config, resolve=True)
        cell = {"dataset": data.name, "model": names.model, "loss": names.loss, "optimizer": names.optimizer}
        parts.logger.start(folder, plain, cell | {"seed": config.seed}, this.group)
    metrics: dict[str, Any] | None = None
    pictures: dict[str, Path] = {}
    try:
        with stop.listening():
            if earlier is None and settings.eval_untrained:
                trainer.validate(module, rank("valid"), verbose=False)
                journal.record(trainer, 0, {})
            # Several processes train until they can agree to stop, at the end of an epoch.
            if module.trainable and settings.max_epochs > 0 and not (stop.number and trainer.world_size == 1):
                loader = train_loader(batches, settings.num_workers, 0 if earlier is None else earlier.epoch)
                with suppress(StopRun):
                    path = None if earlier is None else earlier.path
                    trainer.fit(module, loader, rank("valid"), ckpt_path=path, weights_only=True)
                trainer.should_stop = False
                trainer.strategy.optimizers = []  # their moments are twice the model's size, and nobody steps any more
            finished = not stop.number
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
    except SystemExit as ending:
        if isinstance(ending.__context__, KeyboardInterrupt):  # Lightning's answer to a second signal
            raise ending.__context__ from None
        raise  # a cluster's scheduler takes the machine back: submitit has queued the job again
    finally:
        if trainer.is_global_zero:
            parts.logger.finish(metrics, pictures)
    return _Ended(metrics or {}, stop.number)


def _ranking(
    data: Sequences, module: Recommender, settings: TrainerSettings, max_users: int | None, share: Share, stage: str
) -> Any:
    """Ranking batches of this process's part of the users who have a target at this stage."""
    users = users_with_target(data, stage, max_users)
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


def _say_so(signal: int) -> None:
    stopping.say(
        f"stopping ({stopping.name(signal)}): what was reached is evaluated and written; a second signal stops at once"
    )


def _quiet() -> None:
    """Lightning's hints are for people who chose its flags; here they are chosen for a reason."""
    import logging

    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")
    warnings.filterwarnings("ignore", message=r".*(isinstance\(treespec|LeafSpec|does not have many workers).*")
