"""Train the runs of this study: ``python studies/preference/runs.py FOLDER``.

Each method continues from the trained SASRec of its seed (``FOLDER/ce/seed0``, which is trained first). It has as many
trials as any other, learning rate times beta, with seed 0; the trial of highest validation NDCG@10 is run with three
seeds (``FOLDER/final/<method>/seed0`` and so on), and these runs alone are tested. An ablation has the settings of the
method it is one of. Finished runs are not made again.

With ``--like TUNED``, the folder of another such study or its pack (``studies/preference/runs.parquet``), there are no
trials: each method has the settings chosen there.
"""

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import recsys_lt
from studies.shared.kept import is_finished, text

SEEDS = (0, 1, 2)
TUNED = (
    "trainer.batch_rows=32", "trainer.max_epochs=5", "trainer.eval_every=1", "trainer.eval_untrained=false",
    "trainer.patience=2",
)  # fmt: skip
RATES, BETAS = ("1e-4", "1e-3"), ("0.1", "1")
#: What each method changes. In the place of {ce} stands the run it starts from.
METHODS: Mapping[str, tuple[str, ...]] = {
    "ce": ("loss=ce",),
    "dpo": ("loss=dpo",),
    "s_dpo": ("loss=s_dpo",),
    "napo": ("loss=napo", "loss.auxiliary={ce}"),
    "dmpo": ("loss=dmpo",),
    "dynamic_po": ("loss=dynamic_po",),
    "simpo": ("loss=simpo",),
    "sprec": ("loss=dpo", "loss.negatives=hard", "loss.top=1"),
}
#: Self-play (SPRec, arXiv 2412.09243) has rounds: an epoch of cross-entropy, then an epoch of DPO that starts
#: from there and rejects the item which that run ranks highest.
ROUNDS = 5
#: Ablations: the method whose settings they have, and what they change.
ABLATIONS: Mapping[str, tuple[str, str]] = {
    "napo_unshared": ("napo", "loss.share=0"),
    "napo_no_margin": ("napo", "loss.margin=0"),
    "s_dpo_popular": ("s_dpo", "loss.negatives=popular"),
    "s_dpo_hard": ("s_dpo", "loss.negatives=hard"),
    "s_dpo_slow": ("s_dpo", "optimizer.lr=3e-5"),
}
#: Cross-entropy has no beta: it has more learning rates.
CE_RATES = ("3e-5", "1e-4", "3e-4", "1e-3")


def trials(method: str) -> list[tuple[str, ...]]:
    """The settings of each trial of a method."""
    if method == "ce":
        return [(f"optimizer.lr={rate}",) for rate in CE_RATES]
    return [(f"optimizer.lr={rate}", f"loss.beta={beta}") for rate in RATES for beta in BETAS]


@dataclass(frozen=True)
class Dataset:
    """What the runs on a dataset have in common: all, the starting ones, and those that continue from them."""

    every: tuple[str, ...]
    starting: tuple[str, ...] = ()
    continuing: tuple[str, ...] = ()


#: An epoch of those that continue has about 30 steps of 32 users.
DATASETS: Mapping[str, Dataset] = {
    "ml-100k": Dataset(("dataset=ml-100k", "logger=none", "strategy=cpu")),
    "ml-1m": Dataset(
        ("dataset=ml-1m", "logger=none", "strategy=cpu"),
        ("loss=sce", "loss.k=400", "optimizer.lr=2e-3", "trainer.max_epochs=15", "trainer.eval_every=5"),
        ("model.max_length=200", "model.dropout=0.1", "trainer.max_train_rows=960"),
    ),
    "lastfm": Dataset(
        ("dataset=lastfm", "logger=none", "strategy=cpu"), ("optimizer.lr=2e-3", "trainer.max_epochs=100")
    ),
}


@dataclass(frozen=True)
class Study:
    """Its folder, and the dataset of its runs."""

    root: Path
    dataset: Dataset

    def start(self, seed: int) -> Path:
        return self.root / "ce" / f"seed{seed}"

    def trained(self, folder: Path, seed: int, choices: tuple[str, ...], start: Path | None = None) -> None:
        """Train the run in a folder, unless it is finished."""
        if not is_finished(folder):
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
            given = (part.replace("{ce}", str(start or self.start(seed))) for part in (*self.dataset.every, *choices))
            recsys_lt.train(*given, f"seed={seed}", folder=folder)

    def continued(self, folder: Path, seed: int, method: str, choices: tuple[str, ...]) -> None:
        """Train a method's run, which continues from the starting run of its seed."""
        common = (*TUNED, *self.dataset.continuing, "model.start_from={ce}")
        if method != "sprec":
            self.trained(folder, seed, (*common, *METHODS[method], *choices))
            return
        rate = choices[0]
        unread = (*common, "trainer.max_epochs=1", "trainer.test=false")
        start = self.start(seed)
        for number in range(ROUNDS):
            rounds = self.root / "rounds" / folder.relative_to(self.root)
            sft, played = rounds / f"{number}_ce", folder if number == ROUNDS - 1 else rounds / f"{number}_dpo"
            self.trained(sft, seed, (*unread, "loss=ce", rate), start)
            own = (*METHODS[method], *choices)
            last = played == folder
            self.trained(played, seed, (*(common if last else unread), "trainer.max_epochs=1", *own), sft)
            start = played


def validation(folder: Path) -> float:
    """NDCG@10 on validation of a finished run, in a folder or in a pack."""
    if not is_finished(folder):
        raise SystemExit(f"error: {folder}: it is no finished trial. Give the folder or the pack of a tuned study.")
    found: float = json.loads(text(folder / "metrics.json"))["valid"]["ndcg@10"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dataset", choices=DATASETS, default="ml-100k")
    parser.add_argument("--like", type=Path, metavar="TUNED", help="take the settings chosen in this study")
    parser.add_argument("--methods", nargs="+", choices=[*METHODS, *ABLATIONS], help="default: all")
    given = parser.parse_args()
    study = Study(given.folder.resolve(), DATASETS[given.dataset])
    tuned = study.root if given.like is None else given.like.resolve()
    wanted = given.methods or [*METHODS, *ABLATIONS]
    for seed in SEEDS:
        study.trained(study.start(seed), seed, study.dataset.starting)
    study.trained(study.root / "itemgraph" / "seed0", 0, ("model=itemgraph",))
    for method in METHODS:
        own: dict[str, list[str]] = {method: []}
        runs = own | {name: change for name, (of, *change) in ABLATIONS.items() if of == method}
        if not any(name in wanted for name in runs):
            continue
        places = {trial: tuned / "trials" / method / str(n) for n, trial in enumerate(trials(method))}
        if given.like is None:
            for trial, place in places.items():
                study.continued(place, 0, method, (*trial, "trainer.test=false"))
        found = {trial: validation(place) for trial, place in places.items()}
        best = max(found, key=lambda trial: found[trial])
        values = ", ".join(f"{' '.join(trial)}: {value:.4f}" for trial, value in found.items())
        print(f"{method}: {' '.join(best)} is chosen ({values})", flush=True)
        for name, change in runs.items():
            for seed in SEEDS if name in wanted else ():
                study.continued(study.root / "final" / name / f"seed{seed}", seed, method, (*best, *change))


if __name__ == "__main__":
    main()
