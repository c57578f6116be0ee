"""Train the runs of this study: ``python studies/preference/runs.py FOLDER``.

Each method continues from the trained SASRec of its seed (``FOLDER/ce/seed0``, which is trained first). It has as many
trials as any other, learning rate times beta, with seed 0; the trial of highest validation NDCG@10 is run with three
seeds (``FOLDER/final/<method>/seed0`` and so on), and these runs alone are tested. An ablation has the settings of the
method it is one of. Finished runs are not made again.
"""

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path

import recsys_lt
from studies.shared.kept import is_finished

SEEDS = (0, 1, 2)
COMMON = ("dataset=ml-100k", "logger=none", "strategy=cpu")
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


def trained(root: Path, folder: Path, seed: int, choices: tuple[str, ...], start: Path | None = None) -> float:
    """Validation NDCG@10 of the run in a folder, which is trained unless it is finished."""
    if not is_finished(folder):
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
        ce = str(start or root / "ce" / f"seed{seed}")
        recsys_lt.train(*COMMON, f"seed={seed}", *(part.replace("{ce}", ce) for part in choices), folder=folder)
    found: float = recsys_lt.load(folder).metrics["valid"]["ndcg@10"]
    return found


def continued(root: Path, folder: Path, seed: int, method: str, choices: tuple[str, ...]) -> float:
    """Validation NDCG@10 of a method's run, which continues from the starting run of its seed."""
    common = (*TUNED, "model.start_from={ce}")
    if method != "sprec":
        return trained(root, folder, seed, (*common, *METHODS[method], *choices))
    rate = choices[0]
    unread = (*common, "trainer.max_epochs=1", "trainer.test=false")
    start = root / "ce" / f"seed{seed}"
    for number in range(ROUNDS):
        rounds = root / "rounds" / folder.relative_to(root)
        sft, played = rounds / f"{number}_ce", folder if number == ROUNDS - 1 else rounds / f"{number}_dpo"
        trained(root, sft, seed, (*unread, "loss=ce", rate), start)
        own = (*METHODS[method], *choices)
        found = trained(
            root, played, seed, (*(common if played == folder else unread), "trainer.max_epochs=1", *own), sft
        )
        start = played
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    root: Path = given.folder.resolve()
    for seed in SEEDS:
        trained(root, root / "ce" / f"seed{seed}", seed, ())
    trained(root, root / "itemgraph" / "seed0", 0, ("model=itemgraph",))
    for method in METHODS:
        found = {
            trial: continued(root, root / "trials" / method / str(n), 0, method, (*trial, "trainer.test=false"))
            for n, trial in enumerate(trials(method))
        }
        best = max(found, key=lambda trial: found[trial])
        values = ", ".join(f"{' '.join(trial)}: {value:.4f}" for trial, value in found.items())
        print(f"{method}: {' '.join(best)} is chosen ({values})", flush=True)
        runs = {method: best}
        runs |= {name: (*best, change) for name, (of, change) in ABLATIONS.items() if of == method}
        for name, choices in runs.items():
            for seed in SEEDS:
                continued(root, root / "final" / name / f"seed{seed}", seed, method, choices)


if __name__ == "__main__":
    main()
