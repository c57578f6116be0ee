"""``python -m recsys_lt``: the only place that knows Hydra's command line."""

import contextlib
import difflib
import io
import os
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recsys_lt.errors import UserError

if TYPE_CHECKING:
    from recsys_lt.evidence.stored import Stored

_PACKAGE = Path(__file__).resolve().parent
# In the wheel conf/ lies inside the package; in a checkout, beside it.
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"

#: Cells that failed in this process, with their exit codes: one must not end a whole sweep.
_failures: list[tuple[str, int]] = []


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _task(config: DictConfig) -> None:
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    sweeping = hydra_config.mode is not None and hydra_config.mode.name == "MULTIRUN"
    try:
        _cell(config, hydra_config, folder, Path(hydra_config.sweep.dir).resolve().name if sweeping else None)
    except UserError as error:
        if config.get("debug"):
            raise
        _failures.append((folder.name, 2))
        _complain(f"{folder.name}: {error}" if sweeping else str(error))
    except Exception as error:
        if config.get("debug") or not sweeping:
            raise
        _failures.append((folder.name, 1))
        traceback.print_exc()
        _complain(f"{folder.name}: failed ({type(error).__name__}); the sweep goes on")


def _cell(config: DictConfig, hydra_config: Any, folder: Path, group: str | None) -> None:
    # Heavy imports wait until there is something to do.
    from recsys_lt.evidence.stored import Names, Stored, done_before, store
    from recsys_lt.run import run

    choices = hydra_config.runtime.choices
    names = Names(*(str(choices[part]) for part in Names._fields))
    resumed = config.resume is not None
    if resumed:
        config, names, group = _resumed(folder, list(hydra_config.overrides.task))
    for key in ("path", "raw_dir"):  # what is typed here must be found again from another folder
        if config.dataset.get(key) is not None:
            config.dataset[key] = str(Path(str(config.dataset[key])).expanduser().absolute())
    if group is not None and not resumed and (done := done_before(config, folder.parent)):
        print(f"{folder.name}: done in {done}", flush=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # Hydra made it; it stays if it is the run's own
        return
    store(folder, Stored(config, names, group))
    run(config, names, folder, group, resumed)


def _resumed(folder: Path, overrides: list[str]) -> "Stored":
    """The configuration an earlier run was given, with what may change at a resume changed."""
    from recsys_lt.evidence.stored import stored

    run = stored(folder)
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "resume":
            continue
        if key != "debug" and not key.startswith("trainer."):
            raise UserError(
                f"{key} cannot change in a resumed run",
                where="resume",
                remedy="Only trainer.* and debug may; start a new run for anything else",
            )
        if OmegaConf.select(run.config, key, default=run) is run:
            raise UserError(f"the run has no key {key!r}", where="resume")
        OmegaConf.update(run.config, key, OmegaConf.create(f"v: {value}").v)
    return run


def _complain(line: str) -> None:
    print(f"recsys_lt: {line}", file=sys.stderr, flush=True)


def _spelt_out(argument: str) -> str:
    """``metrics.groups=[0.2,0.6,0.2]`` names the shares alone; Hydra puts no list where a mapping is."""
    return re.sub(r"^(\+{0,2})metrics\.groups=(?=\[)", r"\1metrics.groups.shares=", argument)


def _check_resume(arguments: list[str]) -> None:
    """Before Hydra makes a folder of that name."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "resume" and value not in ("", "null") and not (Path(value) / "config.yaml").is_file():
            raise UserError(
                "there is no run to resume (no config.yaml in it)",
                where=value,
                remedy="Give the run folder that was printed, such as resume=outputs/<run>",
            )


def _one_line(error: Exception) -> str:
    """Hydra's message without its lists of packages and its advice to add unknown keys."""
    text = str(error)
    missing = re.search(r"Key '([^']+)' is not in struct", text) or re.search(r"Could not override '([^']+)'", text)
    if missing:
        asked = re.search(r"Could not override '([^']+)'", text)
        key = asked.group(1) if asked else missing.group(1)
        return f"there is no key {key!r}. {_similar_key(key)}"
    choice = re.search(r"(?:Could not find|Unable to find or open) '([^']+)'", text) or re.search(
        r"In '[^']*': Could not find '([^']+)'", text
    )
    if choice:
        group, _, name = choice.group(1).rpartition("/")
        options = sorted(p.stem for p in (CONF / group).glob("*.yaml") if not p.stem.startswith("_"))
        if group and options:
            return f"{group} has no choice {name!r}. Choose from {', '.join(options)}."
    group_missing = re.search(r"Could not override '([^']+)'\.\s*No match in the defaults list", text)
    if group_missing:
        return f"there is no group or key {group_missing.group(1)!r}. {_similar_key(group_missing.group(1))}"
    if "Cannot merge DictConfig with ListConfig" in text:
        where = re.search(r"In '([^']+)'", text)
        place = where[1] if where else "configuration"
        return f"{place}: a list where keys belong. In a file, write metrics: {{groups: {{shares: [...]}}}}."
    first = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(first[:3])


def _similar_key(key: str) -> str:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config")
    parent, _, last = key.rpartition(".")
    inside = OmegaConf.select(config, parent, default=None) if parent else config
    if not isinstance(inside, DictConfig):
        inside, last = config, key
    names = [str(name) for name in inside if not str(name).startswith("_")]
    near = difflib.get_close_matches(last, names, n=1)
    prefix = f"{parent}." if inside is not config else ""
    if near:
        return f"Did you mean {prefix}{near[0]}?"
    of = f"of {parent} " if prefix else ""
    return f"By default the keys {of}are {', '.join(sorted(names))}; they follow the choices."


def _help() -> None:
    """Hydra's help without the groups nobody chooses from by hand."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        _task()
    for line in text.getvalue().splitlines():
        if not line.startswith("setting: "):
            print(line.replace(": _base, ", ": "))


def main() -> int:
    """Run the command line; the exit code: 0, 1 (a fault of ours), 2 (mendable), 130 (interrupted)."""
    # Hydra would print its own trace and exit with 1; here errors come back to be said in one line.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    OmegaConf.register_new_resolver("either", lambda first, second: first or second, replace=True)
    sys.argv[1:] = [_spelt_out(argument) for argument in sys.argv[1:]]
    debug = "debug=true" in (argument.lower() for argument in sys.argv[1:])
    try:
        _check_resume(sys.argv[1:])
        if {"--help", "-h"} & set(sys.argv[1:]):
            _help()
        else:
            _task()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if debug:
            raise
        _complain(str(error) if isinstance(error, UserError) else _one_line(error))
        return 2
    except KeyboardInterrupt:
        _complain("interrupted; go on with resume=<run folder>")
        return 130
    if len(_failures) > 1:
        _complain(f"{len(_failures)} cells failed: {', '.join(name for name, _ in _failures)}")
    return max((code for _, code in _failures), key=lambda code: (code == 1, code), default=0)


if __name__ == "__main__":
    sys.exit(main())
