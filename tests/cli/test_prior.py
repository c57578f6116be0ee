"""What a language model knows of a dataset's items, from the command line, with the runs on it."""

import json

import numpy as np
import pytest

pytest.importorskip("transformers")

from recsys_lt.cli import prior
from recsys_lt.results.item_prior.figures import by_cell
from recsys_lt.runs.ranks import read_ranks
from recsys_lt.training.trained import Run
from tests.cli.conftest import SIZES

SMALL = (*SIZES, "llm=tiny_random", "prior.others=1")


@pytest.fixture
def here(titled):
    """The dataset and the cache of the run."""
    return (*SMALL, f"dataset.cache_dir={titled.parent / 'cache'}")


@pytest.mark.parametrize("probe", ["familiarity", "completion"])
def test_runs_by_prior(titled, here, command, tmp_path, probe):
    files = ("--json", tmp_path / "p.json", "--html", tmp_path / "p.html", "--csv", tmp_path / "p.csv")
    plot = ("--plot", tmp_path / "p.png")
    code, out, err = command(prior, *here, "--runs", titled, "--exposure", "--probe", probe, *files, *plot)
    assert (code, err) == (0, "")
    numbers = json.loads((tmp_path / "p.json").read_text())
    run, ranks = Run(titled), read_ranks(titled / "ranks.parquet")
    (cell,) = numbers["cells"]
    assert cell["cell"][1:] == ["sasrec", "ce", "adam"]
    for size, n in (("2x2", 4), ("3x3", 9)):
        found = cell[size]
        assert len(found) == n
        assert sum(one["users"] for one in found) == len(ranks.user) == cell["users"]
        assert sum(one["items"] for one in found) == numbers["items"] == 60
        assert sum(one["exposure"] for one in found) == pytest.approx(1)
        for metric in ("ndcg@10", "hr@10"):
            total = sum(one["users"] * (one[metric] or 0) for one in found)
            assert total / len(ranks.user) == pytest.approx(run.metrics["test"][metric])
        popular = sum(one["exposure"] for one in found if one["data"] == "head")
        assert popular == pytest.approx(run.metrics["test"]["head/exposure@10"])
    assert numbers["probes"][probe]["popularity"]["items"] == 60
    html = (tmp_path / "p.html").read_text()
    for text in (out, html):
        assert f"{cell['2x2'][0]['ndcg@10']:.4f}" in text
        assert "known and rare" in text.casefold()
    assert html.count("<svg") == 3
    assert {path.name for path in tmp_path.iterdir()} >= {"p.png", "p.pdf", "p.csv"}
    assert (tmp_path / "p.csv").read_text().startswith("item,title,training_interactions,likelihood")
    # Nine cells: eight are drawn.
    assert "run 7" in by_cell([f"run {n}" for n in range(9)], [cell] * 9)
    assert "run 8" not in by_cell([f"run {n}" for n in range(9)], [cell] * 9)


def test_corners_are_the_ends_of_prior_and_popularity(here, command, tmp_path):
    assert command(prior, *here, "--json", tmp_path / "p.json", "--csv", tmp_path / "p.csv")[0] == 0
    import pandas as pd

    frame, corners = pd.read_csv(tmp_path / "p.csv"), json.loads((tmp_path / "p.json").read_text())["corners"]
    median, popularity = frame["familiarity"].median(), frame["training_interactions"].median()
    for name, examples in corners.items():
        assert len(examples) == 5
        assert all((one["prior"] > median) == name.startswith("known") for one in examples)
        assert all((one["interactions"] > popularity) == name.endswith("popular") for one in examples)


def test_what_was_not_measured_is_left_out(titled, here, command, tmp_path):
    some = ("prior.max_items=30", "--runs", titled, "--json", tmp_path / "p.json")
    code, out, _ = command(prior, *here, *some)
    (cell,) = json.loads((tmp_path / "p.json").read_text())["cells"]
    assert code == 0
    left = cell["users_without_prior"]
    assert 0 < left < cell["users"]
    assert f"{left} of {cell['users']} users are left out" in " ".join(out.split())
    assert sum(one["users"] for one in cell["2x2"]) == cell["users"] - left
    assert cell["2x2"][0]["exposure"] is None


def test_effects_beyond_a_control_are_differences_of_the_effects(titled, train, here, command, tmp_path):
    """They are linear in the gains of the same users."""
    popular = train(titled.parent / "popular", *SIZES, "model=pop")
    code, out, _ = command(
        prior, *here, "--runs", titled, popular, "--against", "sasrec", "--json", tmp_path / "p.json"
    )
    assert code == 0
    assert out.count("less the control") == 1
    cells = {cell["cell"][1]: cell for cell in json.loads((tmp_path / "p.json").read_text())["cells"]}
    assert cells["sasrec"]["effects_beyond_control"] is None
    for name, found in cells["pop"]["effects_beyond_control"].items():
        own, control = (cells[model]["effects"][name]["value"] for model in ("pop", "sasrec"))
        assert found["value"] == pytest.approx(own - control)
        assert found["low"] < found["value"] < found["high"]


def test_few_users_are_marked(titled, here, command):
    _, out, _ = command(prior, *here, "--runs", titled)
    assert "In parentheses: fewer than 50 users" in " ".join(out.split())
    assert out.count("(0.") >= 4  # eighty users in four cells


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["llm=tiny_randon"], ["tiny_randon"]),
        (["llm.dtype=float8"], ["dtype"]),
        (["prior.openings=[]"], ["prior.openings", "no opening"]),
        (["dataset.source.n_users=70", "--runs", "RUN"], ["test targets are not those"]),
        (["--runs", "nowhere"], ["nowhere"]),
        (["--runs", "RUN", "--against", "bert"], ["--against", "bert"]),
    ],
)
def test_refusals_are_one_line(titled, here, arguments, words, command):
    code, _, err = command(prior, *here, *[str(titled) if word == "RUN" else word for word in arguments])
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert [word for word in words if word not in err] == []


@pytest.mark.parametrize("runs", [["nowhere"], ["RUN", "--against", "bert"]])
def test_runs_are_refused_before_titles_are_read(titled, here, runs, command, monkeypatch):
    from recsys_lt.llm.title_prior import TitlePrior

    monkeypatch.setattr(TitlePrior, "of", lambda *_: pytest.fail("titles are read"))
    assert command(prior, *here, "--runs", *[titled if word == "RUN" else word for word in runs])[0] == 2


def test_ranks_correlate_as_they_should():
    from recsys_lt.results.item_prior.measures import spearman

    one = np.array([1.0, 2.0, np.nan, 3.0, 4.0, 5.0, 6.0])
    other = np.array([10.0, 20.0, 0.0, 30.0, 25.0, 50.0, np.nan])
    found = spearman(one, other)
    assert (found["items"], found["value"]) == (5, pytest.approx(0.9))
    assert found["low"] < 0.9 < found["high"] < 1
    assert spearman(one, np.ones(7)) is None
    assert spearman(one[:3], other[:3]) is None


def test_a_run_with_a_prior_has_the_same_numbers_in_its_metrics_its_report_and_a_table(train, here, command, tmp_path):
    from recsys_lt.cli import pull, push, report, table

    folder = train(
        tmp_path / "run", *SIZES, "model.width=8", "prior=title", "llm@prior.llm=tiny_random", "prior.others=1"
    )
    metrics = json.loads((folder / "metrics.json").read_text())
    own = [word for word in here if "cache_dir" not in word]
    paths = (f"dataset.cache_dir={tmp_path / 'cache'}", "--json", tmp_path / "p.json")
    assert command(prior, *own, *paths, "--runs", folder, "--exposure")[0] == 0
    (cell,) = json.loads((tmp_path / "p.json").read_text())["cells"]
    assert metrics["prior"] == {key: cell[key] for key in ("users_without_prior", "2x2", "3x3", "effects")}
    for one in cell["2x2"]:
        name = f"prior_{one['prior']}/data_{one['data']}"
        assert metrics["test"][f"{name}/users"] == one["users"]
        assert metrics["test"][f"{name}/hr@10"] == pytest.approx(one["hr@10"])
    known = [one for one in cell["2x2"] if one["prior"] == "head"]
    mean = sum(one["users"] * one["ndcg@10"] for one in known) / sum(one["users"] for one in known)
    assert metrics["test"]["prior_head/ndcg@10"] == pytest.approx(mean)
    code, out, _ = command(table, folder, "--metric", "prior_head/ndcg@10")
    assert code == 0
    assert f"{mean:.4f}" in out
    code, _, _ = command(report, folder, "--out", tmp_path / "report.html")
    assert code == 0
    assert "what a language model knew" in (tmp_path / "report.html").read_text()
    assert command(push, folder, tmp_path / "pushed")[0] == 0
    assert command(pull, tmp_path / "pushed", tmp_path / "pulled")[0] == 0
    history = [str(Run(folder).data.item_ids[0])]
    lists = [Run(one).recommend(histories={"": history}, k=3) for one in (folder, tmp_path / "pulled")]
    assert lists[0].equals(lists[1])


def test_the_page_names_a_cut_language_model():
    from recsys_lt.results.item_prior.page import _model

    whole = {"weights": "smollm2_135m", "untrained": False, "layers": None}
    assert _model({"llm": whole}) == "smollm2_135m"
    assert _model({"llm": whole | {"layers": 6}}) == "smollm2_135m, first 6 layers"
