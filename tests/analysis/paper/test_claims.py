"""The paper's conclusions, judged by made runs."""

import csv
import json

import yaml

from recsys_lt import figures
from recsys_lt.__main__ import CONF
from recsys_lt.analysis.paper import truncation
from recsys_lt.analysis.paper.claims import Claim, Finding
from tests.analysis.paper.conftest import FAST, cell, change, claim, make_run


def test_claims_hold_or_not_by_the_numbers(runs) -> None:
    bce = claim(runs, "CE beats BCE")
    assert bce.verdict == "holds so far (1 of 7 settled)"
    assert bce.judged == "Beauty 1 of 4, Yelp none of 3"
    assert "0.0600, 0.0200 (p" in bce.findings[0].what  # of the seed both have
    assert claim(runs, "CE beats BPR").verdict == "not yet run"
    stands_in = claim(runs, "SCE stands in")
    assert stands_in.verdict == "does not hold in 1 of 1, 1 of 4 settled"
    make_run(runs / "bpr", *cell("bpr"), gain=0.0625)
    assert "does not hold" in claim(runs, "CE beats BPR").verdict


def test_a_setting_worse_than_the_published_number_says_nothing_of_the_paper(tmp_path) -> None:
    make_run(tmp_path / "poor", *cell("sce", *FAST), gain=0.02)  # published 0.0587
    assert figures.evidence_of(tmp_path).closest("beauty", "sasrec", "sce") is None
    assert claim(tmp_path, "beat P5").verdict == "not yet run"
    make_run(tmp_path / "good", *cell("sce", *FAST, "model.dropout=0.5"), gain=0.06)
    assert claim(tmp_path, "beat P5").verdict == "holds so far (1 of 8 settled)"


def test_a_run_that_still_rises_settles_nothing(tmp_path) -> None:
    make_run(tmp_path / "ssm", *cell("ssm", "loss.k=500"), gain=0.06)
    make_run(tmp_path / "sce", *cell("sce", "loss.k=100"), gain=0.05)
    assert claim(tmp_path, "K = 100, alpha = 100 matches").verdict == "does not hold"
    path = tmp_path / "sce" / "metrics.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"best_epoch": content["epochs"]}))
    found = claim(tmp_path, "K = 100, alpha = 100 matches")
    assert found.verdict == "run, but not settled"
    assert "may not be done" in found.findings[0].what


def test_a_difference_by_luck_is_no_finding(tmp_path) -> None:
    make_run(tmp_path / "ce", *cell("ce"), gain=0.0525)
    make_run(tmp_path / "bce", *cell("bce"), gain=0.05)  # one user more
    assert not claim(tmp_path, "CE beats BCE").findings[0].holds


def test_verdicts() -> None:
    yes, no, open_ = (Finding("beauty", "", holds) for holds in (True, False, None))
    assert Claim("", "", {"beauty": 2}, [yes, yes]).verdict == "holds"
    assert Claim("", "", {"beauty": 2}, [no, no]).verdict == "does not hold"
    assert Claim("", "", {"beauty": 2}, [yes, no]).verdict == "does not hold in 1 of 2"
    assert Claim("", "", {"beauty": 3}, [no]).verdict == "does not hold in 1 of 1, 1 of 3 settled"
    assert Claim("", "", {"beauty": 2}, [yes, open_]).verdict == "holds so far (1 of 2 settled)"
    assert Claim("", "", {"beauty": 2}, [open_, open_]).verdict == "run, but not settled"
    assert Claim("", "", {"beauty": 3}, []).verdict == "not yet run"


def test_a_claim_says_which_datasets_were_judged(tmp_path) -> None:
    make_run(tmp_path / "ce", *cell("ce"), gain=0.06)
    make_run(tmp_path / "bce", *cell("bce"), gain=0.02)
    make_run(tmp_path / "seed", *cell("sce", model="caser"), gain=0.06)
    make_run(tmp_path / "other", *cell("ce", model="caser"), gain=0.02, seed=1)
    assert claim(tmp_path, "CE beats BCE").judged == "Beauty 1 of 4, Yelp none of 3"
    unsettled = claim(tmp_path, "SCE beats CE")
    assert (unsettled.verdict, unsettled.judged) == ("run, but not settled", "Beauty none of 2, Yelp none of 2")
    for loss, gain in (("ce", 0.19), ("bce", 0.13)):  # the second version's dataset, once it is run
        folder = tmp_path / f"ml_{loss}"
        make_run(folder, *cell(loss, dataset="ml-1m"), gain=gain)
        change(folder, users=6040, items=3416, interactions=999611)
    both = claim(tmp_path, "CE beats BCE")
    assert both.judged == "Beauty 1 of 4, Yelp none of 3, ML-1M 1 of 4"
    assert both.verdict == "holds so far (2 of 11 settled)"
    (piece,) = [each for each in figures.pieces(figures.evidence_of(tmp_path)) if each.name == "claims"]
    assert "Beauty 1 of 4, Yelp none of 3, ML-1M 1 of 4" in [row[3] for row in piece.rows]


def test_sweeps_are_found_and_their_claims_checked(tmp_path) -> None:
    for eta, gain in ((0.1, 0.01), (0.7, 0.06), (1, 0.0575), (5, 0.055)):
        make_run(tmp_path / f"eta{eta}", *cell("ce_eta", "optimizer.lr=2e-3", f"loss.eta={eta}"), gain=gain)
    make_run(tmp_path / "other", *cell("ce_eta", "loss.eta=3"), gain=0.9)  # another family
    make_run(tmp_path / "ce", *cell("ce", "optimizer.lr=2e-3"), gain=0.055)
    for k, ssm, sce in ((1, 0.03, 0.02), (10, 0.04, 0.05), (50, 0.045, 0.055), (100, 0.05, 0.0575), (500, 0.055, 0.06)):
        make_run(tmp_path / f"ssm{k}", *cell("ssm", *FAST, f"loss.k={k}"), gain=ssm)
        make_run(tmp_path / f"sce{k}", *cell("sce", *FAST, f"loss.k={k}"), gain=sce)
    make_run(tmp_path / "alpha", *cell("sce", *FAST, "loss.k=100", "loss.alpha=10000"), gain=0.05)
    made = {piece.name: piece for piece in figures.pieces(figures.evidence_of(tmp_path))}
    assert [row[0] for row in made["figure1a"].rows] == ["0.1", "0.7", "1.0", "5.0", "CE"]
    assert made["figure1a"].draw is not None
    assert made["figure1a"].setting == "another setting (lr 0.002)"
    assert made["figure3"].setting == "fast setting (lr 0.002, max_epochs 60)"
    drawn = figures.drawing(made["figure3"])
    assert drawn.get_suptitle() == f"{made['figure3'].title}\n{made['figure3'].setting}"
    # Both sweeps, of all, head, mid and tail targets.
    assert [axes.get_title() for axes in drawn.axes[:4]] == [f"{g} targets" for g in ("all", "head", "mid", "tail")]
    assert [len(axes.lines) for axes in drawn.axes] == [2] * 4 + [1] * 4
    assert made["figure1a"].lacking == ("python -m recsys_lt +experiment=paper/figure1a_beauty loss.eta=0.3,0.5,2",)
    assert not made["figure3"].lacking
    for name in ("figure1a", "figure3"):
        assert "Setting of all: lr 0.002" in made[name].note
    assert {(row[0], row[1]) for row in made["figure3"].rows} >= {("ssm by K", 1.0), ("sce by alpha", 10000.0)}
    eta = claim(tmp_path, "eta = 0.7")
    assert eta.verdict == "holds so far (1 of 4 settled)"  # 0.1 is worse; 5 may be by chance
    assert ["0.7 against" in finding.what for finding in eta.findings] == [True, True]
    assert [finding.holds for finding in eta.findings] == [True, None]
    assert claim(tmp_path, "K = 100, alpha = 100 matches").verdict == "holds"
    make_run(tmp_path / "few", *cell("sce", "loss.k=100"), gain=0.05)  # in the published setting, which then counts
    assert claim(tmp_path, "K = 100, alpha = 100 matches").verdict == "holds"
    make_run(tmp_path / "many", *cell("ssm", "loss.k=500"), gain=0.0575)
    assert claim(tmp_path, "K = 100, alpha = 100 matches").verdict == "does not hold"
    assert claim(tmp_path, "hurts with one negative").verdict == "holds"
    assert claim(tmp_path, "Alpha up to 10,000").verdict == "does not hold"  # 0.05 is below 95 % of 0.0575
    assert set(truncation.ETAS) == {
        float(eta)
        for eta in yaml.safe_load((CONF / "experiment/paper/figure1a_beauty.yaml").read_text())["hydra"]["sweeper"][
            "params"
        ]["loss.eta"].split(",")
    }
    out = tmp_path / "figures"
    assert figures.main([str(tmp_path)]) == 0
    with (out / "figure3.csv").open() as file:
        assert len(list(csv.reader(file))) == 1 + 10 + 3  # alpha 1 is SSM


def test_what_cannot_be_tested_neither_holds_nor_fails(tmp_path) -> None:
    make_run(tmp_path / "ce", *cell("ce"), gain=0.06)
    make_run(tmp_path / "bce", *cell("bce"), gain=0.02, seed=1)
    found = claim(tmp_path, "CE beats BCE")
    assert found.verdict == "run, but not settled"
    assert "no seed with ranks in common" in found.findings[0].what


def test_means_are_of_the_seeds_that_are_tested(tmp_path) -> None:
    make_run(tmp_path / "ce0", *cell("ce"), gain=0.01)
    make_run(tmp_path / "ce7", *cell("ce"), gain=0.2, seed=7)
    make_run(tmp_path / "bce", *cell("bce"), gain=0.06)
    (finding,) = claim(tmp_path, "CE beats BCE").findings
    assert "0.0100, 0.0600" in finding.what
    assert finding.holds is False
