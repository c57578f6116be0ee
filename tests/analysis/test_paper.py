"""The paper's tables and figures from made runs: what they show, what they say is lacking, and what they conclude."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from recsys_lt import figures
from recsys_lt.__main__ import CONF
from recsys_lt.analysis.paper import bounding, truncation
from recsys_lt.analysis.paper.claims import Claim, Finding, claims
from recsys_lt.analysis.paper.comparison import bars
from recsys_lt.analysis.paper.evidence import BACKBONES, Evidence
from recsys_lt.analysis.paper.published import Facts, Published, facts
from recsys_lt.errors import UserError

USERS = 400


def make_run(folder: Path, *choices: str, gain: float = 0.05, seed: int = 0, optimizer: str = "adam") -> None:
    """A run's slim folder: the shipped configuration of these choices, and users of whom a share is hit at rank 1."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [*choices, f"seed={seed}"])
    picked = {c.split("=")[0]: c.split("=")[1] for c in choices}
    names = {part: picked.get(part, "?") for part in ("dataset", "model", "loss")} | {"optimizer": optimizer}
    folder.mkdir(parents=True)
    whole = {"choices": names} | OmegaConf.to_container(config, resolve=False)
    (folder / "config.yaml").write_text(yaml.safe_dump(whole))
    hits = round(gain * USERS)
    rank = np.where(np.arange(USERS) < hits, 1, 500)
    ranks = pd.DataFrame(
        {"user": np.arange(USERS), "target": np.arange(USERS), "rank": rank, "group": ["head", "mid"] * (USERS // 2)}
    )
    ranks.to_parquet(folder / "ranks.parquet")
    test = {
        f"{group}{metric}@{k}": gain
        for group in ("", "head/", "mid/", "tail/", "nonhead/")
        for metric in ("ndcg", "mrr", "hr")
        for k in (5, 10)
    }
    metrics = names | {
        "seed": seed,
        "protocol": {
            "split": "leave-one-out", "users": 22363, "items": 12101, "interactions": 198502, "max_length": 50,
            "fingerprint": picked["dataset"],
        },
        "valid": {"ndcg@10": gain}, "test": test, "best_epoch": 10, "epochs": 20, "finished": True,
        "train": {"seconds_per_epoch": 2.0, "parameters": 828224, "device": "cpu", "threads": 2},
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))


def cell(loss: str, *more: str, model: str = "sasrec", dataset: str = "beauty") -> tuple[str, ...]:
    return (f"dataset={dataset}", f"model={model}", f"loss={loss}", *more)


FAST = ("optimizer.lr=2e-3", "trainer.max_epochs=60")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    make_run(root / "ce0", *cell("ce"), gain=0.06)
    make_run(root / "ce1", *cell("ce"), gain=0.0625, seed=1)
    make_run(root / "ce_again", *cell("ce"), gain=0.06)  # kept twice
    make_run(root / "bce", *cell("bce"), gain=0.02)
    make_run(root / "sce_fast", *cell("sce", *FAST), gain=0.0575)
    make_run(root / "gru_curve", *cell("ce", "trainer.max_epochs=20", model="gru4rec"), gain=0.5)
    make_run(root / "sam", *cell("ce"), gain=0.9, optimizer="sam")
    return root


def claim(root: Path, words: str) -> Claim:
    (found,) = [each for each in claims(figures.evidence_of(root)) if words in each.statement]
    return found


def test_only_adam_s_runs_in_whole_count_once_a_seed(runs) -> None:
    evidence = figures.evidence_of(runs)
    ce = evidence.as_published("beauty", "sasrec", "ce")
    assert ce is not None
    assert ce.seeds == (0, 1)
    assert ce.mean_std("ndcg@10")[0] == pytest.approx(0.06125)
    assert evidence.as_published("beauty", "sasrec", "sce") is None
    fast = evidence.closest("beauty", "sasrec", "sce")
    assert fast is not None
    assert set(evidence.changes(fast)) == {"optimizer.lr", "trainer.max_epochs"}
    assert evidence.closest("beauty", "gru4rec", "ce") is None  # stopped early


def test_every_piece_is_written_and_says_what_is_lacking(runs, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert figures.main([str(runs), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "paper/figure1a_beauty" in said
    page = (out / "figures.md").read_text()
    names = ["claims", "table1", "table2", "table3", "table4", "figure1a", "figure1b", "figure2", "figure3", "figure4"]
    assert sorted(path.stem for path in out.glob("*.csv")) == sorted(names)
    assert sorted(path.name for path in out.glob("*.png")) == ["figure2.png", "figure4.png"]
    for name in ("figure2", "figure4"):
        assert f"]({name}.png)" in page
        assert (out / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    for piece in figures.pieces(figures.evidence_of(runs)):
        if piece.draw is not None:  # data and setting stand on what may be seen without the page
            assert "Beauty" in f"{piece.title}{piece.setting}" or piece.name == "figure4"  # which names each panel's
            assert piece.setting
        part = page[page.index(f"## {piece.title}") :].split("\n## ")[0]
        assert piece.commands or piece.name == "figure2"
        assert "Needs no run." in part if not piece.commands else all(f"`{c}`" in part for c in piece.commands)
        for experiment in re.findall(r"experiment=(\S+)", " ".join(piece.commands)):
            assert (CONF / "experiment" / f"{experiment}.yaml").is_file()
    # Every line of a table has as many entries as its heading.
    for table in re.findall(r"(?:^\|.*\n)+", page, re.M):
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1
    assert not list(out.glob(".*"))


def test_table_3_lays_ours_beside_the_published(runs) -> None:
    made = {piece.name: piece for piece in figures.pieces(figures.evidence_of(runs))}
    table = made["table3"]
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    ours = [row for row in rows if row["ndcg@10 ours"] is not None]
    assert [(row["loss"], row["model"], row["setting"], row["seeds"]) for row in ours] == [
        ("BCE", "SASRec", "published", "0"),
        ("CE", "SASRec", "published", "0 1"),
        ("SCE", "SASRec", "lr 0.002, max_epochs 60", "0"),
    ]
    ce = ours[1]
    assert ce["ndcg@10 published"] == 0.05972
    assert (ce["ndcg@10 difference"], ce["ndcg@10 within"]) == ("+2.6%", "yes")
    assert (ce["mrr@5 published"], ce["mrr@5 difference"], ce["mrr@5 within"]) == (0.04424, "+38.4%", "NO")
    assert ce["ndcg@10 std"] == pytest.approx(0.0025 / 2**0.5)
    assert ours[0]["ndcg@10 std"] is None
    shown = next(row for row in table.on_page() if "| 0 1 |" in row)
    assert "| 0.0612 ±0.0018 / 0.0597 (+2.6%) |" in shown
    assert "| 0.0612 ±0.0018 / 0.0442 (+38.4%; NO) |" in shown
    assert ce["% over best LLM, ours"] == "+24%"  # 0.06125 against LlamaRec's 0.0492
    assert ours[0]["ndcg@10 within"] == "NO"
    assert "python -m recsys_lt dataset=beauty model=sasrec loss=sce" in table.lacking
    assert "python -m recsys_lt dataset=beauty model=sasrec loss=ce" not in table.lacking
    # A row for each published cell, run or not.
    assert sum(row["dataset"] == "Yelp" and row["loss"] != "LLM" for row in rows) == 4 * len(BACKBONES)


def test_our_own_language_models_stand_beside_the_published_where_they_saw_everything(tmp_path) -> None:
    for place, model, gain, optimizer, change_of in (
        ("whole", "e4srec", 0.05, "adamw", {}),
        ("users", "e4srec", 0.3, "adam", {"ranked_users": "200 of 22363"}),
        ("rows", "llamarec", 0.3, "adam", {"training_rows": "100 of 131413"}),
        ("other_rule", "e4srec", 0.3, "eisam", {}),
        ("other_data", "bigrec", 0.3, "adam", {"users": 400}),
        ("no_config", "llamarec", 0.3, "adam", {}),
        ("new", "bigrec", 0.04, "adam", {}),
    ):
        loss = "ce" if model == "e4srec" else "own"
        make_run(tmp_path / place, *cell(loss, "llm=qwen3_0.6b", model=model), gain=gain, optimizer=optimizer)
        change(tmp_path / place, **change_of)
    (tmp_path / "no_config" / "config.yaml").unlink()
    (table,) = [piece for piece in figures.pieces(figures.evidence_of(tmp_path)) if piece.name == "table3"]
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    found = {(row["model"], row["setting"]): row for row in rows if row["loss"] == "LLM" and row["ndcg@10 ours"]}
    assert set(found) == {("E4SRec, ours", "Qwen3-0.6B, adamw"), ("BIGRec, ours", "Qwen3-0.6B, adam")}
    ours = found["E4SRec, ours", "Qwen3-0.6B, adamw"]
    assert (ours["ndcg@10 ours"], ours["ndcg@10 published"], ours["ndcg@10 within"]) == (0.05, 0.0448, "NO")
    assert (ours["ndcg@10 difference"], ours["% over best LLM, ours"]) == ("+11.6%", "+2%")
    assert found["BIGRec, ours", "Qwen3-0.6B, adam"]["ndcg@10 published"] is None
    assert "| - | 0.0500 / 0.0376 (+33.0%; NO) |" in "\n".join(table.on_page()).replace("| 0 |", "| - |")


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


def test_small_models_ranked_for_the_same_users_stand_beside_language_models(tmp_path) -> None:
    for place, choices, gain in (
        ("small", cell("ce", dataset="ml-100k"), 0.06),
        ("capped", cell("ce", "metrics.max_users=200", dataset="ml-100k"), 0.07),
        ("other", cell("sce", "metrics.max_users=100", dataset="ml-100k"), 0.09),
        ("llm", ("dataset=ml-100k", "model=bigrec", "loss=own", "metrics.max_users=200"), 0.05),
    ):
        make_run(tmp_path / place, *choices, gain=gain)
        path = tmp_path / place / "metrics.json"
        content = json.loads(path.read_text())
        caps = [part.split("=")[1] for part in choices if part.startswith("metrics.max_users")]
        content["protocol"] |= {"users": 943, "items": 1349, "interactions": 99287}
        content["protocol"]["ranked_users"] = f"{caps[0]} of 943" if caps else None
        path.write_text(json.dumps(content))
    found = {bar.name: bar.gains[0] for bar in bars(figures.evidence_of(tmp_path), "ml-100k") if bar.ours}
    assert found == {
        "BIGRec (smollm2_135m, adam, 200 of 943 users alone)": 0.05,
        "SASRec, CE (200 of 943 users alone)": 0.07,
        "SASRec, CE": 0.06,
    }


def test_language_models_of_one_name_are_told_apart_by_their_setting(tmp_path) -> None:
    for epochs, gain in ((2, 0.05), (3, 0.06)):
        cell_of = ("dataset=ml-100k", "model=bigrec", "loss=own", f"trainer.max_epochs={epochs}")
        make_run(tmp_path / f"{epochs}", *cell_of, gain=gain)
    found = {bar.name: bar.gains[0] for bar in bars(figures.evidence_of(tmp_path), "ml-100k") if bar.ours}
    assert found == {
        "BIGRec (smollm2_135m, adam, max_epochs 2)": 0.05,
        "BIGRec (smollm2_135m, adam, max_epochs 3)": 0.06,
    }


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


def test_tightness_is_read_from_the_curves(tmp_path) -> None:
    make_run(tmp_path / "sce", *cell("sce", "metrics.bound_targets=100"))
    columns = "epoch,train/loss,bound/ndcg,bound/met,bound/head/ndcg,bound/head/met"
    (tmp_path / "sce" / "learning_curve.csv").write_text(
        f"{columns}\n0,,,,,\n1,9,.25,.5,.75,1\n2,8,.3,.5,1,1\n3,8,.5,.5,1,1\n"
    )
    make_run(tmp_path / "ce", *cell("ce"))
    evidence = figures.evidence_of(tmp_path)
    (piece,) = [each for each in figures.pieces(evidence) if each.name == "figure1b"]
    bounded, met = "targets with -log NDCG <= loss", "items met as negatives"
    assert piece.rows[0] == ["SCE, K 500", "published", 1, bounded, 0.25, 0.75, None, None]
    assert piece.rows[2] == ["SCE, K 500", "published", 2, bounded, 0.3, 1.0, None, None]
    assert piece.rows[-1] == ["SCE, K 500", "published", 3, met, 0.5, 1.0, None, None]
    assert piece.shown is not None
    assert [row[2] for row in piece.shown.rows] == [1, 1, 3, 3]  # of each of many epochs in the CSV alone
    assert piece.setting == "published setting"
    assert piece.lacking == [
        "python -m recsys_lt +experiment=paper/figure1b_beauty loss=bpr,bce,ce_eta,ce",
        "python -m recsys_lt +experiment=paper/figure1b_beauty loss=ssm loss.k=100",
    ]


@pytest.mark.parametrize(("metric", "least"), [("NDCG", lambda r: np.log(np.log2(1 + r))), ("MRR", np.log)])
def test_what_is_drawn_is_the_binomial_tail_and_not_below_the_bound(metric, least) -> None:
    for alpha in bounding.ALPHAS:
        for rank in bounding.RANKS:
            hits = next(h for h in range(10_000) if np.log1p(alpha * h) + 1e-12 >= least(rank))
            for k in bounding.KS:
                drawn = bounding.drawn(metric, rank, k, alpha)
                exact = stats.binom.sf(hits - 1, k, rank / bounding.N_ITEMS)
                assert drawn == pytest.approx(exact, abs=0.005)
                assert exact >= bounding.FORMS[metric].bound(rank, k, bounding.N_ITEMS, alpha) - 1e-9


def test_figure_2_has_the_values_of_the_theorems() -> None:
    piece = bounding.bounding(Evidence([], facts(), lambda *_: {}))
    found = {tuple(row[:4]): row[4] for row in piece.rows}
    assert [key[3] for key in found][:6] == [1, 10, 50, 100, 300, 500]
    for (metric, alpha, rank), bounds in {
        ("NDCG", 1, 1000): (0, 0, 0, 0, 0.248, 0.866),
        ("NDCG", 5, 100): (0, 0, 0, 0, 0.424, 0.7488),
        ("NDCG", 100, 50): (0.0041, 0.0406, 0.187, 0.339, 0.7112, 0.8738),
        ("MRR", 100, 100): (0, 0, 0, 0, 0.424, 0.7488),
        ("MRR", 1, 5000): (0, 0, 0, 0, 0, 0),
    }.items():
        assert [found[metric, alpha, rank, k] for k in bounding.KS] == pytest.approx(bounds, abs=6e-5)


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


def change(folder: Path, **protocol: object) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["protocol"] |= protocol
    (folder / "metrics.json").write_text(json.dumps(metrics))


def test_runs_of_another_task_stand_beside_no_published_number(tmp_path) -> None:
    make_run(tmp_path / "masked", *cell("ce", "metrics.mask_seen=none"), gain=0.2)
    make_run(tmp_path / "capped", *cell("bce"), gain=0.2)
    change(tmp_path / "capped", ranked_users=100)
    make_run(tmp_path / "data", *cell("bpr"), gain=0.2)
    change(tmp_path / "data", users=400)
    make_run(tmp_path / "unknown", *cell("sce"), gain=0.2)
    (tmp_path / "unknown" / "config.yaml").unlink()
    evidence = figures.evidence_of(tmp_path)
    assert evidence.finished == []
    (table,) = [piece for piece in figures.pieces(evidence) if piece.name == "table3"]
    assert all(row[table.header.index("ndcg@10 ours")] is None for row in table.rows)


def test_the_published_setting_is_found_in_several_sweeps_and_early_ends_are_not(tmp_path) -> None:
    for seed in (0, 1):
        make_run(tmp_path / f"sweep{seed}" / "ce", *cell("ce"), seed=seed)
        config = tmp_path / f"sweep{seed}" / "ce" / "config.yaml"
        config.write_text(config.read_text() + f"group: sweep{seed}\n")
    make_run(tmp_path / "short", *cell("bce", "trainer.max_epochs=1", "trainer.eval_every=1"))
    make_run(tmp_path / "long", *cell("bpr", "trainer.max_epochs=999"))
    evidence = figures.evidence_of(tmp_path)
    published = evidence.as_published("beauty", "sasrec", "ce")
    assert published is not None
    assert published.seeds == (0, 1)
    assert evidence.closest("beauty", "sasrec", "bce") is None
    longer = evidence.closest("beauty", "sasrec", "bpr")
    assert longer is not None
    assert evidence.in_words(longer) == "max_epochs 999"


def test_broken_and_repeated_runs_are_remarked(tmp_path, capsys) -> None:
    make_run(tmp_path / "a", *cell("ce"), gain=0.06)
    make_run(tmp_path / "b", *cell("ce"), gain=0.01)
    make_run(tmp_path / "c", *cell("bce"))
    metrics = json.loads((tmp_path / "c" / "metrics.json").read_text())
    del metrics["protocol"]
    (tmp_path / "c" / "metrics.json").write_text(json.dumps(metrics))
    make_run(tmp_path / "d", *cell("sce", "loss.k=${trainer.batch_rows}"))
    change(tmp_path / "d", max_length=None)
    assert figures.main([str(tmp_path)]) == 0
    page = (tmp_path / "figures" / "figures.md").read_text()
    said = f"{tmp_path / 'a'} (threads: 2) counts, {tmp_path / 'b'} (threads: 2) does not"
    assert f"Seed 0 of beauty, sasrec, ce, adam, ran twice with other results; {said}" in page
    assert "lacks protocol" in page
    assert "protocol or train or valid or test: c" in capsys.readouterr().out


def test_figure_1a_has_plain_ce_beside_it(tmp_path) -> None:
    for eta in (0.1, 0.7, 1, 5):
        make_run(
            tmp_path / f"eta{eta}", *cell("ce_eta", "optimizer.lr=2e-3", "trainer.max_epochs=50", f"loss.eta={eta}")
        )
    make_run(tmp_path / "ce", "+experiment=beauty_ce_fast", *cell("ce"))
    config = tmp_path / "ce" / "config.yaml"
    config.write_text(
        config.read_text().replace("noun: product", "") + "group: other\n"
    )  # an older run, of another sweep
    (piece,) = [each for each in figures.pieces(figures.evidence_of(tmp_path)) if each.name == "figure1a"]
    assert [row[0] for row in piece.rows] == ["0.1", "0.7", "1.0", "5.0", "CE"]


def test_published_numbers_have_sources_and_a_tolerance() -> None:
    known = facts()
    for each in [known.content["test"], known.content["language_models"]]:
        for source in sources(each):
            assert known.source(source) != source, source
    number = known.test("beauty", "sasrec", "ce")
    assert number == Published(0.05972, 0.0004, "logs")
    assert number.agrees(0.0580)
    assert not number.agrees(0.0579)
    assert Published(1.0, None, "").tolerance == 0.03
    assert known.test("beauty", "sasrec", "ce", "ndcg@3") is None
    assert Facts({}).test("beauty", "sasrec", "ce") is None
    assert known.valid("beauty", "sasrec", "sce")[20].mean == 0.03534


def sources(tree: object) -> list[str]:
    if not isinstance(tree, dict):
        return []
    return [tree["source"] for _ in range("source" in tree)] + [
        name for value in tree.values() for name in sources(value)
    ]


def test_what_the_user_can_mend(tmp_path, capsys) -> None:
    assert figures.main([str(tmp_path / "no")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    (tmp_path / "taken").write_text("")
    make_run(tmp_path / "runs" / "ce", *cell("ce"))
    assert figures.main([str(tmp_path / "runs"), "--out", str(tmp_path / "taken")]) == 2
    error = capsys.readouterr().err
    assert "--out" in error
    assert len(error.splitlines()) == 1
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(UserError, match="cannot be read"):
        facts(broken)
