"""The Python API: train, load, recommend, table; the same results as the commands."""

import json
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

import recsys_lt
from recsys_lt import UserError
from tests.end_to_end.conftest import ROOT, Cli, draw_dot

DATA = {
    "dataset": "synthetic",
    "dataset.source": {"n_users": 150, "n_items": 60},
    "logger": "none",
    "trainer": {"max_epochs": 2, "batch_rows": 64, "eval_every": 1},
}
TYPED = (
    "dataset=synthetic", "dataset.source.n_users=150", "dataset.source.n_items=60", "logger=none",
    "trainer.max_epochs=2", "trainer.batch_rows=64", "trainer.eval_every=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list["recsys_lt.Run"]:
    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECSYS_LT_CACHE", str(folder / "cache"))
        patch.setattr(Figure, "savefig", draw_dot)
        return [
            recsys_lt.train(f"loss={loss}", f"seed={seed}", config=DATA, folder=folder / f"{loss}{seed}")
            for loss in ("ce", "bpr")
            for seed in (0, 1)
        ]


def test_a_run_from_python_is_the_run_of_the_command(runs, here: Cli, tmp_path: Path) -> None:
    done = here(*TYPED, "loss=ce", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    typed = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert runs[0].metrics["test"] == typed["test"]
    assert (runs[0].folder / "config.yaml").read_text().splitlines()[1:5] == (
        (tmp_path / "run" / "config.yaml").read_text().splitlines()[1:5]
    )


def test_a_run_recommends_for_its_users_as_the_command_does(runs, here: Cli, tmp_path: Path) -> None:
    found = runs[0].recommend(users=["u3", "u5"], k=4)
    done = here("recommend", str(runs[0].folder), "--user", "u3", "u5", "--k", "4", "--csv", "lists.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(found, pd.read_csv(tmp_path / "lists.csv"), check_dtype=False, rtol=1e-6)


def test_a_run_recommends_for_histories_it_has_never_seen(runs) -> None:
    run = runs[0]
    data = run.data
    u3 = [str(data.item_ids[i]) for i in data.items[data.offsets[3] : data.offsets[4]]]
    found = run.recommend(histories={"new": u3, "short": ["i7"]}, k=5)
    assert found["user"].tolist() == ["new"] * 5 + ["short"] * 5
    known = run.recommend(users=["u3"], k=5)
    assert found["item"].tolist()[:5] == known["item"].tolist()
    assert "i7" not in found["item"].tolist()[5:]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "users or histories"),
        ({"users": ["nobody"]}, "nobody"),
        ({"users": ["u3"], "k": 0}, "k"),
        ({"histories": {"new": []}}, "new"),
        ({"histories": {"old": ["i3"], "new": ["no such item"]}}, "no event of user new is of a known item"),
    ],
)
def test_what_cannot_be_recommended_is_a_user_error(runs, given, said: str) -> None:
    with pytest.raises(UserError, match=said):
        runs[0].recommend(**given)


def test_load_gives_the_run_again(runs) -> None:
    again = recsys_lt.load(runs[0].folder)
    assert again.metrics == runs[0].metrics
    assert again.recommend(users=["u3"]).equals(runs[0].recommend(users=["u3"]))
    with pytest.raises(UserError, match="no such folder"):
        recsys_lt.load(runs[0].folder / "nothing")


def test_a_table_of_runs(runs) -> None:
    found = recsys_lt.table(runs)
    assert found["loss"].tolist() == ["ce", "bpr"] or found["loss"].tolist() == ["bpr", "ce"]
    assert found["n"].tolist() == [2, 2]
    mean = sum(run.metrics["test"]["ndcg@10"] for run in runs[:2]) / 2
    assert found.set_index("loss").loc["ce", "ndcg@10 mean"] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["loss=cee"], "Did you mean ce"),
        (["loss.gama=1"], "loss.gama"),
        (["trainer.max_epochs=-1"], "trainer.max_epochs"),
        (["-m"], "-m"),
    ],
)
def test_a_wrong_override_is_a_user_error(overrides: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        recsys_lt.train(*overrides, config=DATA, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path / "cache"))
    notebook = nbformat.read(ROOT / "examples" / "first_experiment.ipynb", as_version=4)
    # Drawing pictures takes half of the time of small runs.
    dots = "from tests.end_to_end.conftest import dots_for_pictures\n(dots := dots_for_pictures()).__enter__()"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(dots))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    last = notebook.cells[-1].outputs[-1]["data"]["text/plain"]
    assert last == "True"
