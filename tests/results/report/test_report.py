import json
import re
import subprocess
import sys
from importlib.resources import files

import pytest

from recsys_lt.cli import table
from recsys_lt.results.cell_styles import COLOURED, styled_cells
from recsys_lt.results.comparison import compare
from recsys_lt.results.plots.drawing import canvas
from recsys_lt.results.plots.panels import beside
from recsys_lt.results.report import parts
from recsys_lt.results.report.examples import Example, Examples, Listed
from recsys_lt.results.report.what_was_run import what_was_run
from tests.results.report.runs import fail, make_run, written

MB = 1_000_000


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<(style|script|title)>.*?</\1>", "", page)))


def section(page, name):
    return re.search(rf'(?s)<section id="{name}">(.*?)</section>', page)[1]


def test_all_sections_are_there_and_say_what_was_measured(html):
    page = html.read_text()
    assert html.stat().st_size < 3 * MB
    for name in re.findall(r'<a href="#(\w+)"', page):
        assert section(page, name).strip()
    run = text_of(section(page, "run"))
    assert "split leave-one-out" in run
    assert "torch 2.99" in run
    assert "fingerprint ml-100k" in run
    results = section(page, "results")
    assert "<strong>0.0520 ±0.0028</strong>" in results
    assert "<strong>0.0400</strong>" not in results
    assert "95 % interval" in results
    assert re.search(r'data-sort="0\.\d+">[.<]', results)  # a p-value, to sort by its number
    for name in ("learning", "popularity", "cost"):
        assert section(page, name).count('role="img"') >= 1
        assert section(page, name).count("<figcaption>") == section(page, name).count('role="img"')
    said = "NDCG@10 is 0.0520 ±0.0028 (head 0.1040, nonhead 0.0312), 2 runs."
    assert f"Highest on the test: cell 1, SASRec, CE, Adam; {said}" in text_of(page)


def test_the_table_is_that_of_the_table_command(html, sweep, capsys):
    assert table.main([str(sweep)]) == 0
    of_the_command = set(re.findall(r"0\.\d{4}|(?<= )\.\d{4}|ref", capsys.readouterr().out))
    assert of_the_command
    assert of_the_command <= set(
        re.findall(r"0\.\d{4}|(?<= )\.\d{4}|ref", text_of(section(html.read_text(), "results")))
    )


def test_what_runs_lack_is_said_in_its_place(html):
    page = html.read_text()
    assert "4 (seed 4): the loss is not a number at step 3" in text_of(section(page, "run"))
    assert "One run holds no config.yaml" in section(page, "run")
    assert "hold no learning_curve.csv with valid/ndcg@10: cell 3 (SASRec, BCE)" in section(page, "learning")
    assert "values of different losses do not compare" in section(page, "learning")
    assert "hold no long_tail of metrics.json: cell 3 (SASRec, BCE)" in section(page, "popularity")
    assert section(page, "users").count("no run holds both best.ckpt and ranks.parquet") == 2  # once a dataset


def test_short_histories_stand_against_long_ones(tmp_path):
    make_run(tmp_path / "a", 0.05)
    make_run(tmp_path / "b", 0.04, loss="sce")
    make_run(tmp_path / "b1", 0.06, loss="sce", seed=1)
    make_run(tmp_path / "c", loss="bce", shortest=2)  # on other users
    make_run(tmp_path / "d", loss="bpr", deciles=False)
    part = section(written(tmp_path).read_text(), "popularity")
    part = part[part.index("NDCG@10 by length of the history") :]
    assert ">3-4<" in part
    assert ">10-1,200<" in part
    table = text_of(part[part.index("<table") : part.index("</table>")])
    assert "0.0250 0.0500 0.1000" in table  # each alike for means over seeds
    assert table.count("0.0250 0.0500 0.1000") == 2
    assert "users 50 40 30" in table
    assert "hold no NDCG by history in metrics.json: cell 4 (BPR)" in part
    assert "hold no NDCG by the same lengths of history: cell 3" in part


def test_a_run_that_holds_metrics_alone(tmp_path):
    make_run(tmp_path / "only", config=False, curve=False, deciles=False, ranks=False)
    page = written(tmp_path / "only").read_text()
    assert "One run holds no config.yaml" in page
    assert "no run holds learning_curve.csv" in page
    assert "there is one configuration: NDCG@10, head targets 0.1" in page
    assert "0.0500" in section(page, "results")


def test_what_an_order_of_candidates_is_compared_with(tmp_path):
    file = make_run(tmp_path / "only", model="llamarec") / "metrics.json"
    metrics = json.loads(file.read_text())
    metrics["test"] |= {"retriever/ndcg@10": 0.0988, "random_order/ndcg@10": 0.0852, "random_order/ndcg_std@10": 0.01}
    metrics["prior"] = None  # of another program
    file.write_text(json.dumps(metrics))
    results = text_of(section(written(tmp_path / "only").read_text(), "results"))
    assert "NDCG@10, retriever alone 0.0988 - - - -" in results
    assert "NDCG@10, its candidates in random order 0.0852 - - - -" in results


def test_a_dataset_of_which_no_run_finished(tmp_path):
    make_run(tmp_path / "a")
    fail(tmp_path / "b")
    config = tmp_path / "b" / "config.yaml"
    config.write_text(config.read_text().replace("beauty", "toys"))
    page = written(tmp_path).read_text()
    assert "<h3>Toys</h3>" in section(page, "run")
    assert "<h3>Beauty: SASRec, CE, Adam, seed 0</h3>" in section(page, "run")
    assert "Not drawn: no run has finished." in section(page, "cost")
    assert "failed" in section(page, "results")


def test_how_configurations_differ(tmp_path):
    make_run(tmp_path / "a", lr="0.001")
    make_run(tmp_path / "b", lr="0.01")
    (tmp_path / "b" / "config.yaml").write_text((tmp_path / "b" / "config.yaml").read_text() + "\ntrainer: {new: 1}")
    make_run(tmp_path / "c", optimizer="sam", lr="0.001, rho: 0.2")
    page = written(tmp_path).read_text()
    assert page.index('<section id="results">') < page.index('<section id="run">')
    _, differ, rest, *_ = section(page, "run").split("<details>")
    assert 'data-sort="0.01"' in differ
    assert "lr" in differ
    assert "dropout" not in differ
    assert "trainer" not in differ  # a later version's key
    assert "rho" not in differ  # no difference of a cell by Adam
    assert "optimizer.rho 0.2 (cell 3)" in text_of(rest)
    assert "model.dropout" in rest


def test_many_keys_that_differ_are_rows_and_not_columns(tmp_path):
    for name, loss in (("a", "ce"), ("b", "sce")):
        make_run(tmp_path / name, loss=loss)
        more = "".join(f"\nextra{n}: {{value: {name}{n}}}" for n in range(9))
        (tmp_path / name / "config.yaml").write_text((tmp_path / name / "config.yaml").read_text() + more)
    (members,) = styled_cells(compare([tmp_path])).values()
    told = what_was_run(members, tmp_path).differing
    assert (told.names, told.headings) == (["cell"], ["1", "2"])
    assert [[entry.text for entry in row] for rows in told.sections for row in rows] == [
        ["loss", "ce", "sce"],  # model and optimizer are the same
        *([f"extra{n}.value", f"a{n}", f"b{n}"] for n in range(9)),
    ]


def test_paths_of_the_machine_stay_there(tmp_path):
    make_run(tmp_path / "a")
    config = tmp_path / "a" / "config.yaml"
    config.write_text(config.read_text().replace("name: beauty", "name: beauty, path: /home/me/secret/mine.csv"))
    page = written(tmp_path).read_text()
    assert "mine.csv" in page
    assert "/home/me" not in page
    assert str(tmp_path) not in page


def test_many_cells_share_out_few_colours(tmp_path):
    for n in range(24):
        make_run(tmp_path / f"{n}", 0.03 + n / 1000, loss=f"loss{n % 12}", lr=f"{(n + 1) / 1000}", raw=n / 100)
    page = written(tmp_path).read_text()
    assert len(page) < MB
    assert f"({COLOURED} in all); the other {24 - COLOURED} cells are grey" in page
    assert len(re.findall(r"<li>", re.search(r'(?s)<ul class="key".*?</ul>', page)[0])) == COLOURED
    assert "var(--others)" in page


def test_numbers_of_a_big_sweep_do_not_lie_on_each_other(tmp_path):
    for n in range(110):
        make_run(tmp_path / f"{n:03}", 0.03 + n / 1000, lr=f"{n + 1}", deciles=False, curve=False, ranks=False)
    members = [member for of_one in styled_cells(compare([tmp_path])).values() for member in of_one]
    some = [member for member in members if member.look.coloured or member.number % 9 == 0]
    assert sum(member.look.coloured for member in some) == COLOURED
    with canvas() as (figure, axes):
        axes.plot([0, 100], [0, 1], ".")
        # All but on each other: where the lines of many cells end.
        beside(axes, [(m.look, 50 + m.number % 3, 0.5 + m.number % 5 / 100) for m in some])
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in axes.texts]
    assert {text.get_text() for text in axes.texts} >= {str(m.number) for m in some if m.look.coloured}
    for n, one in enumerate(boxes):
        for other in boxes[n + 1 :]:
            across = min(one.x1, other.x1) - max(one.x0, other.x0)
            up = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert across <= 1 or up <= 3  # a box of letters has room above and below


def test_every_cell_of_a_sweep_has_a_name_of_its_own(tmp_path):
    for model, loss in (("ab", "cd"), ("cd", "ab"), ("ab", "ab")):
        make_run(tmp_path / f"{model}{loss}", model=model, loss=loss)
    names = [member.name for of_one in styled_cells(compare([tmp_path])).values() for member in of_one]
    assert names == ["ab, ab, Adam", "model ab, loss cd, optimizer Adam", "model cd, loss ab, optimizer Adam"]


def test_what_can_be_tested_is_where_the_best_cannot(tmp_path):
    make_run(tmp_path / "best", 0.09, loss="sce", ranks=False)
    make_run(tmp_path / "second", 0.06)
    make_run(tmp_path / "worse", 0.02, loss="bce", raw=0.8)
    page = written(tmp_path).read_text()
    said = text_of(page)
    assert "Highest on the test: cell 1, SASRec, SCE, Adam" in said
    assert "No differences could be tested" not in said
    of_these = "(corrected; over users only: these trained models)"
    assert f"Compared with cell 2, the one other cell differs at p &lt; 0.05 {of_these}" in said
    assert "Cell 1 itself could not be: a run without ranks.parquet." in said
    assert "from cell 2 (SASRec, CE, Adam) (ref)" in said
    assert "cell 1 (SASRec, SCE, Adam) could not be tested" in said
    (tmp_path / "worse" / "ranks.parquet").unlink()
    said = text_of(written(tmp_path).read_text())
    assert "Highest on the test: cell 1, SASRec, SCE, Adam" in said
    assert "No differences could be tested" in said


def test_nothing_from_the_data_becomes_markup(tmp_path, monkeypatch):
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    make_run(tmp_path / "a" / "0", model=evil, config=False)
    make_run(tmp_path / "a" / "1", loss="$x^$", dataset="beauty")
    fail(tmp_path / "a" / "<u>2", error=evil)

    def hostile(members, compared, users, open_run):
        one = Example(evil, 9, (evil,), evil, "head", 3, (Listed(members[0], "0", 1, ((evil, "head", True),)),))
        return Examples((one,), 10, (evil,))

    monkeypatch.setattr(parts, "examples", hostile)
    page = written(tmp_path / "a").read_text()
    assert page.count("<script>") == 1
    assert "<img" not in page
    assert "<u>" not in page
    assert text_of(page).count("&lt;script&gt;alert(1)") >= 6


def test_nothing_is_fetched_from_anywhere(html):
    page = html.read_text()
    assert "http" not in page.replace('http-equiv="', "")
    assert all(link.startswith("#") for link in re.findall(r'(?:href|src)="([^"]*)"', page))
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'" in page


def test_drawings_take_the_pages_colours_and_share_no_ids(html):
    page = html.read_text()
    drawings = re.findall(r'(?s)<svg [^>]*role="img".*?</svg>', page)
    assert len(drawings) > 8
    assert all("var(--" in drawing for drawing in drawings)
    assert not re.search(r"#[0-9a-f]{6}\b", "".join(drawings))
    ids = re.findall(r' id="([^"]+)"', "".join(drawings))
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', "".join(drawings))) <= set(ids)
    assert all(re.search(r'aria-label="[^"]+"', drawing) for drawing in drawings)


def test_it_says_where_it_wrote_and_how_much(tmp_path, call):
    make_run(tmp_path / "run")
    before = {path.name for path in (tmp_path / "run").iterdir()}
    code, out, err = call(tmp_path / "run")
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"{re.escape(str(tmp_path / 'run' / 'report.html'))} \(0\.\d\d MB\)\n", out)
    assert {path.name for path in (tmp_path / "run").iterdir()} == before | {"report.html"}
    code, out, _ = call(tmp_path / "run", "--out", tmp_path / "new" / "x.html", "--users", 0)
    assert out.startswith(str(tmp_path / "new" / "x.html"))
    assert "No users: --users 0." in (tmp_path / "new" / "x.html").read_text()


def test_another_metric_and_reference(sweep, tmp_path, call):
    out = tmp_path / "x.html"
    assert call(sweep, "--metric", "gini@10", "tail/ndcg@10", "--against", "sasrec/sce", "--out", out)[0] == 0
    page = out.read_text()
    assert "from Beauty: cell 2 (SASRec, SCE, Adam); ML-100K: no such cell (ref)" in page
    assert "Gini@10" in section(page, "results")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "there is no such folder"),
        (["."], "holds no metrics.json"),
        (["run", "--metric", "ndcg@3"], "no run has a test metric 'ndcg@3'"),
        (["run", "--against", "gru4rec"], "no finished cell is called 'gru4rec'"),
        (["run", "--users", "-1"], "--users: it is -1"),
        (["run", "--out", "run/metrics.json/x.html"], "is in the way"),
    ],
)
def test_what_a_user_can_mend_is_one_line(tmp_path, call, monkeypatch, arguments, words):
    (tmp_path / "empty").mkdir()
    make_run(tmp_path / "full" / "run")
    monkeypatch.chdir(tmp_path / ("empty" if arguments == ["."] else "full"))
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert words in err


def test_help_answers_at_once():
    probe = "import sys, recsys_lt.cli.report as r\ntry: r.main(['--help'])\nexcept SystemExit: pass\n"
    probe += "print([name for name in ('torch', 'numpy', 'matplotlib', 'jinja2') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_template_style_and_script_travel_in_the_package():
    page = files("recsys_lt.results.report.page")
    for name in ("report.html.j2", "style.css", "vendored/sortable-tablesort-LICENSE"):
        assert page.joinpath(name).read_text()
