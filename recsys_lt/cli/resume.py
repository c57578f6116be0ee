"""``python -m recsys_lt resume <folder>``: go on with a run that was stopped.

Nothing of it goes through Hydra's grammar, in which a folder cannot have any name.
"""

import re
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from recsys_lt.errors import UserError

_NEW = "Start a new run for anything else"


def asked_to_resume(arguments: list[str]) -> tuple[Path, list[str]] | None:
    """The run folder and the other arguments of a command line that resumes a run; None for any other.

    Parameters
    ----------
    arguments
        ``resume <folder> ...``, or with ``resume=<folder>`` among them; a folder may stand in quotes, as Hydra has it.

    Raises
    ------
    UserError
        If no folder is named, or it is to be a sweep.
    """
    if arguments[:1] == ["resume"]:
        if len(arguments) == 1:
            raise UserError("no run folder is named", where="resume", remedy=_named())
        folder, others = Path(arguments[1]), arguments[2:]
    else:
        named = [argument for argument in arguments if argument.lstrip("+").startswith("resume=")]
        value = named[-1].partition("=")[2] if named else ""
        if value in ("", "null"):
            return None
        folder = _unquoted(value)
        others = [argument for argument in arguments if argument not in named]
    if {"-m", "--multirun"} & set(others):
        raise UserError(
            "a sweep is not resumed with this command",
            where="resume",
            remedy="Start the same sweep again; cells that were begun go on where they stopped",
        )
    return folder, others


def _unquoted(value: str) -> Path:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" and not Path(value).exists():
        return Path(re.sub(rf"\\([\\{value[0]}])", r"\1", value[1:-1]))
    return Path(value)


def _named() -> str:
    return "Give the run folder that was printed, such as resume outputs/<run>"


def resume(folder: Path, arguments: list[str], conf: Path) -> None:
    """Go on with the run in a folder.

    Parameters
    ----------
    folder
        The run folder.
    arguments
        What changes: ``trainer.<key>=<value>``, ``debug=true``; and ``--config-dir <folder>``, Hydra's.
    conf
        The folder of the choices.

    Raises
    ------
    UserError
        If the run cannot go on; it is as it was then.
    Stopped
        After a signal.
    """
    if not (folder / "config.yaml").is_file():
        raise UserError("there is no run to resume (no config.yaml in it)", where=folder, remedy=_named())
    from recsys_lt.runs.run_folder import held, resume_command
    from recsys_lt.runs.stored import stored
    from recsys_lt.system.stopping import Stopped
    from recsys_lt.training.build import check  # takes seconds
    from recsys_lt.training.stages import run_stages

    folder = folder.absolute()
    overrides, search = _apart(arguments)
    with held(folder) as mine, initialize_config_dir(str(conf), version_base="1.3"):
        if not mine:
            raise UserError("another process works on this run", where=folder, remedy="Wait until it has ended")
        run = stored(folder)
        for override in overrides:
            _change(run.config, override)
        check(run.config)
        try:
            run_stages(run, folder, True, lambda choices: compose("config", [*choices, *search]))
        except Stopped as stop:
            raise Stopped(stop.number, f"go on with: {resume_command(folder)}") from None


def _apart(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Changes, and what Hydra is to search for choices: a first stage may be of a user's own."""
    overrides, search = [], []
    rest = iter(arguments)
    for argument in rest:
        option, _, value = argument.partition("=")
        if option in ("--config-dir", "-cd"):
            given = value or next(rest, "")
            if not given or not Path(given).is_dir():
                raise UserError("there is no such folder", where=f"{option} {given}", remedy="Name a folder of choices")
            search.append(f"hydra.searchpath=[{Path(given).absolute().as_uri()}]")
        elif argument.startswith("hydra.searchpath="):
            search.append(argument)
        else:
            overrides.append(argument)
    return overrides, search


def _change(config: DictConfig, override: str) -> None:
    key, _, value = override.partition("=")
    if key != "debug" and not key.startswith("trainer."):
        raise UserError(
            f"{key} cannot change in a resumed run", where="resume", remedy=f"Only trainer.* and debug may. {_NEW}"
        )
    if OmegaConf.select(config, key, default=config) is config:
        raise UserError(f"the run has no key {key!r}", where="resume")
    try:
        OmegaConf.update(config, key, OmegaConf.create(f"v: {value}").v)
    except (YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{value!r} is no value", where=key, remedy="Give a number, true, false or null") from error
