"""Training from the command line: Hydra's grammar, one run or the cells of a sweep."""

import contextlib
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from recsys_lt.cli import baselines
from recsys_lt.cli.arguments import as_meant, check_arguments, check_command, in_order
from recsys_lt.cli.command import COMMANDS
from recsys_lt.cli.help import help_text
from recsys_lt.cli.hydra_refusals import composed, hydra_line
from recsys_lt.cli.resume import USAGE, asked_to_resume, resume
from recsys_lt.cli.sweep import SweepRefused, current_launch, end_of_sweep, forget_launch
from recsys_lt.errors import UserError
from recsys_lt.runs.trust import trusting, trusting_as, without_trust, write_out_references
from recsys_lt.system import machine, stopping
from recsys_lt.system.machine import refusals
from recsys_lt.system.package import CONF, __version__
from recsys_lt.system.stopping import Stop, Stopped

if TYPE_CHECKING:
    from recsys_lt.cli.sweep import Launch
    from recsys_lt.runs.stored import Stored
    from recsys_lt.runs.sweep import Claim
    from recsys_lt.training.build import Parts
    from recsys_lt.training.trained import Run

#: What a single run refused: raised out of the task, Hydra would add lines of its own.
_refused: list[UserError] = []
#: Seconds of the cells that this process has run.
_took: list[float] = []
#: Whether Hydra has called the task.
_began: list[bool] = []


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _task(config: DictConfig) -> float | None:
    """One run, or one cell of a sweep; the validation NDCG@10 of a cell, which a search of hyper-parameters reads."""
    _began.append(True)
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if hydra_config.mode is not None and hydra_config.mode.name == "MULTIRUN":
        with _noted(folder, config, _complain):
            return _cell(config, hydra_config, folder)
        return None
    try:
        with refusals(), composed(sys.argv[1:]):
            _single(config, hydra_config, folder)
    except UserError as error:
        stopping.raise_lost()
        if config.get("debug") is True:
            raise
        _refused.append(error)
    return None


def train_here(overrides: list[str], folder: str | Path | None, config_dir: str | Path | None) -> "Run":
    """One run in this process, as ``recsys_lt.train`` has it; see there."""
    from recsys_lt.training.trained import Run

    if flags := [given for given in overrides if given.startswith("-")]:
        raise UserError(f"{flags[0]} is a flag of the command", where="train", remedy="Give choices and keys alone")
    own = [] if config_dir is None else [f"hydra.searchpath=[{_quoted(config_dir)}]"]
    own += [] if folder is None else [f"hydra.run.dir={_quoted(folder)}"]
    arguments = [*as_meant(overrides), *own]
    check_arguments(arguments)
    GlobalHydra.instance().clear()
    with refusals(), composed(arguments), hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("config", arguments, return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        hydra_config = config.hydra
        wanted = Path(hydra_config.run.dir).absolute()
        with open_dict(config):
            del config["hydra"]
        wanted.mkdir(parents=True, exist_ok=True)
        folder = _single(config, hydra_config, wanted)
        with trusting_as(config):  # its classes have just been run
            return Run(folder)


def _quoted(path: str | Path) -> str:
    return json.dumps(str(Path(path).expanduser().absolute()))


def _single(config: DictConfig, hydra_config: Any, wanted: Path) -> Path:
    """Do one run; the folder that it is in."""
    chosen = hydra_config.runtime.choices
    cell = ", ".join(str(chosen[group]) for group in ("dataset", "model", "loss", "optimizer"))
    print(f"recsys_lt {__version__}: {cell}, seed {config.seed}", flush=True)
    # Heavy imports wait until there is something to do.
    from recsys_lt.runs.run_folder import holds_a_run, new_folder, resume_command
    from recsys_lt.runs.stored import store
    from recsys_lt.training.stages import run_stages

    name: Any = OmegaConf.to_container(hydra_config.run, resolve=False)
    fixed, working = "${now:" not in str(name["dir"]), OmegaConf.select(hydra_config, "runtime.cwd")
    folder, asked = wanted, baselines.taken_out(config)
    try:
        with new_folder(wanted, fixed, Path(working or Path.cwd())) as folder:
            this, parts = _asked(config, hydra_config, None)
            store(folder, this)
            beside = baselines.composed(asked, this)
            run_stages(this, parts, folder, False, _composed)
            if beside:
                baselines.run_baselines(beside, (folder / "baselines").joinpath, _composed, apart=False)
                _beside_its_baselines(folder)
    except Stopped as stop:
        advice = "nothing was begun" if not holds_a_run(folder) else f"go on with: {resume_command(folder)}"
        raise Stopped(stop.number, advice) from None
    return folder


def _beside_its_baselines(folder: Path) -> None:
    """Print the table of a run and its baselines."""
    from recsys_lt.cli import table

    if any((folder / "baselines").glob("*/metrics.json")):
        table.main.do([str(folder), str(folder / "baselines")])


def _composed(choices: list[str]) -> DictConfig:
    return hydra.compose("config", choices)


def _asked(config: DictConfig, hydra_config: Any, group: str | None) -> "tuple[Stored, Parts]":
    """The run that a composed configuration asks for, and its objects."""
    from recsys_lt.runs.stored import Names, Stored
    from recsys_lt.training.build import build

    if "search" in config:
        if group is None:
            raise UserError("a search is a sweep", where="search", remedy="Use the command, without hydra.mode=RUN")
        with open_dict(config):
            del config["search"]  # how many trials there are decides no result
    this = Stored(config, Names(*(str(hydra_config.runtime.choices[part]) for part in Names._fields)), group)
    try:
        parts = build(config)
    except UserError:
        if group is not None:
            _store_refused(this, Path(hydra_config.runtime.output_dir))
        raise
    write_out_references(config)
    return this, parts


def _store_refused(this: "Stored", folder: Path) -> None:
    """Leave the configuration of a cell that cannot be built: the table shows it as failed."""
    from recsys_lt.runs.run_folder import holds_a_run
    from recsys_lt.runs.stored import store

    with contextlib.suppress(UserError, OmegaConfBaseException):
        if not holds_a_run(folder):
            write_out_references(this.config)
            store(folder, this)


def _cell(config: DictConfig, hydra_config: Any, folder: Path) -> float | None:
    """One cell of a sweep, unless it is done; its validation NDCG@10, None where it did not finish."""
    from recsys_lt.runs.sweep import claimed, validated
    from recsys_lt.training.stages import run_stages

    # Hydra's own launcher runs cells one after the other, in this process.
    side_by_side = not str(hydra_config.launcher._target_).endswith(".BasicLauncher")
    label = _of_sweep(hydra_config.job.num, folder.name)
    beside = f"{label}: " if side_by_side else ""
    if not side_by_side:
        print(label, flush=True)
    asked = baselines.taken_out(config)
    this, parts = _asked(config, hydra_config, folder.parent.resolve().name)
    others = baselines.composed(asked, this)
    with claimed(this, folder) as claim:
        if claim.folder != folder or claim.state == "busy":
            with contextlib.suppress(OSError):
                folder.rmdir()  # Hydra made it; it stays if there is something in it
        if claim.state == "done":
            print(f"{beside}done in {claim.folder}", flush=True)
        elif claim.state == "busy":
            print(f"{beside}another process works on it", flush=True)
        elif side_by_side:
            _beside_others(this, parts, claim, label)
        else:
            if claim.state == "begun":
                print(f"goes on in {claim.folder}", flush=True)
            start = time.monotonic()
            with _noted(claim.folder, config, _complain):
                run_stages(this, parts, claim.folder, claim.state == "begun", _composed, brief=True)
                _took.append(time.monotonic() - start)
        validation = validated(claim.folder)
    label = f"baseline_{this.names.dataset}_{{}}_seed{config.seed}"
    baselines.run_baselines(others, lambda name: folder.with_name(label.format(name)), _composed, apart=side_by_side)
    return validation


def _of_sweep(number: int, name: str) -> str:
    """The line a cell begins with: ``cell 4 of 16, about 12 min left: 3_beauty_sasrec_ce_adam_seed3``."""
    launch = current_launch()
    if launch is None:
        return name
    left = ""
    if _took:
        from recsys_lt.training.progress import duration

        left = f", about {duration(sum(_took) / len(_took) * (launch.cells - number))} left"
    return f"cell {number + 1} of {launch.cells}{left}: {name}"


def _beside_others(this: "Stored", parts: "Parts", claim: "Claim", label: str) -> None:
    """Only begin and end are said on the terminal; the rest goes into the run folder."""
    from recsys_lt.results.tables import in_a_line
    from recsys_lt.runs.sweep import OUTPUT, own_output
    from recsys_lt.training.stages import run_stages

    # A worker of joblib starts processes in a way of its own, which those it starts do not know.
    multiprocessing.set_start_method(None, force=True)
    with (
        own_output(claim.folder) as say,
        _noted(claim.folder, this.config, lambda line: say(f"{line}, see {OUTPUT}")),
    ):
        say(f"{label}: {'goes on' if claim.state == 'begun' else 'begins'}, output in {claim.folder / OUTPUT}")
        metrics = run_stages(this, parts, claim.folder, claim.state == "begun", _composed)
        say(f"{label}: ready, {in_a_line(metrics)}")


@contextlib.contextmanager
def _noted(folder: Path, config: DictConfig, complain: Callable[[str], None]) -> Iterator[None]:
    """Note in its folder that a cell failed, and why: it must not end the other cells."""
    from recsys_lt.runs.sweep import note_failure

    launch = current_launch()
    try:
        with refusals(), composed(sys.argv[1:]):
            yield
    except Exception as error:
        stopping.raise_lost()
        if config.get("debug") is True or launch is None:
            raise  # Hydra brings it to the process that started the sweep
        if isinstance(error, UserError):
            line, code = f"{folder.name}: {error}", 2
        else:
            traceback.print_exc()
            line, code = f"{folder.name}: failed ({type(error).__name__}); the sweep goes on", 1
        complain(line)
        try:
            note_failure(folder, line, code, launch.name)
        except UserError as also:  # a full disk must not end the other cells
            complain(f"{folder.name}: {also}")


def _complain(line: str) -> None:
    print(f"recsys_lt: {line}", file=sys.stderr, flush=True)


def main() -> int:
    """Run the command line; the exit code: 0, 1 (a fault of ours), 2 (mendable), 128 and the number of a signal."""
    forget_launch()
    advice, code = "nothing was begun", 0
    with Stop().listening() as heard:
        try:
            trusted, sys.argv[1:] = without_trust(sys.argv[1:])
            with trusting(trusted):
                code = _run()
            heard.patient = True
        except Stopped as stop:
            heard.patient = True
            heard.number, advice = stop.number, stop.advice or advice
        except BaseException:
            if not heard.number:
                raise
    if not heard.number:
        return code
    launch = current_launch()
    if launch is not None:
        advice = _again(launch)
    _complain(f"interrupted ({stopping.name(heard.number)}); {advice}")
    return 128 + heard.number


def _run() -> int:
    # Hydra would print its own trace and exit with 1; here errors come back to be said in one line.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    _refused.clear()
    _took.clear()
    _began.clear()
    debug = "debug=true" in (argument.lower() for argument in sys.argv[1:])
    try:
        if {"--version", "-V"} & set(sys.argv[1:]):
            print(f"recsys_lt {__version__}")
            return 0
        if {"--help", "-h"} & set(sys.argv[1:]):
            print(USAGE if sys.argv[1] == "resume" else help_text(as_meant(sys.argv[1:]), COMMANDS))
            return 0
        earlier = asked_to_resume(sys.argv[1:])
        if earlier is not None:
            _began.append(True)
            with refusals(), composed(sys.argv[1:]):
                resume(*earlier)
            return 0
        check_command(sys.argv[1:2], COMMANDS)
        sys.argv[1:] = in_order(as_meant(sys.argv[1:]))
        check_arguments(sys.argv[1:])
        _task()
    except (UserError, HydraException, OmegaConfBaseException, MarkedYAMLError) as error:
        stopping.raise_lost()
        if debug:
            raise
        _complain(str(error) if isinstance(error, UserError) else hydra_line(error, sys.argv[1:]))
        return 2
    except SweepRefused as unwanted:
        _complain(str(unwanted))
        return 2
    except Exception as error:
        launch = current_launch()
        refused: UserError | None = machine.refusal(error)
        if refused is None and launch is None and not _began:  # Hydra itself met it
            reason = " ".join(f"{type(error).__name__} {error}".split())[:300]
            refused = UserError(f"it cannot begin ({reason})", where="hydra", remedy="Check the hydra keys given")
        if debug or (launch is None and refused is None):
            raise
        if refused is not None:
            _complain(str(refused))
            return 2
        assert launch is not None
        # A cell's own errors do not come here: its process was killed, or its launcher is at fault.
        reason = " ".join(str(error).split())[:300]
        if "slurm cluster" in reason:
            _complain("hydra/launcher: there is no SLURM here (no srun). Start the sweep where it is, or use joblib")
            return 2
        _complain(f"the sweep was cut short ({type(error).__name__}: {reason}); {_again(launch)}")
        return 1
    for refusal in _refused:
        _complain(str(refusal))
    if _refused:
        return 2
    launch = current_launch()
    return 0 if launch is None else end_of_sweep(launch, _complain)


def _again(launch: "Launch") -> str:
    folder = os.path.relpath(launch.folder)
    return f"rerun the same command with hydra.sweep.dir={folder}: finished cells are skipped, unfinished ones resumed"
