"""The published queue: its cells, and the page that is made of them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from recsys_lt.results.cells import compared
from recsys_lt.runs.listing import find_runs
from studies.ce_sce.figures import composed
from studies.ce_sce.published import Published, facts
from studies.published import agreement, page
from studies.published import run_cells as queue
from studies.shared.kept import is_finished

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "studies" / "published" / "run_cells.py"
ROWS = [
    cell
    for cell in yaml.safe_load(SCRIPT.with_name("cells.yaml").read_text(encoding="utf-8"))
    if is_finished(queue.RUNS / cell["cell"])
]


CELL = {"choose": {"dataset": "beauty", "seed": 0}, "curve": 20, "set": {"+experiment": "fast"}}


def test_a_new_cell_says_its_choices_and_a_stopped_one_is_resumed(tmp_path):
    start = [sys.executable, "-m", "recsys_lt"]
    assert queue.command(CELL, tmp_path, ["strategy=cpu"]) == [
        *start, "dataset=beauty", "seed=0", "+experiment=fast", "trainer.max_epochs=20", "strategy=cpu",
        "logger=none", f"hydra.run.dir={tmp_path}",
    ]  # fmt: skip
    (tmp_path / "config.yaml").write_text("")
    assert queue.command(CELL, tmp_path, []) == [*start, "resume", str(tmp_path)]


@pytest.mark.parametrize("cell", ROWS, ids=lambda row: row["cell"])
def test_a_kept_run_is_the_one_its_cell_asks_for(cell, tmp_path):
    """In every key of today's configuration that the run's has too."""
    wanted = composed(*queue.command(cell, tmp_path, [])[3:-2])  # without logger and folder
    found = compared(next(iter(find_runs(queue.RUNS / cell["cell"]))))
    both = wanted.keys() & found.keys()
    assert len(both) > 30
    assert {key: found[key] for key in both} == {key: wanted[key] for key in both}


VALID = {5: [0.010, 0.001], 10: [0.020, 0.001], 20: [0.040, 0.001]}


def cell(name, loss="ce", seed=0, **more):
    choose = {"dataset": "beauty", "model": "sasrec", "loss": loss, "seed": seed}
    return {"cell": name, "choose": choose} | more


def make_run(folder, ndcg=0.06, *, loss="ce", seed=0, curve=(0.010, 0.020, 0.040), **more):
    folder.mkdir(parents=True)
    metrics = {
        "dataset": "beauty", "model": "sasrec", "loss": loss, "seed": seed,
        "protocol": {
            "split": "leave-one-out", "users": 22363, "items": 12101, "interactions": 198502,
            "ranking": "full, over all 12101 items", "mask_seen": "published", "ties": "against the model",
            "groups": {"head": 0.2, "mid": 0.6, "tail": 0.2}, "selection": "highest validation NDCG@10",
        },
        "test": {"ndcg@10": ndcg, "head/ndcg@10": 0.09, "mid/ndcg@10": 0.03, "tail/ndcg@10": None},
        "best_epoch": 15, "epochs": 20, "finished": True,
        "train": {"seconds_per_epoch": 7.44, "device": "cpu", "threads": 2},
    } | more  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))
    # Columns as a run writes them: empty where an epoch was not validated.
    lines = ["epoch,valid/ndcg@10,train/loss", "0,0.001,", "1,,9.1"]
    lines += [f"{epoch},{value},5.0" for epoch, value in zip((5, 10, 20), curve, strict=False)]
    (folder / "learning_curve.csv").write_text("\n".join(lines) + "\n")
    (folder / "config.yaml").write_text("precision: float32\n")


@pytest.fixture
def made(tmp_path, capsys):
    def run(*cells, valid=VALID, std=0.0004):
        (tmp_path / "cells.yaml").write_text(yaml.safe_dump(list(cells)))
        entry = {"ndcg@10": [0.06, std], "source": "logs"}
        losses = dict.fromkeys(("ce", "sce", "bce", "nce"), entry), dict.fromkeys(("ce", "sce", "bce", "nce"), valid)
        test, curves = ({"beauty": {"sasrec": given}} for given in losses)
        (tmp_path / "published.yaml").write_text(yaml.safe_dump({"test": test, "valid": curves}))
        out = tmp_path / "docs" / "results.md"
        arguments = ["--cells", tmp_path / "cells.yaml", "--published", tmp_path / "published.yaml"]
        arguments += ["--runs", tmp_path / "docs" / "runs", "--out", out]
        facts.cache_clear()  # another file of the same name
        code = page.main([str(argument) for argument in arguments])
        return code, out.read_text() if out.is_file() else "", capsys.readouterr().err

    return run


def rows(text, heading):
    """Rows below a heading, as dictionaries."""
    below = text[text.index(heading) :].splitlines()[1:]
    below = below[: next((n for n, line in enumerate(below) if line.startswith("#")), len(below))]
    table = [[part.strip() for part in line.strip("|").split("|")] for line in below if line.startswith("|")]
    assert len({len(line) for line in table}) == 1
    return [dict(zip(table[0], line, strict=True)) for line in table[2:]]


FULL, CURVES, SHORT = "## Run in full", "### Their learning curves", "## Learning curves only"


def test_one_seed(made, tmp_path):
    make_run(tmp_path / "docs/runs/one", 0.0605)
    code, text, _ = made(cell("one"), cell("two", seed=1))
    assert code == 0
    (row,) = rows(text, FULL)
    assert row == {
        "dataset": "beauty", "model": "sasrec", "loss": "ce", "seed": "0", "measured": "0.06050",
        "published": "0.06000 ± 0.00040", "difference": "+0.00050, +0.8%", "at most 3 %?": "yes",
        "95 % interval": "one more seed: inside 0.05878 to 0.06122",
        "head": "0.0900", "mid": "0.0300", "tail": "-", "best epoch": "15 of 20", "s/epoch": "7.4",
        "device": "cpu (2 threads)",
    }  # fmt: skip
    assert "python studies/published/page.py" in text
    assert "22,363 users" in text
    assert "At most 3 % from the published: 1 of 1 test results, 3 of 3 points" in text
    assert "Inside the 95 % interval: 1 of 1 and 3 of 3" in text
    assert "more than 3 % away" not in text
    assert "- two" in text
    assert "- one" not in text
    assert SHORT not in text


def test_what_is_known_of_a_difference_stands_with_its_run(made, tmp_path):
    make_run(tmp_path / "docs/runs/one")
    _, text, _ = made(cell("one", why="the order of equal times"), cell("two", seed=1, why="not run"))
    assert "\n- one: the order of equal times\n" in text[text.index("## What is known of differences") :]
    assert "not run" not in text


def test_mean_over_the_seeds_present(made, tmp_path):
    make_run(tmp_path / "docs/runs/a", 0.058, curve=(0.010, 0.021, 0.040))
    make_run(tmp_path / "docs/runs/c", 0.060, seed=2, curve=(0.012, 0.022, 0.044), best_epoch=20)
    _, text, _ = made(cell("a"), cell("b", seed=1), cell("c", seed=2))
    (row,) = rows(text, FULL)
    assert row["seed"] == "0, 2"
    assert row["measured"] == "0.05900 ± 0.00141"
    assert row["best epoch"] == "15 of 20, 20 of 20"
    assert row["s/epoch"] == "7.4"
    assert [point["measured"].split()[0] for point in rows(text, CURVES)] == ["0.01100", "0.02150", "0.04200"]


@pytest.mark.parametrize(
    ("ndcg", "std", "near", "interval"),
    [
        (0.0618, 0.0004, "yes", "one more seed: **outside** 0.05878 to 0.06122"),
        (0.06181, 0.0006, "**no**", "one more seed: inside 0.05818 to 0.06182"),
        (0.0569, 0.001, "**no**", "one more seed: **outside** 0.05696 to 0.06304"),
    ],
)
def test_three_per_cent_and_one_more_seed_are_two_rules(made, tmp_path, ndcg, std, near, interval):
    make_run(tmp_path / "docs/runs/one", ndcg - 1e-9)
    _, text, _ = made(cell("one"), std=std)
    (row,) = rows(text, FULL)
    assert (row["at most 3 %?"], row["95 % interval"]) == (near, interval)
    assert f"published: {int(near == 'yes')} of 1 test results" in text
    assert f"interval: {int('outside' not in interval)} of 1 and" in text


def test_ten_per_cent_away_and_inside_is_said_to_be_undecided(made, tmp_path):
    make_run(tmp_path / "docs/runs/one", 0.054)
    make_run(tmp_path / "docs/runs/two", 0.060, loss="sce")
    _, text, _ = made(cell("one"), cell("two", loss="sce"), std=0.003)
    said = text[text.index("more than 3 % away") :]
    assert "\n- beauty sasrec ce: -10.0%, the interval is ±15.2%\n" in said
    assert "- beauty sasrec sce" not in said


def test_several_seeds_are_compared_by_welch(made, tmp_path):
    """Against scipy's test from the same means and deviations."""
    values = [0.0590, 0.0580, 0.0585]
    for seed, value in enumerate(values):
        make_run(tmp_path / f"docs/runs/{seed}", value, seed=seed)
    _, text, _ = made(*(cell(str(seed), seed=seed) for seed in range(3)), std=0.0004)
    (row,) = rows(text, FULL)
    mean, std = np.mean(values), np.std(values, ddof=1)
    expected = stats.ttest_ind_from_stats(mean, std, 3, 0.06, 0.0004, 5, equal_var=False)
    assert row["95 % interval"].endswith(f", **p = {expected.pvalue:.3f}**")
    found = agreement.Agreement(Published(0.06, 0.0004, ""), values)
    assert found.p == pytest.approx(expected.pvalue)
    draws = np.random.default_rng(0).normal(size=(2, 4000, 5)) * [[[0.001]], [[0.0004]]]
    inside = [
        agreement.Agreement(Published(1 + theirs.mean(), theirs.std(ddof=1), ""), list(1 + ours[:n])).inside
        for n in (1, 3)
        for ours, theirs in zip(draws[1 if n == 1 else 0], draws[1][::-1], strict=True)
    ]
    # The interval holds what it says where nothing differs, of one seed as of several.
    assert np.mean(inside[:4000]) == pytest.approx(0.95, abs=0.012)
    assert np.mean(inside[4000:]) == pytest.approx(0.95, abs=0.02)


def test_a_published_number_without_a_deviation_has_no_interval():
    found = agreement.Agreement(Published(0.06, None, ""), [0.05])
    assert found.cells() == ["0.06000", "-0.01000, -16.7%", "**no**", "one published run"]
    assert (found.inside, found.p, found.undecided) == (None, None, None)


def test_curve_cells_are_compared_by_their_curves_alone(made, tmp_path):
    make_run(tmp_path / "docs/runs/short", 0.01, loss="nce", curve=(0.010, 0.030))
    _, text, _ = made(cell("short", loss="nce", curve=10))
    assert FULL not in text
    assert "0 of 0 test results, 1 of 2 points" in text
    verdicts = [(row["epoch"], row["measured"], row["difference"], row["at most 3 %?"]) for row in rows(text, SHORT)]
    assert verdicts == [
        ("5", "0.01000", "+0.00000, +0.0%", "yes"),
        ("10", "0.03000", "+0.01000, +50.0%", "**no**"),
        ("20", "not measured", "-", "-"),
    ]


def test_a_seed_that_ran_in_full_too_counts_once(made, tmp_path):
    for name, seed in (("one", 0), ("short", 0), ("other", 1)):
        make_run(tmp_path / "docs/runs" / name, seed=seed)
    _, text, _ = made(cell("one"), cell("short", curve=20))
    assert "3 of 3 points" in text
    assert SHORT not in text
    _, text, _ = made(cell("one"), cell("short", curve=20), cell("other", curve=20, seed=1))
    assert "6 of 6 points" in text
    assert {row["seed"] for row in rows(text, SHORT)} == {"1"}


def test_no_published_curve(made, tmp_path):
    make_run(tmp_path / "docs/runs/short")
    _, text, _ = made(cell("short", curve=10), valid={})
    assert "no published curve to compare with: beauty sasrec ce" in text


def test_a_changed_setting_is_a_row_of_its_own(made, tmp_path):
    for name, ndcg in (("one", 0.060), ("other", 0.059)):
        make_run(tmp_path / "docs/runs" / name, ndcg)
    changed = cell("other", set={"+experiment": "fast", "trainer.patience": 4})
    _, text, _ = made(cell("one"), changed)
    assert [(row["loss"], row["measured"]) for row in rows(text, FULL)] == [
        ("ce", "0.06000"),
        ("ce, `+experiment=fast trainer.patience=4`", "0.05900"),
    ]
    assert len(rows(text, CURVES)) == 3
    assert "no published curve" not in text


def test_a_cell_for_figures_alone_is_on_no_table(made, tmp_path):
    for name, ndcg in (("one", 0.060), ("other", 0.059)):
        make_run(tmp_path / "docs/runs" / name, ndcg)
    _, text, _ = made(
        cell("one"), cell("other", set={"loss.k": 1}, **{"for": "figures"}), cell("third", **{"for": "figures"})
    )
    assert len(rows(text, FULL)) == 1
    assert "- third" in text


def test_what_was_never_published_is_one_line(made, tmp_path):
    make_run(tmp_path / "docs/runs/one", loss="neg")
    code, _, error = made(cell("one", loss="neg"))
    assert code == 2
    assert "nothing was published of beauty sasrec neg" in error


def test_nothing_ran(made):
    code, text, _ = made(cell("one"))
    assert code == 0
    assert "- one" in text
    assert "|" not in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 3}, "a run of seed 3"),
        ({"finished": False}, "not finished"),
        ({"test": {}}, "cannot be read"),
        ({"test": {"ndcg@10": float("nan")}}, "cannot be read"),
        ({"protocol": {}}, "cannot be read"),
        ({"optimizer": "sam"}, "a run of optimizer sam"),
    ],
)
def test_a_run_that_is_not_what_its_folder_says(made, tmp_path, change, said):
    make_run(tmp_path / "docs/runs/one", **({"seed": 0} | change))
    code, text, error = made(cell("one"))
    assert (code, text) == (2, "")
    assert said in error
    assert len(error.splitlines()) == 1


def test_broken_json(made, tmp_path):
    make_run(tmp_path / "docs/runs/one")
    (tmp_path / "docs/runs/one/metrics.json").write_text("{")
    code, _, error = made(cell("one"))
    assert code == 2
    assert len(error.splitlines()) == 1


def test_the_cells_that_are_shipped_can_be_read(tmp_path):
    queue = page.read_queue(ROOT / "studies" / "published" / "cells.yaml", tmp_path, facts())
    assert queue.missing
    assert len(set(queue.missing)) == len(queue.missing)
