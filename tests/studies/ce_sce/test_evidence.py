"""Which runs may stand beside published numbers, and what those are."""

import json

import pytest

from studies.ce_sce import figures
from studies.ce_sce.published import Facts, Published, facts
from tests.studies.ce_sce.conftest import FAST, cell, change, make_run, make_runs


def test_only_adam_s_runs_in_whole_count_once_a_seed(runs) -> None:
    evidence = figures.evidence_of([runs])
    ce = evidence.as_published("beauty", "sasrec", "ce")
    assert ce is not None
    assert ce.seeds == (0, 1)
    assert ce.mean_std("ndcg@10")[0] == pytest.approx(0.06125)
    assert evidence.as_published("beauty", "sasrec", "sce") is None
    fast = evidence.closest("beauty", "sasrec", "sce")
    assert fast is not None
    assert set(evidence.changes(fast)) == {"optimizer.lr", "trainer.max_epochs"}
    assert evidence.closest("beauty", "gru4rec", "ce") is None  # stopped early


def test_runs_of_another_task_stand_beside_no_published_number(tmp_path) -> None:
    make_run(tmp_path / "masked", *cell("ce", "metrics.mask_seen=none"), gain=0.2)
    make_run(tmp_path / "capped", *cell("bce"), gain=0.2)
    change(tmp_path / "capped", ranked_users=100)
    make_run(tmp_path / "data", *cell("bpr"), gain=0.2)
    change(tmp_path / "data", users=400)
    make_run(tmp_path / "text", *cell("sce", "features=tfidf"), gain=0.2)
    make_run(tmp_path / "unknown", *cell("sce"), gain=0.2)
    (tmp_path / "unknown" / "config.yaml").unlink()
    evidence = figures.evidence_of([tmp_path])
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
    evidence = figures.evidence_of([tmp_path])
    published = evidence.as_published("beauty", "sasrec", "ce")
    assert published is not None
    assert published.seeds == (0, 1)
    assert evidence.closest("beauty", "sasrec", "bce") is None
    longer = evidence.closest("beauty", "sasrec", "bpr")
    assert longer is not None
    assert evidence.in_words(longer) == "max_epochs 999"


def test_a_cell_of_several_seeds_stands_before_one_of_a_single_seed(tmp_path) -> None:
    make_run(tmp_path / "published", *cell("ce"), gain=0.2)
    assert figures.evidence_of([tmp_path]).closest("beauty", "sasrec", "ce").seeds == (0,)
    make_run(tmp_path / "single", *cell("ce", *FAST, "model.dropout=0.1"), gain=0.3)
    make_runs(tmp_path / "fast", *cell("ce", *FAST), gain=0.1)
    assert figures.evidence_of([tmp_path]).closest("beauty", "sasrec", "ce").mean_std("ndcg@10")[0] == 0.1
    make_run(tmp_path / "published1", *cell("ce"), gain=0.15, seed=1)
    assert figures.evidence_of([tmp_path]).closest("beauty", "sasrec", "ce").mean_std("ndcg@10")[0] == 0.175


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
    assert "it lacks protocol or train or valid or test or best_epoch" in capsys.readouterr().out


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
