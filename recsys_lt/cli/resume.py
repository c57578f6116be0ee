"""``python -m recsys_lt resume <folder>``: continue a stopped run, or extend a finished one.

The folder is not parsed by Hydra, whose grammar does not allow every name.
"""

import json
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from recsys_lt.cli.arguments import search_path
from recsys_lt.errors import UserError
from recsys_lt.system.package import CONF

USAGE = """\
usage: recsys_lt resume <run folder> [trainer.key=value ...] [--config-dir FOLDER]

Continue a run that was stopped, from the end of its last epoch.

  recsys_lt resume outputs/<run>
  recsys_lt resume outputs/<run> trainer.max_epochs=200   train for longer
"""
_NAMED = "Give the run folder that was printed, such as resume outputs/<run>"
_NEW = "Start a new run for anything else"


def asked_to_resume(arguments: list[str]) -> tuple[Path, list[str]] | None:
    """The run folder and the other arguments of ``resume <folder> ...``; None for another command line."""
    if arguments[:1] != ["resume"]:
        return None
    if len(arguments) == 1:
        raise UserError("no run folder is named", where="resume", remedy=_NAMED)
    if {"-m", "--multirun"} & set(arguments):
        raise UserError(
            "a sweep is not resumed with this command",
            where="resume",
            remedy="Start the same sweep again; cells that were begun go on where they stopped",
        )
    return Path(arguments[1]), arguments[2:]


def resume(folder: Path, arguments: list[str]) -> None:
    """Go on with the run in a folder.

    The arguments say what changes: ``trainer.<key>=<value>``, ``debug=true``; and ``--config-dir <folder>``, Hydra's. A
    run that cannot go on raises UserError and is as it was; a signal raises Stopped.
    """
    if not (folder / "config.yaml").is_file():
        raise UserError("there is no run to resume (no config.yaml in it)", where=folder, remedy=_NAMED)
    from recsys_lt.runs.run_folder import held, resume_command
    from recsys_lt.runs.stored import stored
    from recsys_lt.system.stopping import Stopped
    from recsys_lt.training.build import build  # takes seconds
    from recsys_lt.training.stages import run_stages

    folder = folder.absolute()
    search, overrides = search_path(arguments)
    for named in search:
        if "://" not in named and not Path(named).is_dir():
            raise UserError("there is no such folder", where=f"--config-dir={named}", remedy="Name a folder of choices")
    own = f"hydra.searchpath={json.dumps(search)}"  # what a run needs may be of a user's own choices
    with held(folder) as mine, initialize_config_dir(str(CONF), version_base="1.3"):
        if not mine:
            raise UserError("another process works on this run", where=folder, remedy="Wait until it has ended")
        run = stored(folder)
        for override in overrides:
            _change(run.config, override)
        parts = build(run.config)
        try:
            run_stages(run, parts, folder, True, lambda choices: compose("config", [*choices, own]))
        except Stopped as stop:
            raise Stopped(stop.number, f"go on with: {resume_command(folder)}") from None


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
