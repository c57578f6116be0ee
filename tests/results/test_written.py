"""What is printed and written, and what is refused."""

import json
import subprocess
import sys

import numpy as np
import pytest

from recsys_lt.results.comparison import compare
from recsys_lt.results.plots.run_figures import trade_off
from recsys_lt.results.written_tables import Content, Entry, latex, markdown
from tests.results.made import config_text, grouped, make_run, row_of, run


def test_markdown_latex_and_the_plot(tmp_path, capsys):
    places = [tmp_path / "out" / name for name in ("t.md", "t.tex", "t.png", "front.png")]
    options = [f"--{kind}" for kind in ("markdown", "latex", "plot", "trade-off")]
    arguments = [part for pair in zip(options, places, strict=True) for part in pair]
    code, _, err = run(capsys, grouped(tmp_path), *arguments)
    assert (code, err) == (0, "")
    written, *said = places[0].read_text().split("\n\n")
    header, rule, *rows = written.splitlines()
    assert any("95 % interval" in line and "Holm" in line for line in said)
    assert header.startswith("| model | loss | optimizer | Overall NDCG@10 | Overall HR@10 | Head NDCG@10 |")
    assert rule.startswith("| --- | --- | --- | ---: |")
    assert len({line.count("|") for line in (header, rule, *rows)}) == 1
    assert "**" in rows[1]
    text = places[1].read_text()
    assert r"\caption{Test metrics, mean" in text
    assert "Beauty: " in text
    assert r"&  &  & \multicolumn{2}{c}{Overall} & \multicolumn{1}{c}{Head} &" in text
    assert r"\cmidrule(lr){4-5} \cmidrule(lr){6-6}" in text
    assert text.count(r" \\") == 4
    assert r"SASRec & CE & Adam & " in text
    assert r"\textbf{" in text
    for place in places[2:]:
        assert place.read_bytes().startswith(b"\x89PNG")
        assert place.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_the_front_joins_cells_that_no_other_exceeds(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda axes, *a, **o: drawn.append((a, o)) or plot(axes, *a, **o))
    found = {"a": (0.3, 0.1), "b": (0.2, 0.2), "c": (0.1, 0.3), "under": (0.15, 0.15)}
    for name, (whole, rare) in found.items():
        make_run(tmp_path / name, whole, model=name)
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        metrics["test"] |= {"nonhead/ndcg@10": rare, "head/ndcg@10": whole}
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics))
    trade_off(compare([tmp_path]), tmp_path / "front.png")
    fronts = [a for a, o in drawn if o.get("linestyle") == "--"]
    assert fronts == [((0.1, 0.2, 0.3), (0.3, 0.2, 0.1))] * 2


def test_chosen_columns(tmp_path, capsys):
    place = tmp_path / "t.md"
    assert run(capsys, grouped(tmp_path), "--markdown", place, "--columns", "loss", "head/NDCG@10", "P")[0] == 0
    assert place.read_text().startswith("| loss | Head NDCG@10 | Overall p | Nonhead p |\n| --- | ---: |")
    code, _, err = run(capsys, tmp_path, "--columns", "nDCG@7")
    assert code == 2
    assert "the table has no column 'nDCG@7'" in err


@pytest.mark.parametrize("values", [(0.0, 0.0, None), (0.12341, 0.12342, 0.12341)])
def test_no_best_where_all_look_alike(tmp_path, capsys, values):
    for n, value in enumerate(values):
        make_run(tmp_path / f"{n}", value, model=f"m{n}")
    assert "*0" not in run(capsys, tmp_path)[1]


def test_latex_escapes_what_latex_takes_for_its_own(tmp_path):
    row = [Entry("fmlp_rec"), Entry("50% & more"), Entry("<.0001", best=True)]
    text = latex(Content(["a_b"], ["a\nb", "p"], [[row]]))
    assert r"\& more & \textbf{$<$.0001} \\" in text
    assert r"a\_b & b & p \\" in text
    assert r" & \multicolumn{1}{c}{a} & " in text


HOSTILE = "a|b`c<script>\\input{/etc/passwd}&*[x](y)$x_"


def test_a_strangers_names_are_text_in_every_form(tmp_path, capsys):
    row = [Entry(HOSTILE + "\n\\input{x}\n<script>"), Entry("0.1", best=True)]
    content = Content(["model"], ["n"], [[row]])
    lines = latex(content, ["said\n\\input{x}"]).splitlines()
    assert lines[3] == r"\caption{said \textbackslash{}input\{x\}}"
    assert lines[8] == (
        r"a\textbar{}b\textasciigrave{}c$<$script$>$\textbackslash{}input\{/etc/passwd\}\&*[x](y)\$x\_"
        r" \textbackslash{}input\{x\} $<$script$>$ & \textbf{0.1} \\"
    )
    assert len(lines) == 12
    lines = markdown(content, ["said\n<script>"]).splitlines()
    assert lines[2:] == [
        r"| a\|b\`c&lt;script&gt;\\input{/etc/passwd}&amp;\*\[x\](y)$x_ \\input{x} &lt;script&gt; | **0.1** |",
        "",
        "said &lt;script&gt;",
    ]


def test_a_strangers_names_are_text_in_what_a_table_writes(tmp_path, capsys):
    folder = tmp_path / "[b [/b] 🙂"
    for name in "ab":
        make_run(folder / name, 0.1, model=HOSTILE, config=config_text(lr=f'"{name}\\e[31m\\n$^$"'))
        metrics = json.loads((folder / name / "metrics.json").read_text())
        metrics["test"] |= {"nonhead/ndcg@10": 0.1, "head/ndcg@10": 0.2}
        (folder / name / "metrics.json").write_text(json.dumps(metrics))
    make_run(folder / "[/b]", config="a: [")
    written = [tmp_path / name for name in ("t.md", "t.tex", "t.png", "t.csv", "front.png")]
    options = [f"--{kind}" for kind in ("markdown", "latex", "plot", "csv", "trade-off")]
    arguments = [part for pair in zip(options, written, strict=True) for part in pair]
    code, out, err = run(capsys, folder, *arguments)
    assert (code, err) == (0, "")
    assert HOSTILE in out
    assert "a?[31m $^$" in out
    assert "Not read: [/b] (" in " ".join(out.split())
    assert "<script>" not in written[0].read_text()
    table = written[1].read_text().partition("\\begin")[2]
    assert "\\input" not in table


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


GOOD = {"dataset": "b", "model": "m", "loss": "l", "optimizer": "o", "seed": 0, "test": {"ndcg@10": 0.1}}


CORRUPT = [
    ('{"dataset": "beauty", ', "cannot be read as JSON"),
    ("[]", "it is '[]'"),
    ('{"test": {}, "dataset": "beauty"}', "does not say its model, loss, optimizer, seed"),
    ("[" * 100_000, "cannot be read as JSON (it is nested too deeply)"),
    (json.dumps(GOOD | {"more": "x" * (5 << 20)}), "larger than 4096 kB"),
    (json.dumps(GOOD | {"test": {"hr@1": "x"}}), "test.hr@1 is 'x'"),
    (json.dumps(GOOD | {"test": {"hr@1": float("inf")}}), "Infinity is no number"),
    (json.dumps(GOOD | {"test": {"hr@1": float("nan")}}), "NaN is no number"),
    (json.dumps(GOOD).replace("0.1", "1e999"), "test.ndcg@10 is 'inf'"),
    (json.dumps(GOOD).replace("0.1", "9" * 5000), "cannot be read as JSON"),
    (json.dumps(GOOD | {"test": {"hr@1": True}}), "test.hr@1 is 'True'"),
    (json.dumps(GOOD | {"test": {"hr@1": 1e308}}), "test.hr@1 is '1e+308'"),
    (json.dumps(GOOD | {"test": None}), "test is 'None'"),
    (json.dumps(GOOD | {"seed": [1]}), "seed is '[1]'"),
    (json.dumps(GOOD | {"epochs": "3"}), "epochs is '3'"),
    (json.dumps(GOOD | {"best_epoch": -1}), "best_epoch is '-1'"),
    (json.dumps(GOOD | {"finished": 1}), "finished is '1'"),
    (json.dumps(GOOD | {"model": "a\nb"}), "model is 'a?nb'".replace("?", "\\")),
    (json.dumps(GOOD | {"model": "\ud800"}), "cannot be read as JSON"),
    (json.dumps(GOOD | {"model": ""}), "model is ''"),
    (json.dumps(GOOD | {"protocol": 5}), "protocol is '5'"),
    (json.dumps(GOOD | {"protocol": {"max_length": "x"}}), "protocol.max_length is 'x'"),
    (json.dumps(GOOD | {"train": {"threads": []}}), "train.threads is '[]'"),
    (json.dumps(GOOD | {"valid": {"ndcg@10": "x"}}), "valid.ndcg@10 is 'x'"),
    (json.dumps(GOOD | {"versions": {"torch": 2}}), "versions.torch is '2'"),
    (json.dumps(GOOD | {"long_tail": {"deciles": [{}]}}), "long_tail.deciles.0.least"),
    (json.dumps(GOOD | {"long_tail": {"histories": 5}}), "long_tail.histories is '5'"),
]


@pytest.mark.parametrize(("content", "says"), CORRUPT, ids=[says for _, says in CORRUPT])
@pytest.mark.parametrize("alone", [True, False])
def test_corrupt_metrics_are_named_and_the_others_are_tabled(tmp_path, capsys, content, says, alone):
    if not alone:
        make_run(tmp_path / "a", seed=7)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "metrics.json").write_text(content)
    code, out, err = run(capsys, tmp_path)
    said = " ".join((err if alone else out).split())
    assert (code, bool(out), bool(err)) == (2 if alone else 0, not alone, alone)
    assert says in said
    assert ("metrics.json: " if alone else "Not read: b (metrics.json: ") in said
    if alone:
        assert err.count("\n") == 1
    else:
        assert row_of(out, "sasrec", "ce")


@pytest.mark.parametrize(
    "content",
    [
        "a: [",
        "a: &x [1]\nb: *x",
        "a: !!python/name:os.system ''",
        "a: !!int ''",
        "a: " + "[" * 5000 + "]" * 5000,
        "a: " + "x" * 70_000,
        "a: " + "9" * 100,
        "\x00",
        'a: "\\ud800"',
    ],
    ids=lambda content: content[:20],
)
def test_a_broken_configuration_is_named_and_the_others_are_tabled(tmp_path, capsys, content):
    make_run(tmp_path / "a", config=config_text())
    make_run(tmp_path / "b", seed=1, config=content)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "config.yaml").write_text(content)  # of a run that failed
    code, out, err = run(capsys, tmp_path)
    assert (code, err) == (0, "")
    assert "Not read: b (config.yaml: cannot be read as YAML (" in out
    assert "Not read: c (config.yaml: cannot be read as YAML (" in out
    assert row_of(out, "sasrec", "ce")[-3:] == ["1", "-", "ref"]


def test_metrics_that_are_a_folder_are_a_run_that_has_not_finished(tmp_path, capsys):
    make_run(tmp_path / "a", config=config_text())
    (tmp_path / "b" / "metrics.json").mkdir(parents=True)
    (tmp_path / "b" / "config.yaml").write_text(config_text(seed=4))
    code, out, err = run(capsys, tmp_path)
    assert (code, err) == (0, "")
    assert "Failed or unfinished: b (seed 4)" in out


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
        ([sweep, "--csv", tmp_path / "file" / "t.csv"], "is in the way"),
    ]:
        code, _, err = run(capsys, *arguments)
        assert code == 2, arguments
        assert says in err
        assert err.count("\n") == 1
    (sweep / "b" / "ranks.parquet").write_bytes(b"PAR1")
    code, _, err = run(capsys, sweep)
    assert code == 2
    assert "ranks.parquet" in err


def test_the_command_itself(tmp_path):
    make_run(tmp_path / "a")
    command = [sys.executable, "-m", "recsys_lt", "table"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "0.0500" in done.stdout
    probe = "import sys, recsys_lt.cli.table as t\ntry: t.main(['--help'])\nexcept SystemExit: pass\n"
    probe += "assert not {'torch', 'pandas', 'numpy', 'rich', 'scipy', 'omegaconf'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True)
    lost = subprocess.run([*command, str(tmp_path / "x")], capture_output=True, text=True, check=False)
    assert lost.returncode == 2


def test_a_file_is_no_folder_of_runs(tmp_path, capsys):
    make_run(tmp_path / "a")
    code, _, err = run(capsys, tmp_path / "a" / "metrics.json")
    assert code == 2
    assert "it is a file. Name the folder" in err
