import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from recsys_lt.runs.packed import content, packed_ranks, runs_in
from studies.long_tail import page, tune
from tests.end_to_end.conftest import environment, here

__all__ = ["environment", "here"]
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "studies" / "long_tail" / "tune.py"
FILES = tuple(ROOT / "studies" / study / "study.yaml" for study in ("long_tail", "losses"))
STUDY = {
    "small": {
        "common": {
            "dataset": "synthetic", "dataset.source.n_users": 80, "dataset.source.n_items": 60, "trainer.max_epochs": 1,
        },
        "keep": 0.99,
        "methods": {
            "adam": {"set": {"optimizer": "adam"}, "seeds": 2, "trials": [{"optimizer.lr": 0.01}]},
            "eisam": {"set": {"optimizer": "eisam"}, "seeds": 1, "trials": [{"optimizer.rho": 0.1}]},
        },
    }
}  # fmt: skip


@pytest.mark.parametrize(("file", "base"), list(zip(FILES, ("adam", "ce"), strict=True)))
def test_the_shipped_studies_give_every_method_as_many_trials(file, base):
    for name, study in yaml.safe_load(file.read_text()).items():
        assert tune.study_named(name, file) == study
        assert tune.base_of(study) == base
        for method, given in study["methods"].items():
            for number in range(len(given["trials"])):
                words = tune.settings_of(study, method, number, seed=0)
                assert {f"{key}={value}" for key, value in given["set"].items()} <= set(words)
                assert words[-1] == "seed=0"


@pytest.mark.parametrize(("file", "least"), list(zip(FILES, (80, 2), strict=True)))
def test_a_kept_run_is_the_one_its_study_asks_for(file, least):
    checked = 0
    for name, study in yaml.safe_load(file.read_text()).items():
        for folder in runs_in(file.with_name("runs.parquet") / name) or []:
            method, _, rest = folder.name.rpartition("_seed") if folder.parent.name == "seeds" else (folder.name, "", 0)
            method, _, number = method.rpartition("_")
            if folder.parent.name in ("trials", "seeds"):
                assert tune._done(folder, tune.settings_of(study, method, int(number), int(rest)))
                checked += 1
    assert checked > least


def test_an_uneven_study_is_refused(tmp_path):
    uneven = {"odd": {"methods": {"adam": {"trials": [{}, {}]}, "sam": {"trials": [{}]}}}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(uneven))
    with pytest.raises(SystemExit, match="same number"):
        tune.study_named("odd", tmp_path / "study.yaml")
    with pytest.raises(SystemExit, match="no study is named 'even'"):
        tune.study_named("even", tmp_path / "study.yaml")


def test_the_best_for_the_tail_that_keeps_the_whole_is_chosen():
    def trials(*pairs):
        return [tune.Trial("m", number, {}, pair[0], 0.1, pair[1]) for number, pair in enumerate(pairs)]

    several = trials((0.070, 0.033), (0.072, 0.031), (0.068, 0.040))
    assert tune.chosen(several, None).number == 1
    assert tune.chosen(several, 0.069).number == 0
    assert tune.chosen(several, 0.065).number == 2
    assert tune.chosen(several, 0.080).number == 1  # none keeps the whole: the one that hurts it least


def test_a_study_runs_and_is_not_run_again(here, tmp_path, monkeypatch, capsys):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    command = ["--file", str(tmp_path / "study.yaml"), "--runs", str(tmp_path / "runs.parquet"),
               "--work", str(tmp_path / "work")]  # fmt: skip
    in_this_process = SimpleNamespace(run=lambda words, cwd: here(*words[3:], cwd=tmp_path))
    monkeypatch.setattr(tune, "subprocess", in_this_process)

    def run(*further):
        return tune.main(["small", *command, *further]), capsys.readouterr()

    code, said = run("--methods", "eisam")  # its trial runs; which one to take depends on the base's
    assert (code, said.err) == (1, "not there: seeds of eisam\n")
    code, said = run("--seeds-of", "adam=0")
    assert (code, said.err) == (0, "")
    code, said = run()
    assert (code, said.err) == (0, "")
    pack = tmp_path / "runs.parquet"
    kept = sorted(path.name for path in runs_in(pack / "small" / "seeds"))
    assert kept == ["adam_0_seed0", "adam_0_seed1", "eisam_0_seed0"]
    assert sorted(path.name for path in runs_in(pack / "small" / "trials")) == ["adam_0", "eisam_0"]
    assert packed_ranks(pack / "small" / "trials" / "adam_0" / "ranks.parquet") is None
    assert packed_ranks(pack / "small" / "seeds" / "adam_0_seed1" / "ranks.parquet").num_rows > 50
    seeds = [json.loads(content(pack / "small" / "seeds" / name / "metrics.json"))["seed"] for name in kept]
    assert seeds == [0, 1, 0]
    code, said = run()
    assert (code, said.out) == (0, "")
    changed = {"small": STUDY["small"] | {"common": STUDY["small"]["common"] | {"dataset.source.n_users": 90}}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(changed))
    with pytest.raises(SystemExit, match=r"adam_0 has dataset\.source\.n_users=80, the study now 90"):
        run()
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    assert tune.main(command) == 0  # no name: all of them

    measured = {"rule": "eisam", "targets": 1200, "here": {"all": 4, "head": 5, "tail": 6.25}}
    measured |= {"neighbourhood": {"all": 0.5, "head": 0.125, "tail": 0.75}}
    sharp = tmp_path / "sharpness.json"
    sharp.write_text(json.dumps({"small": {"eisam_0": measured}}))
    capsys.readouterr()
    places = ("--file", tmp_path / "study.yaml", "--runs", pack, "--sharpness", sharp)
    assert page.main([*map(str, places), "--out", str(tmp_path / "docs" / "long_tail.md")]) == 0
    assert capsys.readouterr().err == ""
    written = (tmp_path / "docs" / "long_tail.md").read_text()
    assert "| **eisam** | **`optimizer.rho=0.1`** |" in written
    assert "| synthetic |" not in written  # one dataset needs no column
    assert written.count("| sasrec | ce | ") == 2
    assert "| eisam | `optimizer.rho=0.1` | 5.000 | 6.250 | 0.125 | 0.750 |" in written
    assert "1,200 training targets" in written
    assert "95 % interval" in written
    assert (tmp_path / "docs" / "long_tail" / "small_trials.png").is_file()
    assert (tmp_path / "docs" / "long_tail" / "small.png").is_file()


def test_an_interrupted_run_is_not_done_and_another_one_is_not_gone_on_with(tmp_path):
    assert not tune._done(tmp_path, ["seed=0"])
    (tmp_path / "config.yaml").write_text("seed: 0\nchoices: {}\n")
    assert not tune._done(tmp_path, ["seed=0"])
    (tmp_path / "metrics.json").write_text(json.dumps({"finished": False}))
    assert not tune._done(tmp_path, ["seed=0"])
    with pytest.raises(SystemExit, match="has seed=0, the study now 1"):
        tune._done(tmp_path, ["seed=1"])
    (tmp_path / "metrics.json").write_text(json.dumps({"finished": True}))
    assert tune._done(tmp_path, ["seed=0"])


def test_the_page_tests_against_the_chosen_trial_of_the_base(tmp_path):
    taken = page.Trial("adam", 1, {}, 0.07, 0.1, 0.03)
    for number, dropout in ((0, 0.6), (1, 0.5)):
        folder = tmp_path / f"adam_{number}_seed0"
        folder.mkdir()
        names = {"dataset": "beauty", "model": "sasrec", "loss": "ce", "optimizer": "adam", "seed": 0, "finished": True}
        (folder / "metrics.json").write_text(json.dumps(names | {"test": {"ndcg@10": 0.06}}))
        (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"dropout": dropout}}))
        if number == 0:
            assert page._reference(tmp_path, "adam", page.Trial("adam", 0, {}, 0.07, 0.1, 0.03)) == "sasrec/ce/adam"
    assert page._reference(tmp_path, "adam", taken) == "sasrec/ce/adam/dropout=0.5"
    assert page._reference(tmp_path / "none", "adam", taken) is None
