"""One run from start to end: objects, training, test, results."""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.plugins.io import TorchCheckpointIO
from rich.console import Console

from recsys_lt.data.loader import RankBatches, Share, TrainBatches, rank_loader, train_loader, users_with_target
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.recommenders.recommender import PRECISIONS, Recommender
from recsys_lt.results.tables import in_a_line, print_final_table
from recsys_lt.runs.checkpoints import Notes, load, save
from recsys_lt.runs.run_folder import BEST, REPORT, resume_command
from recsys_lt.runs.stored import Stored, trained_as
from recsys_lt.runs.trust import trusting_as
from recsys_lt.system import stopping
from recsys_lt.system.atomic import remove_unfinished, write_text
from recsys_lt.system.machine import forget_peak_rss, slow_bfloat16
from recsys_lt.system.package import commit
from recsys_lt.system.stopping import Stop, Stopped
from recsys_lt.training.build import PRIOR, Parts, build
from recsys_lt.training.collapse import Collapse
from recsys_lt.training.earlier import begin_anew, load_start, read_earlier
from recsys_lt.training.journal import Journal, StopRun
from recsys_lt.training.launch import launch
from recsys_lt.training.loggers import Examples, no_examples
from recsys_lt.training.progress import TrainingProgress
from recsys_lt.training.trained import Run, given
from recsys_lt.training.write_results import Results, measure, shared_titles

#: Share of test targets that are repeats, below which nothing is said of them.
_FEW_REPEATS = 0.01


def run(
    this: Stored, parts: Parts, data: Sequences, folder: Path, resumed: bool, brief: bool = False
) -> dict[str, Any]:
    """Train, test, and leave the results in the run folder; what metrics.json holds.

    ``this`` is the run's configuration, with the names of its choices and the sweep it belongs to, ``parts`` the
    objects that it names. The folder exists, what the run needs is in it, and no other process works on it; if
    ``resumed``, it holds an earlier, unfinished run to go on with. A ``brief`` run ends in one line where others print
    all test metrics. UserError for what the user can mend: what the
    folder holds of an earlier state is as it was. Stopped after a signal, once what was reached is evaluated and
    written.
    """
    if parts.strategy.several and parts.trainer.devices > 1:
        arguments = (this, folder, resumed, brief)
        ended, signal = launch(_one_process, arguments, parts.trainer.devices, f"Go on with {resume_command(folder)}")
    else:
        ended = train_and_test(this, parts, data, folder, resumed, brief, Stop(_announce))
        signal = ended.signal
    if brief or not parts.trainer.test:
        say(in_a_line(ended.metrics))
    else:
        print_final_table(ended.metrics, Console(markup=False, emoji=False))
    if not brief:
        if (advice := _longer(ended.metrics, folder)) is not None:
            say(advice)
        say(f"run folder: {folder}")
    if signal or ended.signal:
        raise Stopped(signal or ended.signal)
    return ended.metrics


class Ended(NamedTuple):
    """Content of metrics.json ({} in all processes but the first), and the signal that stopped the run, or 0."""

    metrics: dict[str, Any]
    signal: int


def _one_process(this: Stored, folder: Path, resumed: bool, brief: bool, stop: Stop) -> Ended:
    parts = build(this.config)  # objects of somebody's classes may not travel
    return train_and_test(this, parts, parts.data(), folder, resumed, brief, stop)


def train_and_test(
    this: Stored, parts: Parts, data: Sequences, folder: Path, resumed: bool, brief: bool, stop: Stop
) -> Ended:
    """Do the part of this process in a run: all of it, where it is the only one."""
    _prepare_process()
    groups = parts.check_data(data)
    pl.seed_everything(parts.seed, verbose=False)
    needs = given(parts, data, folder, data.fingerprint)
    module = parts.recommender(data, needs)

    notes = Notes(data.item_fingerprint, data.fingerprint, trained_as(parts.config))
    measuring = partial(measure, data, parts.metrics, groups)
    begin = cache(partial(begin_anew, folder, this))
    journal = Journal(folder, parts.trainer, measuring, notes, stop, begin, parts.logger)
    watching = [journal, TrainingProgress(Console(), journal, brief), Collapse(journal, say)]
    trainer = _trainer(parts, folder, notes, [*parts.callbacks, *watching])
    share = Share(trainer.global_rank, trainer.world_size)
    batches = _training_batches(parts, data, module, share)
    ranking = partial(_ranking_batches, parts, data, module, share)

    earlier = read_earlier(folder, notes, parts, module) if resumed else None
    if earlier is None and parts.start_from is not None:
        load_start(Path(parts.start_from), parts, data, module)
    if trainer.is_global_zero:
        remove_unfinished(folder)
        if not brief:
            say(f"run folder: {folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder}")
            say(_size_and_place(this, module, trainer))
            if trainer.strategy.root_device.type == "cpu" and _in_bfloat16(parts.config) and (slow := slow_bfloat16()):
                say(slow)
            if module.trainable and not trainer.max_epochs and parts.start_from is None:
                say("trainer.max_epochs=0: nothing is trained, and the results are those of random weights")
            if parts.metrics.mask_seen == "published" and (repeats := _repeats(data)) is not None:
                say(repeats)
        if (shared := shared_titles(module, data)) is not None:
            say(
                f"{data.name}: {shared}, share a title with another item; a model that ranks by title cannot rank them"
                " first"
            )
    metrics: dict[str, Any] | None = None
    pictures: dict[str, Path] = {}
    examples: Examples = no_examples
    with ExitStack() as at_end, _listening(stop):
        if trainer.is_global_zero:
            plain: Any = OmegaConf.to_container(parts.config, resolve=True)
            cell = this.names._asdict() | {"dataset": data.name, "seed": parts.seed}
            parts.logger.start(folder, plain, cell, this.group)
            at_end.callback(lambda: parts.logger.finish(metrics, pictures, examples))
        if earlier is None and parts.trainer.eval_untrained:
            trainer.validate(module, ranking("valid"), verbose=False)
            journal.record(trainer, 0, {})
        # Several processes train until they can agree to stop, at the end of an epoch.
        if module.trainable and trainer.max_epochs and (not stop.number or trainer.world_size > 1):
            loader = train_loader(batches, parts.trainer.num_workers, 0 if earlier is None else earlier.epoch)
            path = None if earlier is None else earlier.path
            with suppress(StopRun):
                trainer.fit(module, loader, ranking("valid"), ckpt_path=path, weights_only=True)
            trainer.should_stop = False
            trainer.strategy.optimizers = []  # their moments are twice the model's size, and nobody steps any more
        finished = not stop.number
        if journal.best is None:  # stopped before the first validation, or nothing trained
            trainer.validate(module, ranking("valid"), verbose=False)
            reached = journal.history.pop() if journal.history else {"epoch": 0}
            journal.record(trainer, reached.pop("epoch"), reached)
        trainer.strategy.barrier("best")  # the first process has written what all read now
        best = load(folder / BEST, events=data.fingerprint)
        module.load_state_dict(best["state_dict"])
        journal.best = best["notes"]["best"]
        if parts.trainer.test:
            trainer.test(module, ranking("test"), verbose=False)
        elif module.evaluation is None:  # what is resumed may have been trained already
            trainer.validate(module, ranking("valid"), verbose=False)
        assert module.evaluation is not None
        if trainer.is_global_zero:
            how = (this, parts, data, groups, journal, trainer, batches)
            results = Results(*how, module.evaluation, finished, needs.get(PRIOR))
            metrics, pictures = results.write(folder)
            examples = results.examples
            if "report" in parts.logger.artifacts:
                _write_report(folder, parts.config)
    return Ended(metrics or {}, stop.number)


def _write_report(folder: Path, config: DictConfig) -> None:
    """Write the run's page, which its logger sends; one that cannot be made ends no run."""
    from recsys_lt.results.report.parts import report

    try:
        with trusting_as(config):  # its classes have just been run
            write_text(folder / REPORT, report(folder, None, None, 4, Run))
    except UserError as error:
        say(f"there is no report: {error}")


def _size_and_place(this: Stored, module: Recommender, trainer: pl.Trainer) -> str:
    """What is trained, and where: ``sasrec: 0.83 M parameters, on the CPU (2 threads), float32``."""
    count = sum(each.numel() for each in module.parameters())
    trained = sum(each.numel() for each in module.parameters() if each.requires_grad)
    size = f"{_millions(count)} parameters" + (f", {_millions(trained)} of them trained" if trained < count else "")
    device = trainer.strategy.root_device
    threads = torch.get_num_threads()
    place = f"the CPU ({threads} thread{'s' * (threads > 1)})"
    if device.type == "cuda":
        place = torch.cuda.get_device_name(device)
    several = f", {trainer.world_size} processes" if trainer.world_size > 1 else ""
    return f"{this.names.model}: {size}, on {place}{several}, {this.config.precision}"


def _in_bfloat16(config: DictConfig) -> bool:
    """Whether products are in bfloat16: those of the loss or backbone, or of a language model's frozen weights."""
    return config.precision.startswith("bf16") or OmegaConf.select(config, "model.llm.dtype") == "bfloat16"


def _longer(metrics: Mapping[str, Any], folder: Path) -> str | None:
    """How to train for longer, where the last epoch of a finished run is its best."""
    epochs = metrics["epochs"]
    if not epochs or metrics["best_epoch"] < epochs or not metrics["finished"]:
        return None
    more = f"{resume_command(folder)} trainer.max_epochs={2 * epochs}"
    return f"the last epoch is the best; more epochs may help: {more}"


def _repeats(data: Sequences) -> str | None:
    """What ``metrics.mask_seen=published`` costs where users buy the same item again; None for hardly anything."""
    count, of = data.repeated_targets(), len(users_with_target(data, "test"))
    if count < _FEW_REPEATS * of or not count:
        return None
    return (
        f"{data.name}: {count:,} of {of:,} test targets are items the user had before; with"
        " metrics.mask_seen=published each counts as a miss. For your own data consider metrics.mask_seen=keep_target"
    )


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 5_000 else f"{count:,}"


def _prepare_process() -> None:
    commit()  # asked now and remembered: files may change while it trains
    forget_peak_rss()
    # Lightning's hints are for people who chose its flags; here they are chosen for a reason.
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")
    warnings.filterwarnings("ignore", message=r".*(isinstance\(treespec|LeafSpec|does not have many workers).*")


class _CheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written atomically and read without unpickling code.

    The notes are written into every checkpoint; their fingerprints are compared with those of every one that is read.
    """

    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        save(Path(path), checkpoint, self.notes)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return load(Path(path), items=self.notes.items, events=self.notes.events)


def _trainer(parts: Parts, folder: Path, notes: Notes, callbacks: list[pl.Callback]) -> pl.Trainer:
    checkpoints = _CheckpointIO(notes)
    trainer = pl.Trainer(
        **parts.strategy.arguments(),
        devices=parts.trainer.devices,
        max_epochs=parts.trainer.max_epochs,
        callbacks=callbacks,
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
    PRECISIONS[parts.precision].check(trainer.strategy.root_device)
    if trainer.strategy.root_device.type == "cuda":
        # Sums by atomics end in another last bit every time; where torch has a form that does not, it is taken.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    return trainer


def _training_batches(parts: Parts, data: Sequences, module: Recommender, share: Share) -> TrainBatches:
    """Batches of training, of this process; UserError if there are none."""
    each, accumulate, most = parts.trainer.batch_rows, parts.trainer.accumulate, parts.trainer.max_train_rows
    batches = TrainBatches(data, module.task, each, parts.seed, share, module.needs_seen, accumulate, most)
    if module.trainable and batches.n_examples == 0:
        raise UserError(
            "no user has two training events, so there is nothing to learn from",
            where=data.name,
            remedy="Use more data, or model=pop",
        )
    return batches


def _ranking_batches(parts: Parts, data: Sequences, module: Recommender, share: Share, stage: str) -> Any:
    """Batches of the users who have a target at a stage, of this process."""
    users = users_with_target(data, stage, parts.metrics.max_users)
    if len(users) == 0:
        raise UserError(
            f"no user has a {stage} target with an event before it",
            where=data.name,
            remedy="Leave-one-out needs users with three events; of a temporal split, move dataset.temporal_cuts",
        )
    rows, with_seen = parts.trainer.rank_rows, module.mask_seen != "none"
    return rank_loader(RankBatches(data, users, stage, module.max_length, rows, with_seen=with_seen, share=share))


@contextmanager
def _listening(stop: Stop) -> Iterator[None]:
    """Take the signals of the block; a second one raises what a keyboard's does."""
    try:
        with stop.listening():
            yield
    except SystemExit as ending:
        if isinstance(ending.__context__, KeyboardInterrupt):  # Lightning's answer to a second signal
            raise ending.__context__ from None
        raise  # a cluster's scheduler takes the machine back: submitit has queued the job again


def say(line: str) -> None:
    """Print a line as it is: a dataset's or a folder's name is no markup."""
    Console(markup=False, emoji=False).print(line, highlight=False, soft_wrap=True)


def _announce(signal: int) -> None:
    stopping.say(
        f"stopping ({stopping.name(signal)}): what was reached is evaluated and written; a second signal stops at once"
    )
