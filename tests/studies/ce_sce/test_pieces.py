"""The paper's tables and figures from made runs: what they show, and what they say is lacking."""

import json
import re
from pathlib import Path

import pytest

from recsys_lt import CONF
from recsys_lt.errors import UserError
from studies.ce_sce import figures
from studies.ce_sce.comparison import bars
from studies.ce_sce.evidence import BACKBONES
from studies.ce_sce.published import facts
from tests.studies.ce_sce.conftest import cell, change, make_run

OURS = "python -m recsys_lt --config-dir studies/ce_sce/conf"


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
    for piece in figures.pieces(figures.evidence_of([runs])):
        if piece.draw is not None:  # data and setting stand on what may be seen without the page
            assert "Beauty" in f"{piece.title}{piece.setting}" or piece.name == "figure4"  # which names each panel's
            assert piece.setting
        part = page[page.index(f"## {piece.title}") :].split("\n## ")[0]
        assert piece.commands or piece.name == "figure2"
        assert "Needs no run." in part if not piece.commands else all(f"`{c}`" in part for c in piece.commands)
        for experiment in re.findall(r"experiment=(\S+)", " ".join(piece.commands)):
            places = (CONF, Path(figures.__file__).with_name("conf"))
            assert any((place / "experiment" / f"{experiment}.yaml").is_file() for place in places)
    # Every line of a table has as many entries as its heading.
    for table in re.findall(r"(?:^\|.*\n)+", page, re.M):
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1
    assert not list(out.glob(".*"))


def test_table_3_lays_ours_beside_the_published(runs) -> None:
    made = {piece.name: piece for piece in figures.pieces(figures.evidence_of([runs]))}
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
    assert "python -m recsys_lt dataset=beauty model=sasrec loss=bpr" in table.lacking
    assert "python -m recsys_lt dataset=beauty model=sasrec loss=sce" not in table.lacking  # the fast one stands in
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
    (table,) = [piece for piece in figures.pieces(figures.evidence_of([tmp_path])) if piece.name == "table3"]
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    found = {(row["model"], row["setting"]): row for row in rows if row["loss"] == "LLM" and row["ndcg@10 ours"]}
    assert set(found) == {("E4SRec, ours", "Qwen3-0.6B, adamw"), ("BIGRec, ours", "Qwen3-0.6B, adam")}
    ours = found["E4SRec, ours", "Qwen3-0.6B, adamw"]
    assert (ours["ndcg@10 ours"], ours["ndcg@10 published"], ours["ndcg@10 within"]) == (0.05, 0.0448, "NO")
    assert (ours["ndcg@10 difference"], ours["% over best LLM, ours"]) == ("+11.6%", "+2%")
    assert found["BIGRec, ours", "Qwen3-0.6B, adam"]["ndcg@10 published"] is None
    assert "| - | 0.0500 / 0.0376 (+33.0%; NO) |" in "\n".join(table.on_page()).replace("| 0 |", "| - |")


def unmask(folder: Path, gain: float) -> None:
    """Give a run a second ranking, with seen items in it, and what a generative run notes."""
    path = folder / "metrics.json"
    content = json.loads(path.read_text())
    content["test"] |= {f"unmasked/{metric}@{k}": gain for metric in ("ndcg", "mrr", "hr") for k in (5, 10)}
    path.write_text(json.dumps(content | {"notes": {"weights": "random initialisation"}}))


def test_rankings_with_and_without_seen_items_never_stand_side_by_side(tmp_path) -> None:
    make_run(tmp_path / "p5", *cell("own", model="p5"), gain=0.05, optimizer="adamw")
    make_run(tmp_path / "tiger", *cell("own", model="tiger"), gain=0.03, optimizer="adamw")
    make_run(tmp_path / "small", *cell("ce"), gain=0.06)
    for name, gain in (("p5", 0.04), ("tiger", 0.02), ("small", 0.045)):
        unmask(tmp_path / name, gain)
    table, figure = (
        piece for piece in figures.pieces(figures.evidence_of([tmp_path])) if piece.name in ("table3", "figure4")
    )
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows if row[0] == "Beauty" and row[1] == "LLM"]
    made = "random initialisation, adamw"
    found = {
        (row["model"], row["setting"]): (row["ndcg@10 ours"], row["ndcg@10 published"], row["% over best LLM, ours"])
        for row in rows
        if "P5" in row["model"] or "TIGER" in row["model"]
    }
    assert found == {
        ("P5 (CID+IID)", "published, seen items not masked"): (None, 0.0474, None),
        ("P5 (CID+IID), ours", made): (0.05, None, "+2%"),
        ("P5 (CID+IID), ours", f"{made}, seen items not masked"): (0.04, 0.0474, None),
        ("TIGER, ours", made): (0.03, None, "-39%"),
    }
    panels: dict[str, dict[str, float]] = {}
    for row in figure.rows:
        panels.setdefault(row[0], {})[row[1]] = row[3]
    assert panels["Beauty, seen items not masked"] == {
        "POD": 0.0146, "P5 (CID+IID)": 0.0474, f"P5 (CID+IID) ({made})": 0.04, "SASRec, CE": 0.045,
    }  # fmt: skip
    assert panels["Beauty"][f"P5 (CID+IID) ({made})"] == 0.05
    assert panels["Beauty"][f"TIGER ({made})"] == 0.03
    assert not {"POD", "P5 (CID+IID)"} & set(panels["Beauty"])


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
        if place == "llm":
            content["protocol"]["training_rows"] = "1,024 of 96,458"
            path.write_text(json.dumps(content))
    (piece,) = [each for each in figures.pieces(figures.evidence_of([tmp_path])) if each.name == "figure4"]
    some = "ML-100K, 200 of 943 users"
    assert [row[:2] + row[3:4] for row in piece.rows if str(row[0]).startswith("ML-100K")] == [
        ["ML-100K", "SASRec, CE", 0.06],
        [some, "BIGRec (smollm2_135m, adam, 1,024 of 96,458 training rows)", 0.05],
        [some, "SASRec, CE", 0.07],
    ]


def test_language_models_of_one_name_are_told_apart_by_their_setting(tmp_path) -> None:
    for epochs, gain in ((2, 0.05), (3, 0.06)):
        cell_of = ("dataset=ml-100k", "model=bigrec", "loss=own", f"trainer.max_epochs={epochs}")
        make_run(tmp_path / f"{epochs}", *cell_of, gain=gain)
    found = {bar.name: bar.gains[0] for bar in bars(figures.evidence_of([tmp_path]), "ml-100k") if bar.ours}
    assert found == {
        "BIGRec (smollm2_135m, adam, max_epochs 2)": 0.05,
        "BIGRec (smollm2_135m, adam, max_epochs 3)": 0.06,
    }


def test_tightness_is_read_from_the_curves(tmp_path) -> None:
    make_run(tmp_path / "sce", *cell("sce", "+callbacks=tightness"))
    columns = "epoch,train/loss,bound/ndcg,bound/met,bound/head/ndcg,bound/head/met"
    (tmp_path / "sce" / "learning_curve.csv").write_text(
        f"{columns}\n0,,,,,\n1,9,.25,.5,.75,1\n2,8,.3,.5,1,1\n3,8,.5,.5,1,1\n"
    )
    make_run(tmp_path / "ce", *cell("ce"))
    evidence = figures.evidence_of([tmp_path])
    (piece,) = [each for each in figures.pieces(evidence) if each.name == "figure1b"]
    bounded, met = "targets with -log NDCG <= loss", "items met as negatives"
    assert piece.rows[0] == ["SCE, K 500", "published", 1, bounded, 0.25, 0.75, None, None]
    assert piece.rows[2] == ["SCE, K 500", "published", 2, bounded, 0.3, 1.0, None, None]
    assert piece.rows[-1] == ["SCE, K 500", "published", 3, met, 0.5, 1.0, None, None]
    assert piece.shown is not None
    assert [row[2] for row in piece.shown.rows] == [1, 1, 3, 3]  # of each of many epochs in the CSV alone
    assert piece.setting == "published setting"
    assert "Test NDCG@10 of these runs: SCE, K 500 0.0500." in piece.note
    assert piece.lacking == [
        f"{OURS} +experiment=paper/figure1b_beauty loss=bpr,bce",
        f"{OURS} +experiment=paper/figure1b_beauty loss=ce_eta,ce trainer.max_epochs=50",
        f"{OURS} +experiment=paper/figure1b_beauty loss=ssm loss.k=100",
    ]


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
    (piece,) = [each for each in figures.pieces(figures.evidence_of([tmp_path])) if each.name == "figure1a"]
    assert [row[0] for row in piece.rows] == ["0.1", "0.7", "1.0", "5.0", "CE"]


def test_what_the_user_can_mend(tmp_path, capsys) -> None:
    assert figures.main([str(tmp_path / "no")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    (tmp_path / "taken").write_text("")
    make_run(tmp_path / "runs" / "ce", *cell("ce"))
    assert figures.main([str(tmp_path / "runs"), "--out", str(tmp_path / "taken")]) == 2
    error = capsys.readouterr().err
    assert "taken" in error
    assert len(error.splitlines()) == 1
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(UserError, match="cannot be read"):
        facts(broken)
