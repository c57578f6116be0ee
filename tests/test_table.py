import csv
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy import stats

from recsys_lt import table
from recsys_lt.analysis.written_tables import Content, Entry, latex
from recsys_lt.metrics.ranking import gains

USERS = np.arange(200)


def config_text(model="sasrec", loss="ce", seed=0, lr="5e-4", **more):
    lines = [f"dataset: {{name: beauty}}\nmodel: {{name: {model}}}\nloss: {{name: {loss}}}"]
    lines += [f"optimizer: {{name: adam, lr: {lr}}}", f"seed: {seed}"]
    return "\n".join(lines + [f"{key}: {value}" for key, value in more.items()])


def make_run(
    folder, ndcg=0.05, *, dataset="beauty", model="sasrec", loss="ce", seed=0, ranks=None, config=None, data=""
):
    folder.mkdir(parents=True)
    test = {"ndcg@10": ndcg, "hr@10": ndcg and 2 * ndcg, "gini@10": 0.5}
    test |= {"head/ndcg@10": ndcg and 2 * ndcg, "tail/ndcg@10": None, "tail/hr@10": None}
    content = {
        "dataset": dataset, "model": model, "loss": loss, "optimizer": "adam", "seed": seed,
        "protocol": {"fingerprint": data}, "valid": {}, "test": test, "best_epoch": 1, "epochs": 2,
        "train": {}, "versions": {},
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(content))
    if config is not None:
        (folder / "config.yaml").write_text(config)
    if ranks is not None:
        # In whatever order: users are matched by id.
        order = np.random.default_rng(seed).permutation(len(USERS))
        columns = {"user": USERS[order], "target": USERS[order] % 7, "rank": ranks[order]}
        parquet.write_table(pa.table(columns), folder / "ranks.parquet")


def run(capsys, *arguments):
    code = table.main([str(argument) for argument in arguments])
    streams = capsys.readouterr()
    return code, streams.out, streams.err


def row_of(text, *words):
    return next(line.split() for line in text.splitlines() if all(word in line.split() for word in words))


def csv_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_mean_std_best_and_failed(tmp_path, capsys):
    for seed, value in enumerate((0.050, 0.054, 0.052)):
        make_run(tmp_path / f"{seed}", value, seed=seed, config=config_text(seed=seed))
    make_run(tmp_path / "3", 0.06, loss="sce", config=config_text(loss="sce"))
    lost = tmp_path / "4"
    lost.mkdir()
    (lost / "config.yaml").write_text(config_text(loss="bpr"))
    again = tmp_path / "5"
    again.mkdir()
    (again / "config.yaml").write_text(config_text(loss="sce", seed=1))
    (again / "wandb" / "run-1" / "files").mkdir(parents=True)
    (again / "wandb" / "run-1" / "files" / "config.yaml").write_text("x: 1")

    code, out, err = run(capsys, tmp_path, "--csv", tmp_path / "out" / "t.csv")
    assert (code, err) == (0, "")
    ce = row_of(out, "sasrec", "ce")
    assert ce[3:5] == ["0.0520", "±0.0020"]
    assert "*0.0600" in row_of(out, "sasrec", "sce")
    assert row_of(out, "sasrec", "sce")[-4:-1] == ["1", "+1", "failed"]
    assert "failed" in row_of(out, "sasrec", "bpr")
    assert "4 (seed 0)" in out
    assert "5 (seed 1)" in out
    rows = csv_rows(tmp_path / "out" / "t.csv")
    assert [row["loss"] for row in rows] == ["ce", "sce", "bpr"]
    assert float(rows[0]["ndcg@10 mean"]) == pytest.approx(0.052)
    assert float(rows[0]["ndcg@10 std"]) == pytest.approx(np.std([0.050, 0.054, 0.052], ddof=1))
    assert rows[0]["seeds"] == "0 1 2"
    assert rows[0]["tail/ndcg@10 mean"] == ""
    assert rows[2]["failed"] == "1"


def test_a_failed_run_goes_by_what_was_chosen(tmp_path, capsys):
    make_run(tmp_path / "0")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "config.yaml").write_text(
        "choices: {dataset: beauty, model: sasrec, loss: bpr, optimizer: adam}\nloss: {_target_: losses.BPR}\nseed: 4"
    )
    out = run(capsys, tmp_path)[1]
    assert "failed" in row_of(out, "sasrec", "bpr", "adam")
    assert "1 (seed 4)" in out
    assert "dataset" not in out.splitlines()[1]  # one dataset, not two


def test_an_interrupted_run_is_no_result(tmp_path, capsys):
    make_run(tmp_path / "0", 0.06, config=config_text())
    make_run(tmp_path / "1", 0.01, seed=1, config=config_text(seed=1))
    path = tmp_path / "1" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"finished": False}))
    out = run(capsys, tmp_path)[1]
    assert "0.0600" in out
    assert "0.0350" not in out
    assert "1 (seed 1)" in out


def test_settings_that_tell_cells_apart_become_columns(tmp_path, capsys):
    for job, (lr, seed) in enumerate((lr, seed) for lr in ("5e-4", "1e-3") for seed in (0, 1)):
        own = {"logger": f"{{run: {job}}}", "output": f"multirun/{tmp_path.name}/{job}"}
        make_run(tmp_path / f"{job}", 0.05, seed=seed, config=config_text(seed=seed, lr=lr, **own))
    # Another model's own learning rate is no axis of the sweep, but it has one.
    make_run(tmp_path / "10", 0.05, model="caser", config=config_text("caser", lr="0.005"))
    _, out, _ = run(capsys, tmp_path, "--csv", tmp_path / "t.csv")
    assert "lr" in out
    rows = csv_rows(tmp_path / "t.csv")
    assert [(row["model"], row["lr"], row["n"]) for row in rows] == [
        ("sasrec", "0.0005", "2"), ("sasrec", "0.001", "2"), ("caser", "0.005", "1"),
    ]  # fmt: skip
    assert "output" not in rows[0]


def test_a_key_of_a_later_version_tells_no_cells_apart(tmp_path, capsys):
    make_run(tmp_path / "a", config=config_text())
    make_run(tmp_path / "b", seed=1, config=config_text(seed=1, trainer="{novelty: true}"))
    run(capsys, tmp_path, "--csv", tmp_path / "t.csv")
    (row,) = csv_rows(tmp_path / "t.csv")
    assert (row["n"], "novelty" in row) == ("2", False)


def test_where_a_class_of_ours_lies_tells_no_cells_apart_and_which_it_is_does(tmp_path, capsys):
    for job, target in enumerate(("recsys_lt.old.Plain", "recsys_lt.new.Plain", "recsys_lt.new.Other", "mine.Plain")):
        make_run(tmp_path / f"{job}", seed=job, config=config_text(seed=job, llm=f"{{_target_: {target}}}"))
    run(capsys, tmp_path, "--csv", tmp_path / "t.csv")
    assert [(row["_target_"], row["n"]) for row in csv_rows(tmp_path / "t.csv")] == [
        ("Plain", "2"), ("Other", "1"), ("mine.Plain", "1"),
    ]  # fmt: skip


def test_models_with_their_own_settings_need_no_column(tmp_path, capsys):
    make_run(tmp_path / "a", config=config_text(lr="1e-3"))
    make_run(tmp_path / "b", model="caser", config=config_text("caser", lr="5e-3"))
    run(capsys, tmp_path, "--csv", tmp_path / "t.csv")
    assert "lr" not in csv_rows(tmp_path / "t.csv")[0]


@pytest.mark.parametrize(("test", "function"), [("t", stats.ttest_rel), ("wilcoxon", stats.wilcoxon)])
def test_significance_is_of_users_over_common_seeds(tmp_path, capsys, test, function):
    rng = np.random.default_rng(0)
    good = {seed: rng.integers(0, 14, 200) for seed in (0, 1, 2)}
    bad = {seed: np.where(rng.random(200) < 0.2, 0, good[seed]) for seed in (0, 1)}
    for seed, ranks in good.items():
        make_run(tmp_path / f"g{seed}", 0.06, seed=seed, ranks=ranks)
    for seed, ranks in bad.items():
        make_run(tmp_path / f"b{seed}", 0.05, loss="bpr", seed=seed, ranks=ranks)
    make_run(tmp_path / "same", 0.05, loss="sce", ranks=good[0])
    make_run(tmp_path / "without", 0.05, loss="nce")
    code, out, _ = run(capsys, tmp_path, "--csv", tmp_path / "t.csv", "--test", test)
    assert code == 0
    a, b = (np.mean([gains("ndcg", ranks[seed], 10) for seed in (0, 1)], axis=0) for ranks in (good, bad))
    p = {row["loss"]: row["p"] for row in csv_rows(tmp_path / "t.csv")}
    assert float(p["bpr"]) == pytest.approx(2 * function(a, b).pvalue)  # Holm's: the smaller of two
    assert p["ce"] == p["nce"] == ""
    assert float(p["sce"]) == 1.0
    assert row_of(out, "sasrec", "ce")[-1] == "ref"
    assert row_of(out, "sasrec", "nce")[-1] == "-"
    assert "NDCG@10" in out
    assert "sasrec/ce/adam" in out

    _, out, _ = run(capsys, tmp_path, "--against", "bpr")
    assert row_of(out, "sasrec", "bpr")[-1] == "ref"


def grouped(tmp_path):
    """Two losses; the second serves nonhead targets better, and head ones worse."""
    group = np.arange(200) % 3
    for name, loss, head, other in (("a", "ce", 0, 8), ("b", "sce", 6, 1)):
        make_run(tmp_path / name, 0.05, loss=loss)
        rank = np.where(group == 0, head, other) + USERS % 3
        columns = {"user": USERS, "target": USERS, "rank": rank, "group": group.astype(np.int8)}
        parquet.write_table(pa.table(columns), tmp_path / name / "ranks.parquet")
        path = tmp_path / name / "metrics.json"
        content = json.loads(path.read_text())
        ndcg = gains("ndcg", rank, 10)
        content["test"] |= {"ndcg@10": ndcg.mean(), "head/ndcg@10": ndcg[group == 0].mean()}
        content["test"] |= {"nonhead/ndcg@10": ndcg[group > 0].mean()}
        path.write_text(json.dumps(content))
    return tmp_path


def test_users_of_nonhead_targets_are_tested_on_their_own(tmp_path, capsys):
    _, out, _ = run(capsys, grouped(tmp_path), "--csv", tmp_path / "t.csv")
    assert "nonhead" in out
    (tested,) = [row for row in csv_rows(tmp_path / "t.csv") if row["p"]]
    assert float(tested["p nonhead"]) == pytest.approx(1e-4)  # no flip in 9,999 comes near
    assert row_of(out, "sasrec", "sce").count("ref") == 2


def test_groups_of_targets_that_are_named_are_tested(tmp_path, capsys):
    code, out, _ = run(capsys, grouped(tmp_path), "--csv", tmp_path / "t.csv", "--test-groups", "head")
    assert code == 0
    (tested,) = [row for row in csv_rows(tmp_path / "t.csv") if row["p"]]
    assert {key for key in tested if key.startswith("p ")} == {"p head"}
    assert float(tested["p head"]) == pytest.approx(1e-4)
    assert "head: users whose target is head." in out
    assert "never below 0.0001" in out


def test_runs_of_several_folders_make_one_table(tmp_path, capsys):
    make_run(tmp_path / "one" / "a", 0.06, ranks=np.ones(200, dtype=np.int64))
    make_run(tmp_path / "two" / "b", 0.05, loss="sce", ranks=np.full(200, 3))
    lost = tmp_path / "two" / "c"
    lost.mkdir()
    (lost / "config.yaml").write_text(config_text(loss="bpr"))
    code, out, _ = run(capsys, tmp_path / "one", tmp_path / "two", tmp_path / "two" / "b", "--csv", tmp_path / "t.csv")
    assert code == 0
    assert [(row["loss"], row["n"]) for row in csv_rows(tmp_path / "t.csv")] == [
        ("ce", "1"),
        ("sce", "1"),
        ("bpr", "0"),
    ]
    assert row_of(out, "sasrec", "sce")[-1] == ".0001"
    assert "Failed or unfinished: c (seed" in out
    code, _, err = run(capsys, tmp_path / "one", tmp_path / "nowhere")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "nowhere" in err


def test_markdown_latex_and_the_plot(tmp_path, capsys):
    places = [tmp_path / "out" / name for name in ("t.md", "t.tex", "t.png")]
    options = [f"--{kind}" for kind in ("markdown", "latex", "plot")]
    arguments = [part for pair in zip(options, places, strict=True) for part in pair]
    code, _, err = run(capsys, grouped(tmp_path), *arguments)
    assert (code, err) == (0, "")
    written, *said = places[0].read_text().split("\n\n")
    header, rule, *rows = written.splitlines()
    assert any("permutation test" in line and "Holm" in line for line in said)
    assert header.startswith("| model | loss | optimizer | ndcg@10 overall |")
    assert rule.startswith("| --- | --- | --- | ---: |")
    assert len({line.count("|") for line in (header, rule, *rows)}) == 1
    assert "**" in rows[1]
    text = places[1].read_text()
    assert text.startswith("% Test metrics, mean")
    assert text.count(r" \\") == 3
    assert r"\textbf{" in text
    assert text.endswith("\\end{tabular}\n")
    assert places[2].read_bytes().startswith(b"\x89PNG")


def test_latex_escapes_what_latex_takes_for_its_own(tmp_path):
    row = [Entry("fmlp_rec"), Entry("50% & more"), Entry("<.0001", best=True)]
    text = latex(Content(["model"], ["a\nb", "p"], [[row]]))
    assert r"fmlp\_rec & 50\% \& more & \textbf{$<$.0001} \\" in text
    assert "a b" in text


def test_seeds_on_different_data_have_no_mean(tmp_path, capsys):
    for seed, data in enumerate(("abc", "abc", "abd")):
        make_run(tmp_path / f"{seed}", seed=seed, data=data, config=config_text(seed=seed))
    code, _, err = run(capsys, tmp_path)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert str(tmp_path / "2") in err
    assert "other data" in err


def test_different_targets_are_not_compared(tmp_path, capsys):
    make_run(tmp_path / "a", 0.06, ranks=np.ones(200, dtype=np.int64))
    make_run(tmp_path / "b", 0.05, loss="sce", ranks=np.ones(200, dtype=np.int64))
    other = pa.table({"user": USERS, "target": USERS, "rank": USERS})
    parquet.write_table(other, tmp_path / "b" / "ranks.parquet")
    code, out, _ = run(capsys, tmp_path)
    assert code == 0
    assert row_of(out, "sasrec", "sce")[-1] == "-"
    assert "no test" in out


def test_a_k_beyond_the_lists_is_not_tested(tmp_path, capsys):
    make_run(tmp_path / "a", 0.06, ranks=np.ones(200, dtype=np.int64))
    make_run(tmp_path / "b", None, loss="sce", ranks=np.zeros(200, dtype=np.int64))
    _, out, _ = run(capsys, tmp_path)
    assert row_of(out, "sasrec", "sce")[-1] == "-"


def test_datasets_are_apart(tmp_path, capsys):
    make_run(tmp_path / "a", 0.05)
    make_run(tmp_path / "b", 0.04, loss="sce")
    make_run(tmp_path / "c", 0.02, dataset="yelp")
    make_run(tmp_path / "d", 0.03, dataset="yelp", loss="sce")
    _, out, _ = run(capsys, tmp_path)
    assert "*0.0500" in row_of(out, "beauty", "ce")
    assert "*0.0300" in row_of(out, "yelp", "sce")


def test_chosen_metrics_and_repeated_seeds(tmp_path, capsys):
    make_run(tmp_path / "a", 0.05)
    make_run(tmp_path / "b", 0.06)
    _, out, _ = run(capsys, tmp_path, "--metric", "gini@10", "--metric", "ndcg@10")
    assert "0.5000" in out
    assert "hr@10" not in out
    assert "Seed 0 occurs more than once" in out
    assert "the first run of it" in out
    _, out, _ = run(capsys, tmp_path, "--csv", tmp_path / "t.csv")
    (row,) = csv_rows(tmp_path / "t.csv")
    assert (row["n"], row["ndcg@10 mean"]) == ("1", "0.05")


def test_a_narrow_terminal_loses_no_column(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    for seed in (0, 1):
        make_run(tmp_path / f"{seed}", 0.05, seed=seed)
    make_run(tmp_path / "b", 0.04, loss="sce")
    lines = run(capsys, tmp_path)[1].splitlines()
    assert next(line.split()[:3] for line in lines if "sasrec" in line) == ["sasrec", "ce", "adam"]
    assert any(line.split()[-1].startswith("ref") for line in lines if "sasrec" in line)
    assert "\x1b[1m" in next(line for line in lines if "sasrec" in line and " ce " in line)


def test_names_with_brackets_are_printed_as_they_are(tmp_path, capsys):
    make_run(tmp_path / "a", model="[bold]x[/bold]")
    assert "[bold]x[/bold]" in run(capsys, tmp_path)[1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"dataset": "beauty", ', "JSON"),
        ("[]", "no test metrics"),
        ('{"test": {}, "dataset": "beauty"}', "does not say its model, loss, optimizer, seed"),
        (
            '{"dataset": "b", "model": "m", "loss": "l", "optimizer": "o", "seed": 0, "test": {"hr@1": "x"}}',
            "hr@1",
        ),
    ],
)
def test_corrupt_metrics_are_named(tmp_path, capsys, content, says):
    make_run(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "metrics.json").write_text(content)
    code, out, err = run(capsys, tmp_path)
    assert (code, out) == (2, "")
    assert str(tmp_path / "b" / "metrics.json") in err
    assert says in err
    assert err.count("\n") == 1


def test_other_bad_input_is_one_line(tmp_path, capsys):
    sweep = tmp_path / "sweep"
    make_run(sweep / "a", ranks=np.ones(200, dtype=np.int64))
    make_run(sweep / "b", 0.04, loss="sce", ranks=np.ones(200, dtype=np.int64))
    (tmp_path / "empty").mkdir()
    (tmp_path / "lost" / "0").mkdir(parents=True)
    (tmp_path / "lost" / "0" / "config.yaml").write_text("seed: 0")
    (tmp_path / "file").write_text("")
    for arguments, says in [
        ([tmp_path / "nowhere"], "no such folder"),
        ([tmp_path / "empty"], "no metrics.json"),
        ([tmp_path / "lost"], "none of the 1 runs"),
        ([sweep, "--metric", "ndcg@7"], "ndcg@10"),
        ([sweep, "--against", "bpr"], "sasrec/sce/adam"),
        ([sweep, "--against", "sasrec"], "fits 2 cells"),
        ([sweep, "--csv", tmp_path / "file" / "t.csv"], "cannot be written"),
    ]:
        code, _, err = run(capsys, *arguments)
        assert code == 2, arguments
        assert says in err
        assert err.count("\n") == 1
    (sweep / "b" / "ranks.parquet").write_bytes(b"PAR1")
    code, _, err = run(capsys, sweep)
    assert code == 2
    assert "ranks.parquet" in err
    (sweep / "b" / "config.yaml").write_text("a: [")
    code, _, err = run(capsys, sweep)
    assert code == 2
    assert "config.yaml" in err


def test_the_command_itself(tmp_path):
    make_run(tmp_path / "a")
    command = [sys.executable, "-m", "recsys_lt.table"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "0.0500" in done.stdout
    probe = "import sys, recsys_lt.table as t\ntry: t.main(['--help'])\nexcept SystemExit: pass\n"
    probe += "assert not {'torch', 'pandas', 'numpy', 'rich', 'scipy', 'omegaconf'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True)
    lost = subprocess.run([*command, str(tmp_path / "x")], capture_output=True, text=True, check=False)
    assert lost.returncode == 2
