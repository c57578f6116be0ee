"""The example of a package outside ours: an own loss, backbone, dataset, callback and experiment."""

import json
import sys
from pathlib import Path

import pytest

import recsys_lt
from recsys_lt.runs.reading import read_curve
from tests.end_to_end.conftest import ROOT, Cli

OUTSIDE = ROOT / "examples" / "outside"
CONF = str(OUTSIDE / "conf")
OWN = ("--config-dir", CONF, "+experiment=shop_focal")


@pytest.fixture
def mylab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(OUTSIDE))


@pytest.fixture(scope="module")
def run(here: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the experiment."""
    folder = tmp_path_factory.mktemp("outside") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(OUTSIDE))
        done = here(*OWN, f"hydra.run.dir={folder}", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return folder


def test_own_classes_train_and_learn(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert [metrics[key] for key in ("dataset", "model", "loss")] == ["shop", "mean_items", "focal_ce"]
    curve = (run / "learning_curve.csv").read_text().splitlines()
    losses = [float(line.split(",")[curve[0].split(",").index("train/loss")] or "inf") for line in curve[1:]]
    assert losses[-1] < losses[1]
    assert metrics["test"]["ndcg@10"] > 0.05  # a random order gives about 0.02


def test_what_a_callback_logs_is_in_the_learning_curve(run: Path) -> None:
    rows = {row["epoch"]: row.get("norms/items") for row in read_curve(run / "learning_curve.csv")}
    assert rows[0] is None  # nothing is trained yet
    norms = [rows[epoch] for epoch in range(1, 6)]
    assert all(norm is not None and 0.5 < norm < 5 for norm in norms)
    assert len(set(norms)) == 5


def test_an_own_metric_is_measured_where_lists_are_counted(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert 3 < metrics["test"]["novelty"] < 12  # bits of one of some hundred items
    assert metrics["valid"]["novelty"] is None
    assert metrics["test"]["head/novelty"] is None


@pytest.mark.usefixtures("mylab")
def test_a_sweep_mixes_own_choices_with_ours(here: Cli, tmp_path: Path) -> None:
    cells = ("-m", "loss=ce,focal_ce", "model=mean_items,pop", "trainer.max_epochs=1", "hydra.sweep.dir=sweep")
    done = here(*OWN, *cells, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("sweep/*/metrics.json"))) == 4
    assert done.stdout.count("focal_ce") >= 2


@pytest.mark.usefixtures("mylab")
@pytest.mark.parametrize(
    ("path", "typed", "said"),
    [
        (f"--config-dir={CONF}", "loss=focal_cee", "loss has no choice 'focal_cee'. Did you mean focal_ce?"),
        (f"--config-dir={CONF}", "+experiment=shop_fokal", "no choice 'shop_fokal'. Did you mean shop_focal?"),
        (f"--config-dir={CONF}", "loss.gama=2", "there is no key 'loss.gama'. Did you mean loss.gamma?"),
        (f"hydra.searchpath=[{CONF}]", "model=meen_items", "no choice 'meen_items'. Did you mean mean_items?"),
        (f"hydra.searchpath=[{CONF}]", "dataset.source.visitor=2", "Did you mean dataset.source.visitors?"),
    ],
)
def test_a_typo_in_an_own_choice_gets_a_suggestion(here: Cli, tmp_path: Path, path: str, typed: str, said: str) -> None:
    done = here(path, "dataset=shop", "loss=focal_ce", "model=mean_items", typed, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("mylab")
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("+callbacks=item_norm", "callbacks has no choice 'item_norm'. Did you mean item_norms?"),
        ("+callbacks.one._target_=mylab.focal_ce.FocalCE", "mylab.focal_ce.FocalCE is no Callback"),
        ("+callbacks.item_norms.nam=x", "callbacks.item_norms: there is no key 'nam'"),
        ("+callbacks.one=5", "callbacks.one: it is 5"),
    ],
)
def test_what_is_no_callback_is_refused(here: Cli, tmp_path: Path, typed: str, said: str) -> None:
    more = () if typed.startswith("+callbacks=") else ("+callbacks=item_norms",)
    done = here("--config-dir", CONF, "dataset=synthetic", "logger=none", *more, typed, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


@pytest.mark.usefixtures("mylab")
def test_python_trains_and_loads_own_classes(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path / "cache"))
    trained = recsys_lt.train("+experiment=shop_focal", config_dir=CONF, folder=tmp_path / "run")
    assert trained.metrics["test"] == json.loads((run / "metrics.json").read_text())["test"]
    assert len(trained.recommend(histories={"somebody": ["article 3"]}, k=3)) == 3
    with pytest.raises(recsys_lt.UserError, match="--trust mylab"):
        recsys_lt.load(tmp_path / "run")
    assert recsys_lt.load(tmp_path / "run", trust=["mylab"]).metrics == trained.metrics


def test_an_experiment_without_a_plus_is_suggested_with_one(here: Cli, tmp_path: Path) -> None:
    done = here("experiment=beauty_sce", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "Did you mean +experiment=beauty_sce?" in done.stderr


def test_a_run_made_with_a_module_needs_it_to_be_trusted_and_found(
    here: Cli, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("recommend", str(run), "--user", "visitor 3")
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        monkeypatch.delitem(sys.modules, name)
    missing = here(*command, "--trust", "mylab", cwd=tmp_path)
    assert missing.returncode == 2
    assert "No module named 'mylab'" in missing.stderr
    assert "Put the folder of its module on PYTHONPATH" in missing.stderr
    unnamed = here(*command, cwd=tmp_path)
    assert unnamed.returncode == 2
    assert "If you know the module mylab and trust it, add --trust mylab" in unnamed.stderr
    monkeypatch.syspath_prepend(str(OUTSIDE))
    found = here(*command, "--trust", "mylab", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "article" in found.stdout


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("torn.lacks.Mine", "'torn.lacks.Mine' cannot be imported (ModuleNotFoundError: No module named 'torchh', "),
        ("torn.lacks.Mine", "torn/lacks.py, line 2)"),
        ("torn.syntax.Mine", "'torn.syntax.Mine' cannot be imported (SyntaxError: "),
        ("torn.syntax.Mine", "(syntax.py, line 1)"),
        ("torn.syntx.Mine", "'torn.syntx.Mine' cannot be imported (ModuleNotFoundError: No module named 'torn.syntx')"),
        ("torn.whole.mine", "loss._target_: torn.whole has no class mine. Write torn.whole.Mine."),
        ("torn.whole.Other", "torn.whole has no class Other. Name a class that is a Loss, as package.module.Class."),
        ("torn.whole.Mine", "loss: it lacks the key 'gamma'. The keys of Mine are gamma."),
    ],
)
def test_a_module_or_a_class_that_cannot_be_had_is_said_with_the_cause(
    here: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, said: str
) -> None:
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "lacks.py").write_text("import os\nimport torchh\n")
    (tmp_path / "torn" / "syntax.py").write_text("def f(:\n")
    (tmp_path / "torn" / "whole.py").write_text(
        "from recsys_lt.losses.ce import CE\n\nclass Mine(CE):\n    def __init__(self, gamma): ...\n"
    )
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "mine.yaml").write_text(f"_target_: {target}\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    done = here("--config-dir", "conf", "dataset=synthetic", "logger=none", "loss=mine", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


def test_a_report_says_which_lists_are_left_out(here: Cli, run: Path) -> None:
    done = here("report", str(run), "--out", str(run.parent / "x.html"), cwd=run.parent)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert done.stderr.startswith("note: lists are left out: ")
    assert "add --trust mylab" in done.stderr


def test_a_choice_whose_module_is_missing_is_said(here: Cli, tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]
    done = here(*OWN, cwd=tmp_path)
    assert done.returncode == 2
    assert "is in the module mylab, which is not installed" in done.stderr
