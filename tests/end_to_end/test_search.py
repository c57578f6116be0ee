"""Search for hyper-parameters: trials without a test, going on, failures, and one test at the end."""

import json
from pathlib import Path

import pytest

from tests.end_to_end.conftest import TINY, Cli

pytest.importorskip("optuna")

SMALL = (*TINY, "trainer.max_epochs=1", "trainer.eval_untrained=false", "logger=none", "hydra.sweep.dir=found")


def _tested(folder: Path) -> dict[str, bool]:
    runs = sorted(folder.glob("*/metrics.json"))
    return {path.parent.name.partition("_")[0]: "test" in json.loads(path.read_text()) for path in runs}


def test_a_search_goes_on_where_it_stopped_and_tests_its_best_trial_alone(here: Cli, tmp_path: Path) -> None:
    first = here("-m", "+search=sasrec", *SMALL, "model.width=16", "search.trials=2", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    found = _tested(tmp_path / "found")
    assert sorted(found) == ["0", "1"]
    assert sum(found.values()) == 1
    runs = {path: json.loads(path.read_text()) for path in (tmp_path / "found").glob("*/metrics.json")}
    (best,) = (run for run in runs.values() if "test" in run)
    assert best["valid"]["ndcg@10"] == max(run["valid"]["ndcg@10"] for run in runs.values())
    assert f"test        NDCG@10 {best['test']['ndcg@10']:.4f}" in first.stdout
    assert "model.width=16" in first.stdout.splitlines()[-1]  # the command for more seeds
    (untested,) = (path for path, run in runs.items() if "test" not in run)
    assert not {"ranks.parquet", "long_tail.png"} & {path.name for path in untested.parent.iterdir()}

    written = {path: path.stat().st_mtime_ns for path in runs}
    again = here("+search=sasrec", *SMALL, "model.width=16", "search.trials=3", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "trial 2 (3 of 3)" in again.stdout
    assert "trial 1 (" not in again.stdout
    assert written[untested] == untested.stat().st_mtime_ns or "the test was read for 2 trials" in again.stdout

    table = here("table", "found", cwd=tmp_path)
    assert table.returncode == 0, table.stderr
    report = here("report", "found", "--users", "0", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    assert "without a test (trainer.test=false) are left out" in report.stderr
    alone = here("table", str(untested.parent), cwd=tmp_path)
    if "test" not in json.loads(untested.read_text()):
        assert alone.returncode == 2
        assert "were not tested" in alone.stderr

    other = here("+search=sasrec", *SMALL, "model.width=32", "search.trials=4", cwd=tmp_path)
    assert other.returncode == 2
    assert "another space, or with other settings" in other.stderr


def test_a_search_that_was_killed_proposes_what_it_would_have_proposed(here: Cli, tmp_path: Path) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    def proposed(folder: str) -> list[dict[str, float]]:
        storage = JournalStorage(JournalFileBackend(str(tmp_path / folder / "search.log")))
        return [trial.params for trial in optuna.load_study(study_name="search", storage=storage).trials]

    space = ("optimizer.lr=interval(0.001,0.01)", "loss=ce,bpr", "model.dropout=interval(0.1,0.2)")
    fixed = ("model.width=16", "model.blocks=1", "model.heads=1", "optimizer.weight_decay=0.0")
    arguments = ("+search=sasrec", *SMALL[:-1], *space, *fixed)
    for folder, trials in (("whole", 3), ("parts", 2), ("parts", 3)):
        if trials == 3 and folder == "parts":
            # As if the process had been killed while the second trial ran: 6 is the entry of a trial's end.
            entries = (tmp_path / "parts/search.log").read_text().splitlines(keepends=True)
            read = [json.loads(entry) for entry in entries]
            kept = [e for e, r in zip(entries, read, strict=True) if r["op_code"] != 6 or r["trial_id"] != 1]
            assert len(kept) == len(entries) - 1
            (tmp_path / "parts/search.log").write_text("".join(kept))
        done = here(*arguments, f"search.trials={trials}", f"hydra.sweep.dir={folder}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert proposed("parts") == proposed("whole")


def test_a_trial_that_fails_does_not_end_a_search(here: Cli, tmp_path: Path) -> None:
    choices = (
        "optimizer.lr=0.001",
        "optimizer.weight_decay=0.0",
        "model.blocks=1",
        "model.heads=1",
        "model.dropout=0.1",
    )
    done = here("+search=sasrec", *SMALL, *choices, "model.width=choice(-1,16)", "search.trials=6", cwd=tmp_path)
    assert done.returncode == 2  # as of any sweep with a cell that failed
    assert "failed, model.width=-1" in done.stdout
    assert "is best on validation" in done.stdout
    assert "settings    model.width=16" in done.stdout
    assert list(_tested(tmp_path / "found").values()) == [True]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search.trials=0"], "search.trials"),
        (["seed=0,1"], "the best of several seeds is no better setting"),
        (["search.sampler=optuna.Study"], "search.sampler=optuna.Study"),
        (["optimizer.lr=interval(2,1)"], "optimizer.lr"),
        (["hydra.mode=RUN"], "a search is a sweep"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused_in_one_line(
    here: Cli, tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = here("+search=sasrec", *SMALL, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_optuna_one_line_says_how_to_install_it(
    here: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys_lt.system.package.find_spec", lambda name: None)
    done = here("+search=sasrec", *SMALL, cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install 'recsys_lt[search]'" in done.stderr
