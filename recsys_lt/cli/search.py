"""A search for hyper-parameters: a sweep whose cells Optuna proposes, and whose best cell alone is tested."""

import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from recsys_lt.errors import UserError
from recsys_lt.system.package import check_installed

# What is heavy is imported where it is used: Optuna may be absent.
if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

_GROUPS = ("dataset", "model", "loss", "optimizer")


class Search(BasicSweeper):
    """Hydra's sweeper of ``+search=<model>``.

    The value of a trial is what the task returns, the validation NDCG@10. Trials are kept in ``search.log`` in the
    folder of the sweep, so that the same command goes on where it stopped. A trial depends on the seed, its number and
    the trials before it.

    Parameters
    ----------
    trials
        Trials of the search, those that failed since it was started included.
    at_once
        Trials that are proposed together, for a launcher that runs several.
    sampler
        Class of ``optuna.samplers``, as package.module.Class.
    seed
        Seed of the runs and of the sampler.
    params
        The space: sweeps in Hydra's grammar by key, such as ``tag(log, interval(1e-4, 1e-2))``.
    """

    def __init__(self, trials: int, at_once: int, sampler: str, seed: int, params: dict[str, str]) -> None:
        super().__init__(None, params)
        self.trials, self.at_once, self.sampler, self.seed = trials, at_once, sampler, seed

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials that are left, then test the best; UserError for a search that cannot be made."""
        check_installed("search", "search", "optuna")
        from optuna.trial import TrialState

        from recsys_lt.system.atomic import locked

        assert self.config is not None
        space, fixed = self._space(arguments)
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        with locked(folder / ".search.lock") as mine:
            if not mine:
                raise UserError("another process searches here", where=folder, remedy="Wait, or name another folder")
            study = _study(folder, space, fixed)
            begun = [trial for trial in study.trials if trial.state == TrialState.RUNNING]
            for trial in begun:
                if trial.params.keys() != space.keys():  # killed while it was proposed
                    study.tell(trial.number, state=TrialState.FAIL)
            waiting = [trial.number for trial in begun if trial.params.keys() == space.keys()]
            # What failed in an earlier start, perhaps for want of data or memory, is replaced.
            done = sum(trial.state == TrialState.COMPLETE for trial in study.trials)
            while waiting or done < self.trials:
                while len(waiting) < self.at_once and done + len(waiting) < self.trials:
                    study.sampler = self._sampler(len(study.trials))
                    waiting.append(study.ask(space).number)
                batch, waiting = waiting[: self.at_once], waiting[self.at_once :]
                for number, value in zip(batch, self._launch(study, batch, fixed), strict=True):
                    study.tell(number, value, state=TrialState.FAIL if value is None else TrialState.COMPLETE)
                    done += 1
                    trial = study.trials[number]
                    found = "failed" if value is None else f"validation NDCG@10 {value:.4f}"
                    settings = " ".join(_settings(trial.params))
                    print(f"trial {number} ({done} of {self.trials}): {found}, {settings}", flush=True)
            if any(trial.state == TrialState.COMPLETE for trial in study.trials):
                print(f"test of trial {study.best_trial.number}, the best on validation", flush=True)
                self._launch(study, [study.best_trial.number], [*fixed, "trainer.test=true"])
                print(self._outcome(study, folder, fixed), flush=True)

    def _launch(self, study: "Study", numbers: Sequence[int], fixed: Sequence[str]) -> list[float | None]:
        assert self.launcher is not None
        jobs = [[*fixed, *_settings(study.trials[number].params)] for number in numbers]
        self.validate_batch_is_legal(jobs)
        return [job.return_value for job in self.launcher.launch(jobs, initial_job_idx=numbers[0])]

    def _space(self, arguments: list[str]) -> "tuple[dict[str, BaseDistribution], list[str]]":
        """What is searched, by key, and the other arguments; an argument wins over a range of the same key."""
        from pydantic import PositiveInt

        from recsys_lt.training.instantiate import checked

        checked("search.trials", self.trials, PositiveInt)
        checked("search.at_once", self.at_once, PositiveInt)
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = {one.get_key_element(): one for one in parser.parse_overrides([*self._parse_config(), *arguments])}
        space = {key: _distribution(one) for key, one in given.items() if one.is_sweep_override()}
        if not space:
            raise UserError("there is nothing to search", where="search", remedy="Give a range: key=interval(0.1,0.5)")
        if "seed" in space:
            what, remedy = "the best of several seeds is no better setting", "Give one seed; run the best with others"
            raise UserError(what, where="seed", remedy=remedy)
        return space, [str(one.input_line) for one in given.values() if not one.is_sweep_override()]

    def _sampler(self, number: int) -> "BaseSampler":
        """A sampler for one trial, seeded so that a search that was stopped proposes what it would have proposed."""
        from numpy.random import SeedSequence
        from optuna.samplers import BaseSampler

        try:
            made = resolve_name(self.sampler)(seed=int(SeedSequence([self.seed, number]).generate_state(1)[0]))
            if isinstance(made, BaseSampler):
                return made
            why = "it is no sampler"
        except (AttributeError, ImportError, TypeError, ValueError) as error:
            why = str(error)
        remedy = "Name one such as optuna.samplers.TPESampler"
        raise UserError(why, where=f"search.sampler={self.sampler}", remedy=remedy)

    def _outcome(self, study: "Study", folder: Path, fixed: Sequence[str]) -> str:
        from optuna.trial import TrialState

        from recsys_lt.runs.reading import read_json

        assert self.config is not None
        best, failed = study.best_trial, sum(trial.state == TrialState.FAIL for trial in study.trials)
        found = {path.parent: read_json(path) for path in sorted(folder.glob("*/metrics.json"))}
        tested = {run: metrics for run, metrics in found.items() if "test" in metrics}
        lines = [
            f"search: {len(study.trials)} trials, {failed} failed; trial {best.number} is best on validation",
            f"  settings    {' '.join(_settings(best.params))}",
            f"  validation  NDCG@10 {best.value:.4f}",
        ]
        for run, test in [(r, m["test"]) for r, m in tested.items() if m["valid"]["ndcg@10"] == best.value][:1]:
            names = {"ndcg@10": "NDCG@10", "hr@10": "HR@10", "nonhead/ndcg@10": "nonhead NDCG@10"}
            shown = (f"{words} {test[name]:.4f}" for name, words in names.items() if test.get(name) is not None)
            lines += [f"  test        {', '.join(shown)}", f"  run folder  {run}"]
        if len(tested) > 1:
            lines.append(f"  the test was read for {len(tested)} trials: the search was extended after it had ended")
        choices = self.config.hydra.runtime.choices
        keys = {one.partition("=")[0] for one in [*fixed, *best.params]}
        named = [f"{group}={choices[group]}" for group in _GROUPS if group not in keys]
        kept = [one for one in fixed if not one.lstrip("+").startswith(("search", "hydra.", "seed=", "trainer.test"))]
        command = shlex.join([*named, *kept, *_settings(best.params), "seed=0,1,2"])
        lines.append(f"  with seeds  recsys_lt -m {command}")
        return "\n".join(lines)


def _study(folder: Path, space: "dict[str, BaseDistribution]", fixed: Sequence[str]) -> "Study":
    """The search in a folder, a new one where there is none; UserError if it is another one."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    storage = JournalStorage(JournalFileBackend(str(folder / "search.log")))
    study = optuna.create_study(storage=storage, study_name="search", direction="maximize", load_if_exists=True)
    own = sorted(one for one in fixed if not one.startswith("search."))
    asked = {"space": {key: str(one) for key, one in space.items()}, "fixed": own}
    if study.user_attrs.get("asked", asked) != asked:
        raise UserError(
            "it holds a search of another space, or with other settings",
            where=folder,
            remedy="Give the same arguments (search.* may differ), or name another folder with hydra.sweep.dir=",
        )
    study.set_user_attr("asked", asked)
    return study


def _distribution(sweep: Override) -> "BaseDistribution":
    """What Optuna draws from for a sweep of Hydra's grammar: an interval, or a choice of values."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value: Any = sweep.value()
    if sweep.is_interval_sweep():
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        try:
            return (IntDistribution if whole else FloatDistribution)(value.start, value.end, log="log" in value.tags)
        except ValueError as error:
            raise UserError(str(error), where=sweep.get_key_element(), remedy="Give low and high ends") from error
    return CategoricalDistribution(list(sweep.sweep_string_iterator()))


def _settings(params: dict[str, Any]) -> list[str]:
    """A trial's arguments; a number of an interval is rounded to three digits, as a person would write it."""
    return [f"{key}={float(f'{one:.3g}') if isinstance(one, float) else one}" for key, one in params.items()]
