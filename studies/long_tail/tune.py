"""Tune what is said to lift the tail, every method with as many trials, then run the chosen trials with more seeds.

``python studies/long_tail/tune.py beauty_sce`` may be stopped at any time and started again; ``--methods`` lets
several processes share a study. What is finished is in runs.parquet beside this file: <study>/trials/, and below
<study>/seeds/ a run a seed of the chosen ones (or of any, with ``--seeds-of``). ``page.py`` makes docs/long_tail.md.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from recsys_lt.runs.packed import has
from studies.shared.kept import is_finished, keep, text

ROOT = Path(__file__).resolve().parents[2]
RUNS = Path(__file__).with_name("runs.parquet")
OVERALL, HEAD, NONHEAD = "ndcg@10", "head/ndcg@10", "nonhead/ndcg@10"


@dataclass(frozen=True)
class Trial:
    """One setting of a method and what validation says of it.

    Parameters
    ----------
    method, number
        Which trial it is.
    change
        What it changes of the study's common settings.
    overall, head, nonhead
        Validation NDCG@10 at the best epoch.
    """

    method: str
    number: int
    change: Mapping[str, Any]
    overall: float
    head: float
    nonhead: float


def study_named(name: str, file: Path) -> dict[str, Any]:
    """The study of that name.

    Raises
    ------
    SystemExit
        If there is none, or its methods have not the same number of trials.
    """
    studies = yaml.safe_load(file.read_text(encoding="utf-8"))
    if name not in studies:
        raise SystemExit(f"error: no study is named {name!r}; there are {', '.join(studies)}")
    study: dict[str, Any] = studies[name]
    counts = {method: len(given["trials"]) for method, given in study["methods"].items()}
    if len(set(counts.values())) > 1:
        raise SystemExit(f"error: study {name}: the methods have not the same number of trials: {counts}")
    return study


def chosen(trials: Sequence[Trial], floor: float | None) -> Trial:
    """The trial to go on with.

    Parameters
    ----------
    trials
        Of one method; not empty.
    floor
        Least overall validation NDCG@10; None to take the best overall trial: that of the base, or of any method of a
        study without ``keep``.
    """
    able = [trial for trial in trials if floor is not None and trial.overall >= floor]
    if not able:  # the base; or a method that hurts the whole in every trial: the one that hurts least
        return max(trials, key=lambda trial: trial.overall)
    return max(able, key=lambda trial: trial.nonhead)


def trials_of(name: str, method: str, study: Mapping[str, Any], runs: Path = RUNS) -> list[Trial]:
    """The finished trials of a method."""
    found = []
    for number, change in enumerate(study["methods"][method]["trials"]):
        path = runs / name / "trials" / f"{method}_{number}" / "metrics.json"
        if has(path):
            valid = json.loads(text(path))["valid"]
            found.append(Trial(method, number, change, valid[OVERALL], valid[HEAD], valid[NONHEAD]))
    return found


def base_of(study: Mapping[str, Any]) -> str:
    """The method the others are compared with."""
    return next(iter(study["methods"]))


def choice(name: str, method: str, study: Mapping[str, Any], runs: Path = RUNS) -> Trial | None:
    """The chosen trial of a method; None until all of its own and of the base's are there."""
    wanted = len(study["methods"][method]["trials"])
    base, own = trials_of(name, base_of(study), study, runs), trials_of(name, method, study, runs)
    if min(len(base), len(own)) < wanted or not own:
        return None
    best = chosen(base, None)
    return best if method == base_of(study) else chosen(own, study["keep"] * best.overall if "keep" in study else None)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not there; 1 if a run failed or waits for another method's trials."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", nargs="?", help="its name in study.yaml (default: all, one after the other)")
    parser.add_argument("--methods", nargs="+", help="only these (default: all, in order)")
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "long_tail", help="folder of the full runs")
    parser.add_argument("--file", type=Path, default=Path(__file__).with_name("study.yaml"), help="the studies")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where finished runs are kept")
    parser.add_argument(
        "--seeds-of",
        nargs="+",
        default=[],
        metavar="METHOD=TRIAL",
        help="run the seeds of these trials now, chosen or not, such as eisam=1, and nothing else",
    )
    parser.add_argument("--trials-only", action="store_true", help="no further seeds yet")
    parser.add_argument("overrides", nargs="*", help="further overrides, such as strategy=gpu")
    asked = parser.parse_args(argv)
    every = yaml.safe_load(asked.file.read_text(encoding="utf-8")) if asked.study is None else [asked.study]
    return max(_work_through(name, asked) for name in every)


def _work_through(name: str, asked: argparse.Namespace) -> int:
    study = study_named(name, asked.file)
    early = {method: int(number) for method, number in (pair.split("=") for pair in asked.seeds_of)}
    methods = list(early) or asked.methods or list(study["methods"])
    work, kept = asked.work / name, asked.runs / name
    missing = []
    for method in methods:
        for number in [early[method]] if early else range(len(study["methods"][method]["trials"])):
            run = f"{method}_{number}"
            folder = work / run
            settings = settings_of(study, method, number, seed=0)
            if _done(kept / "trials" / run, settings):
                continue
            if not (_run(folder, settings, asked.overrides) and keep(folder, kept / "trials" / run, ranks=False)):
                missing.append(run)
    for method in [] if asked.trials_only else methods:
        trial = choice(name, method, study, asked.runs)
        taken = early[method] if early else None if trial is None else trial.number
        if taken is None:
            missing.append(f"seeds of {method}")
            continue
        for seed in range(study["methods"][method]["seeds"]):
            run = f"{method}_{taken}_seed{seed}"
            settings = settings_of(study, method, taken, seed)
            if _done(kept / "seeds" / run, settings):
                continue
            # Seed 0 has run as the trial.
            folder = work / (f"{method}_{taken}" if seed == 0 else run)
            if not (_run(folder, settings, asked.overrides) and keep(folder, kept / "seeds" / run)):
                missing.append(run)
    if missing:
        print(f"not there: {', '.join(missing)}", file=sys.stderr)
    return int(bool(missing))


def settings_of(study: Mapping[str, Any], method: str, number: int, seed: int) -> list[str]:
    """Overrides of one run."""
    given = study["methods"][method]
    settings = study["common"] | given["set"] | given["trials"][number] | {"seed": seed}
    return [f"{key}={'null' if value is None else value}" for key, value in settings.items()]


def _done(folder: Path, settings: Sequence[str]) -> bool:
    """Whether the run is there in whole; one that was interrupted goes on.

    Raises
    ------
    SystemExit
        If what is there is another run: the study has changed since.
    """
    if not has(folder / "config.yaml"):
        return False
    config = yaml.safe_load(text(folder / "config.yaml"))
    for key, wanted in (setting.split("=", 1) for setting in settings):
        found = config["choices"].get(key) or _value(config, key)
        # A key that came later, or null, says nothing, nor does a group whose choice was not noted.
        if not isinstance(found, dict | None) and str(found) != wanted:
            raise SystemExit(f"error: {folder} has {key}={found}, the study now {wanted}. Remove it to run it again")
    return is_finished(folder)


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config


def _run(folder: Path, settings: Sequence[str], overrides: Sequence[str]) -> bool:
    if not _done(folder, settings):
        print(f"== {folder.name}", flush=True)
        resumed = (folder / "config.yaml").is_file()
        how = ["resume", str(folder)] if resumed else [*settings, *overrides, "logger=none", f"hydra.run.dir={folder}"]
        return subprocess.run([sys.executable, "-m", "recsys_lt", *how], cwd=ROOT).returncode == 0
    return True


if __name__ == "__main__":
    sys.exit(main())
