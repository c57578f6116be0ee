"""The paper's conclusions, judged by made runs."""

import csv
import json
import re
from pathlib import Path

import pytest
import yaml

from recsys_lt import CONF
from studies.ce_sce import figures, sweeps
from studies.ce_sce.judging import Claim, Finding
from tests.studies.ce_sce.conftest import FAST, cell, change, claim, make_run, make_runs

OURS = "python -m recsys_lt --config-dir studies/ce_sce/conf"
STUDY = Path(figures.__file__).with_name("conf")


def test_claims_hold_or_not_by_the_numbers(runs) -> None:
    make_run(runs / "bce1", *cell("bce"), gain=0.02, seed=1)
    bce = claim(runs, "CE beats BCE")
    assert bce.verdict == "holds in 1, not yet run in 6 (of 7)"
    assert bce.judged == "Beauty 1 of 4, Yelp none of 3"
    assert "0.0612, 0.0200 (difference +0.0413 [" in bce.findings[0].what
    assert "2 seeds, p " in bce.findings[0].what
    assert claim(runs, "CE beats BPR").verdict == "not yet run"
    make_runs(runs / "bpr", *cell("bpr"), gain=0.0625)
    assert claim(runs, "CE beats BPR").verdict == "undecided in 1, not yet run in 6 (of 7)"
    make_run(runs / "bpr_seed2", *cell("bpr"), gain=0.065, seed=2)  # three that are close together, and higher
    assert claim(runs, "CE beats BPR").verdict == "undecided in 1, not yet run in 6 (of 7)"
    make_runs(runs / "caser", *cell("bpr", model="caser"), gain=0.2)
    make_runs(runs / "caser_ce", *cell("ce", model="caser"), gain=0.1)
    assert "does not hold in 1, undecided in 1" in claim(runs, "CE beats BPR").verdict


def test_our_own_generative_runs_are_asked_too(tmp_path) -> None:
    make_runs(tmp_path / "small", *cell("ce", dataset="ml-100k"), gain=0.08)
    for seed, folder in enumerate(("p5a", "p5b")):
        make_run(
            tmp_path / folder, *cell("own", model="p5", dataset="ml-100k"), gain=0.02, seed=seed, optimizer="adamw"
        )
    for folder in tmp_path.iterdir():
        change(folder, users=943, items=1349, interactions=99287)
    found = claim(tmp_path, "our own P5")
    assert found.verdict == "holds in 1, not yet run in 9 (of 10)"
    assert found.findings[0].what.startswith("ML-100K SASRec CE against P5 (adamw): 0.0800, 0.0200 (")


def test_one_seed_on_a_side_settles_nothing(runs) -> None:
    bce = claim(runs, "CE beats BCE")  # two seeds of CE, one of BCE
    assert bce.verdict == "undecided in 1, not yet run in 6 (of 7)"
    assert "2 and 1 seeds: users only, p " in bce.findings[0].what
    assert "undecided: 1 more seed would be needed (2 and 2)" in bce.findings[0].what
    make_run(runs / "bpr", *cell("bpr"), gain=0.02)
    make_run(runs / "caser", *cell("ce", model="caser"), gain=0.06)
    make_run(runs / "caser_bpr", *cell("bpr", model="caser"), gain=0.02)
    (what,) = (f.what for f in claim(runs, "CE beats BPR").findings if "Caser" in f.what)
    assert "1 seed: users only" in what
    assert "undecided: at least 1 more seed of each would be needed" in what


def test_an_undecided_claim_says_how_many_more_seeds_it_needs(tmp_path) -> None:
    for seed, (ce, bce) in enumerate(((0.06, 0.055), (0.07, 0.05))):
        make_run(tmp_path / f"ce{seed}", *cell("ce"), gain=ce, seed=seed)
        make_run(tmp_path / f"bce{seed}", *cell("bce"), gain=bce, seed=seed)
    (finding,) = claim(tmp_path, "CE beats BCE").findings
    assert finding.holds is None
    assert re.search(r"undecided: [1-9]\d* more seeds of each would be needed", finding.what)


def test_a_loss_stands_in_for_another_by_more_than_luck(tmp_path) -> None:
    for folder, gain, verdict in (
        ("worse", 0.45, "does not hold"),
        ("alike", 0.4875, "undecided"),
        ("as", 0.5, "holds"),
    ):
        root = tmp_path / folder
        make_runs(root / "ce", *cell("ce"), gain=0.5)
        make_runs(root / "sce", *cell("sce"), gain=gain)
        assert claim(root, "SCE stands in").verdict == f"{verdict} in 1, not yet run in 3 (of 4)"


def test_a_setting_worse_than_the_published_number_is_shown_and_says_nothing_of_the_paper(tmp_path) -> None:
    make_runs(tmp_path / "poor", *cell("sce", *FAST), gain=0.02)  # published 0.0587
    poor = claim(tmp_path, "beat P5")
    assert poor.verdict == "undecided in 1, not yet run in 7 (of 8)"
    assert "short of the published 0.0587" in poor.findings[0].what
    make_runs(tmp_path / "ce", *cell("ce"), gain=0.2)  # against which anything would do
    assert claim(tmp_path, "SCE stands in").findings[0].holds is None
    make_runs(tmp_path / "good", *cell("sce", *FAST, "model.dropout=0.5"), gain=0.1)
    assert claim(tmp_path, "beat P5").verdict == "holds in 2, not yet run in 6 (of 8)"
    make_runs(tmp_path / "published", *cell("sce"), gain=0.02)  # in the published setting it does say something
    assert claim(tmp_path, "beat P5").verdict == "holds in 1, does not hold in 1, not yet run in 6 (of 8)"


def test_a_poor_setting_that_wins_all_the_same_settles_it(tmp_path) -> None:
    make_runs(tmp_path / "ce", *cell("ce", *FAST), gain=0.055)  # published 0.0597
    make_runs(tmp_path / "bce", *cell("bce"), gain=0.02)
    assert claim(tmp_path, "CE beats BCE").findings[0].holds
    assert "short of" not in claim(tmp_path, "beat P5").findings[0].what  # the best of them: 0.0492


def test_a_published_language_model_is_beaten_by_more_than_luck(tmp_path) -> None:
    make_runs(tmp_path / "ce", *cell("ce"), gain=0.055)  # of 400 users: the best of them has 0.0492
    (finding,) = claim(tmp_path, "beat P5").findings
    assert finding.holds is None
    assert "(+12%; difference +0.0058 [" in finding.what
    make_run(tmp_path / "sce", *cell("sce"), gain=0.2)
    assert [each.holds for each in claim(tmp_path, "beat P5").findings] == [None, None]
    make_run(tmp_path / "sce1", *cell("sce"), gain=0.2, seed=1)
    assert [each.holds for each in claim(tmp_path, "beat P5").findings] == [None, True]


def test_small_models_with_weak_losses_are_asked_too(tmp_path) -> None:
    make_runs(tmp_path / "bce", *cell("bce"), gain=0.01)
    make_runs(tmp_path / "bpr", *cell("bpr"), gain=0.1)
    assert claim(tmp_path, "With BCE or BPR").verdict == "holds in 1, does not hold in 1, not yet run in 4 (of 6)"


@pytest.mark.parametrize(("sce", "verdict", "loser"), [(0.2, "does not hold", "sce"), (0.4, "holds", "ssm")])
def test_a_loser_that_still_rises_settles_nothing(tmp_path, sce, verdict, loser) -> None:
    make_runs(tmp_path / "ssm", *cell("ssm", *FAST, "loss.k=500"), gain=0.3)
    make_runs(tmp_path / "sce", *cell("sce", *FAST, "loss.k=100"), gain=sce)
    winner = {"sce": "ssm", "ssm": "sce"}[loser]
    for rising, said in ((winner, verdict), (loser, "undecided")):
        path = tmp_path / f"{rising}_seed1" / "metrics.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"best_epoch": content["epochs"]}))
        found = claim(tmp_path, "K = 100, alpha = 100 matches")
        assert found.verdict == said
    assert f"{loser.upper()} is best at its last epoch, so it may not be done" in found.findings[0].what


def test_a_difference_by_luck_is_no_finding(tmp_path) -> None:
    make_runs(tmp_path / "ce", *cell("ce"), gain=0.0525)
    make_runs(tmp_path / "bce", *cell("bce"), gain=0.05)  # one user more
    assert not claim(tmp_path, "CE beats BCE").findings[0].holds


def test_verdicts() -> None:
    yes, no, open_ = (Finding("beauty", "", holds) for holds in (True, False, None))
    assert Claim("", "", {"beauty": 2}, [yes, yes]).verdict == "holds"
    assert Claim("", "", {"beauty": 2}, [no, no]).verdict == "does not hold"
    assert Claim("", "", {"beauty": 2}, [yes, no]).verdict == "holds in 1, does not hold in 1 (of 2)"
    assert Claim("", "", {"beauty": 3}, [no]).verdict == "does not hold in 1, not yet run in 2 (of 3)"
    assert Claim("", "", {"beauty": 2}, [yes, open_]).verdict == "holds in 1, undecided in 1 (of 2)"
    assert Claim("", "", {"beauty": 2}, [open_, open_]).verdict == "undecided"
    assert Claim("", "", {"beauty": 3}, []).verdict == "not yet run"


def test_a_claim_says_which_datasets_were_judged(tmp_path) -> None:
    make_runs(tmp_path / "ce", *cell("ce"), gain=0.06)
    make_runs(tmp_path / "bce", *cell("bce"), gain=0.02)
    make_run(tmp_path / "seed", *cell("sce", model="caser"), gain=0.06)
    make_run(tmp_path / "other", *cell("ce", model="caser"), gain=0.02, seed=1)
    assert claim(tmp_path, "CE beats BCE").judged == "Beauty 1 of 4, Yelp none of 3"
    unsettled = claim(tmp_path, "SCE beats CE")
    assert unsettled.verdict == "undecided in 1, not yet run in 3 (of 4)"
    assert unsettled.judged == "Beauty none of 2, Yelp none of 2"
    for loss, gain in (("ce", 0.19), ("bce", 0.13)):  # the second version's dataset, once it is run
        make_runs(tmp_path / f"ml_{loss}", *cell(loss, dataset="ml-1m"), gain=gain)
        for seed in (0, 1):
            change(tmp_path / f"ml_{loss}_seed{seed}", users=6040, items=3416, interactions=999611)
    both = claim(tmp_path, "CE beats BCE")
    assert both.judged == "Beauty 1 of 4, Yelp none of 3, ML-1M 1 of 4"
    assert both.verdict == "holds in 2, not yet run in 9 (of 11)"
    (piece,) = [each for each in figures.pieces(figures.evidence_of([tmp_path])) if each.name == "claims"]
    assert "Beauty 1 of 4, Yelp none of 3, ML-1M 1 of 4" in [row[3] for row in piece.rows]


def test_sweeps_are_found_and_their_claims_checked(tmp_path) -> None:
    for eta, gain in ((0.1, 0.01), (0.7, 0.06), (1, 0.0575), (5, 0.055)):
        make_runs(tmp_path / f"eta{eta}", *cell("ce_eta", "optimizer.lr=2e-3", f"loss.eta={eta}"), gain=gain)
    make_run(tmp_path / "other", *cell("ce_eta", "loss.eta=3"), gain=0.9)  # another family
    make_runs(tmp_path / "ce", *cell("ce", "optimizer.lr=2e-3"), gain=0.055)
    for k, ssm, sce in ((1, 0.03, 0.02), (10, 0.04, 0.05), (50, 0.045, 0.055), (100, 0.05, 0.0575), (500, 0.055, 0.06)):
        make_run(tmp_path / f"ssm{k}", *cell("ssm", *FAST, f"loss.k={k}"), gain=ssm)
        make_run(tmp_path / f"sce{k}", *cell("sce", *FAST, f"loss.k={k}"), gain=sce)
    make_run(tmp_path / "alpha", *cell("sce", *FAST, "loss.k=100", "loss.alpha=10000"), gain=0.05)
    made = {piece.name: piece for piece in figures.pieces(figures.evidence_of([tmp_path]))}
    assert [row[0] for row in made["figure1a"].rows] == ["0.1", "0.7", "1.0", "5.0", "CE"]
    assert made["figure1a"].draw is not None
    assert made["figure1a"].setting == "another setting (lr 0.002)"
    assert made["figure3"].setting == "fast setting (lr 0.002, max_epochs 60)"
    drawn = figures.draw(made["figure3"])
    title, setting = drawn.get_suptitle().splitlines()
    assert title == "Negatives K and their weight alpha, SASRec on Beauty, test NDCG@10"
    assert setting.startswith("fast setting (learning rate 0.002, epochs 60)")
    # Both sweeps, of all, head, mid and tail targets.
    assert [axes.get_title() for axes in drawn.axes[:4]] == [f"{g} targets" for g in ("all", "head", "mid", "tail")]
    assert [len(axes.lines) for axes in drawn.axes] == [2] * 4 + [1] * 4
    assert made["figure1a"].lacking == (f"{OURS} +experiment=paper/figure1a_beauty loss.eta=0.3,0.5,2",)
    assert not made["figure3"].lacking
    for name in ("figure1a", "figure3"):
        assert "Setting of all: lr 0.002" in made[name].note
    assert {(row[0], row[1]) for row in made["figure3"].rows} >= {("ssm by K", 1.0), ("sce by alpha", 10000.0)}
    eta = claim(tmp_path, "eta = 0.7")
    assert eta.verdict == "holds in 1, undecided in 2, not yet run in 2 (of 5)"  # 0.1 is worse; the others by chance?
    assert [finding.what.split(":")[0] for finding in eta.findings] == [
        f"eta 0.7 against {other}" for other in ("eta 0.1", "eta 5", "CE")
    ]
    assert [finding.holds for finding in eta.findings] == [True, None, None]
    matches = claim(tmp_path, "K = 100, alpha = 100 matches")
    assert "0.0575, 0.0550" in matches.findings[0].what
    make_run(tmp_path / "few", *cell("sce", "loss.k=100"), gain=0.2)  # in the published setting, which then counts
    make_run(tmp_path / "many", *cell("ssm", "loss.k=500"), gain=0.1)
    assert "0.2000, 0.1000" in claim(tmp_path, "K = 100, alpha = 100 matches").findings[0].what
    scale = claim(tmp_path, "hurts with one negative")
    assert scale.verdict == "undecided"  # differences of a few users
    assert ["SSM against SCE" in finding.what for finding in scale.findings] == [True, False, False, False]
    large = claim(tmp_path, "Alpha up to 10,000")
    assert large.verdict == "undecided"
    assert "alpha 10000 against 100: 0.0500, 0.0575 (difference from 95% " in large.findings[0].what
    assert set(sweeps.ETAS) == {
        float(eta)
        for eta in yaml.safe_load((STUDY / "experiment/paper/figure1a_beauty.yaml").read_text())["hydra"]["sweeper"][
            "params"
        ]["loss.eta"].split(",")
    }
    out = tmp_path / "figures"
    assert figures.main([str(tmp_path)]) == 0
    with (out / "figure3.csv").open() as file:
        assert len(list(csv.reader(file))) == 1 + 10 + 3  # alpha 1 is SSM


def test_what_cannot_be_tested_neither_holds_nor_fails(tmp_path) -> None:
    make_runs(tmp_path / "ce", *cell("ce"), gain=0.06)
    make_runs(tmp_path / "bce", *cell("bce"), gain=0.02)
    (tmp_path / "bce_seed1" / "ranks.parquet").unlink()
    found = claim(tmp_path, "CE beats BCE")
    assert found.verdict == "undecided in 1, not yet run in 6 (of 7)"
    assert "undecided: a run without ranks.parquet" in found.findings[0].what


def test_means_and_tests_are_of_the_same_runs(tmp_path) -> None:
    for seed, gain in ((0, 0.01), (7, 0.02), (3, 0.03)):
        make_run(tmp_path / f"ce{seed}", *cell("ce"), gain=gain, seed=seed)
    make_runs(tmp_path / "bce", *cell("bce"), gain=0.06)
    (finding,) = claim(tmp_path, "CE beats BCE").findings
    assert "0.0200, 0.0600 (difference -0.0400 [" in finding.what
    assert "3 and 2 seeds" in finding.what
    assert finding.holds is False


def test_the_sweeps_that_figure_3_draws_are_those_of_its_experiments() -> None:
    for name, key, values in (("k", "loss.k", sweeps.KS), ("alpha", "loss.alpha", sweeps.ALPHAS)):
        text = (CONF / f"experiment/paper/figure3_{name}_beauty.yaml").read_text()
        asked = yaml.safe_load(text)["hydra"]["sweeper"]["params"][key]
        assert tuple(map(float, str(asked).split(","))) == values


def test_sweeps_are_of_the_seeds_that_all_points_have(tmp_path) -> None:
    for k, seed, gain in ((10, 0, 0.04), (10, 1, 0.4), (50, 0, 0.05), (400, 0, 0.9)):  # 400 is not of the sweep
        make_run(tmp_path / f"sce{k}_{seed}", *cell("sce", *FAST, f"loss.k={k}"), gain=gain, seed=seed)
    drawn = sweeps.sampled(figures.evidence_of([tmp_path]))["sce by K"]
    assert {k: (each.seeds, each.mean_std("ndcg@10")[0]) for k, each in drawn.items()} == {
        10.0: ((0,), 0.04),
        50.0: ((0,), 0.05),
    }


def test_a_loss_that_bounds_more_often_is_tighter(tmp_path) -> None:
    def watch(seed: int) -> None:
        for loss, share in (("ssm", 0.36), ("sce", 0.83)):
            folder = tmp_path / f"{loss}{seed}"
            make_run(folder, *cell(loss, *FAST, "loss.k=100", "+callbacks=tightness"), seed=seed)
            last = share + 0.01 * seed
            (folder / "learning_curve.csv").write_text(f"epoch,bound/ndcg,bound/met\n1,0.5,1\n2,{last},1\n")

    watch(0)
    found = claim(tmp_path, "bounds -log NDCG")
    assert found.verdict == "undecided"
    assert "SCE 83%, SSM 36% (one seed on a side" in found.findings[0].what
    watch(1)
    found = claim(tmp_path, "bounds -log NDCG")
    assert found.verdict == "holds"
    assert "2 and 2 seeds, p .0" in found.findings[0].what
