"""The study of preference losses: what it trains of each method."""

import sys
from pathlib import Path

import pytest

from studies.preference import runs
from studies.preference.page import CLAIMS
from studies.preference.runs import ABLATIONS, METHODS, trials


def test_methods_have_as_many_trials_and_claims_are_of_methods():
    assert {len(set(trials(method))) for method in METHODS} == {4}
    assert {of for of, _ in ABLATIONS.values()} <= set(METHODS)
    assert {name for claim in CLAIMS for name in claim} <= {*METHODS, *ABLATIONS}


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """What is trained, by its place below FOLDER; in TUNED the third trial of each method is the best."""
    found = {}
    monkeypatch.setattr(
        runs.recsys_lt, "train", lambda *choices, folder: found.update({str(folder.relative_to(tmp_path)): choices})
    )
    monkeypatch.setattr(runs, "validation", lambda folder: float(folder.name == "2"))

    def run(*options):
        monkeypatch.setattr(sys, "argv", ["runs.py", str(tmp_path / "FOLDER"), *options])
        runs.main()
        return found

    return run


def test_another_dataset_takes_over_the_settings(trained, tmp_path):
    found = trained("--dataset", "ml-1m", "--like", str(tmp_path / "TUNED"), "--methods", "napo_unshared", "sprec")
    finals = {place for place in found if place.startswith("FOLDER/final/")}
    assert finals == {f"FOLDER/final/{name}/seed{seed}" for name in ("napo_unshared", "sprec") for seed in range(3)}
    assert not any("trials" in place for place in found)
    napo = found["FOLDER/final/napo_unshared/seed1"]
    start = tmp_path / "FOLDER/ce/seed1"
    assert {"dataset=ml-1m", "loss.share=0", "optimizer.lr=1e-3", "loss.beta=0.1", "seed=1"} <= set(napo)
    assert {f"model.start_from={start}", f"loss.auxiliary={start}", "trainer.max_train_rows=960"} <= set(napo)
    assert "loss=sce" in found["FOLDER/ce/seed1"]


def test_like_reads_the_kept_trials():
    # The page names the chosen settings.
    pack = Path(runs.__file__).parent / "runs.parquet"
    for method in METHODS:
        beta = "1" if method in ("s_dpo", "simpo") else "0.1"
        found = {trial: runs.validation(pack / "trials" / method / str(n)) for n, trial in enumerate(trials(method))}
        chosen = max(found, key=lambda trial: found[trial])
        assert chosen == (("optimizer.lr=3e-4",) if method == "ce" else ("optimizer.lr=1e-4", f"loss.beta={beta}"))


def test_self_play_continues_from_round_to_round(trained, tmp_path):
    found = trained("--methods", "sprec")
    place = tmp_path / "FOLDER/rounds/final/sprec/seed0"
    starts = {str(place): [c for c in choices if c.startswith("model.start_from")] for place, choices in found.items()}
    assert starts["FOLDER/rounds/final/sprec/seed0/0_ce"] == [f"model.start_from={tmp_path / 'FOLDER/ce/seed0'}"]
    for number in range(runs.ROUNDS):
        played = (
            "FOLDER/final/sprec/seed0" if number == runs.ROUNDS - 1
            else f"FOLDER/rounds/final/sprec/seed0/{number}_dpo"
        )  # fmt: skip
        assert starts[played] == [f"model.start_from={place / f'{number}_ce'}"]
    assert len([place for place in found if "/trials/sprec/" in place and "rounds" not in place]) == 4
