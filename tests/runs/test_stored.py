"""Stored configurations: written so that they are read again, of this version, and compared with a checkpoint's."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from recsys_lt import CONF
from recsys_lt.errors import UserError
from recsys_lt.runs.stored import Names, Stored, check_trained_as, store, stored, trained_as
from recsys_lt.runs.trust import write_out_references
from recsys_lt.training.build import build
from studies.shared.kept import unpack

PACK = Path(__file__).resolve().parents[2] / "studies" / "published" / "runs.parquet"


@pytest.fixture
def old_run(tmp_path):
    unpack(PACK / "beauty_sasrec_ce_seed0", tmp_path / "kept")
    return tmp_path / "kept"


def test_a_model_of_an_earlier_version_is_refused_in_one_line_that_says_which_version_reads_it(old_run):
    with pytest.raises(
        UserError, match=r"no class of recsys_lt 0\.2.* recsys_lt 0\.1\.0 reads runs that were made before"
    ):
        stored(old_run)


@pytest.mark.parametrize(
    ("base", "loaded"),
    [("torch.optim.RAdam", True), ("torch.optim.swa_utils.AveragedModel", False), ("torch.optim.Adam.step", False)],
)
def test_an_optimizer_of_torchs_needs_no_trust(tmp_path, base, loaded):
    store(tmp_path, composed())
    path = tmp_path / "config.yaml"
    config = OmegaConf.load(path)
    config.optimizer.base = {"_target_": base, "_partial_": True}
    OmegaConf.save(config, path)
    if loaded:
        assert build(stored(tmp_path).config).optimizer.base.func is torch.optim.RAdam
    else:
        with pytest.raises(UserError, match=re.escape(f"names {base}, which is no class")):
            stored(tmp_path)


def composed(**more) -> Stored:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["dataset=synthetic", "logger=none"])
    for key, value in more.items():
        OmegaConf.update(config, key, value, force_add=True)
    return Stored(config, Names("synthetic", "sasrec", "ce", "adam"), None)


def test_a_key_that_was_the_packages_does_not_keep_a_run_from_being_read(tmp_path):
    store(tmp_path, composed(**{"metrics.bound_targets": None}))
    build(stored(tmp_path).config)


def test_what_refers_elsewhere_is_written_as_its_value(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB", "17")
    OmegaConf.register_new_resolver("of_a_lab", lambda: {"a": ["$", "${seed}"]}, replace=True)
    run = composed(
        seed="${oc.env:LAB}", more="${of_a_lab:}", again="${metrics.ks[0]}", own="${dataset.name}", text=r"\${x}"
    )
    before = OmegaConf.to_container(run.config, resolve=True)
    write_out_references(run.config)
    store(tmp_path, run)
    found = stored(tmp_path).config
    assert OmegaConf.to_container(found, resolve=True) == before
    plain = OmegaConf.to_container(found, resolve=False)
    assert (plain["seed"], plain["own"], plain["text"]) == ("17", "${dataset.name}", r"\${x}")
    assert plain["dataset"]["cache_dir"].startswith("${oc.env:RECSYS_LT_CACHE")


def test_more_references_than_may_be_stored_are_all_written_out(tmp_path):
    run = composed(more=["${seed}"] * 17)
    write_out_references(run.config)
    store(tmp_path, run)
    assert OmegaConf.to_container(stored(tmp_path).config, resolve=False)["more"] == [run.config.seed] * 17


def test_the_configurations_of_the_program_are_stored_as_they_are_composed(tmp_path):
    run, same = composed(), composed()
    write_out_references(run.config)
    assert OmegaConf.to_yaml(run.config) == OmegaConf.to_yaml(same.config)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"more": "x" * 70_000}, "it is larger than 64 kB"),
        ({"more": "${oc.env:HOME}"}, "more is ${oc.env:HOME}, which refers to another place"),
        ({"more": 1 << 70}, "more than 64 bits"),
        ({"loss___target_": "os.getcwd"}, "loss names os.getcwd, which is no class"),
    ],
)
def test_what_could_not_be_read_again_is_not_stored(tmp_path, more, said):
    store(tmp_path, composed())
    before = (tmp_path / "config.yaml").read_text()
    more = {key.replace("___", "._"): value for key, value in more.items()}
    with pytest.raises(UserError, match=re.escape(said)) as error:
        store(tmp_path, composed(**more))
    assert f"{tmp_path / 'config.yaml'}: the run could not be read again (" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    assert (tmp_path / "config.yaml").read_text() == before


def built_on(vectors: Any = None, retriever: Any = None, weights: str = "hub/model") -> Any:
    model = {"item_vectors": vectors, "retriever": retriever}
    return OmegaConf.create({"model": model, "llm": {"weights": {"name": weights}}})


def check(then: Any, now: Any) -> None:
    check_trained_as(trained_as(then), trained_as(now), Path("best.ckpt"))


@pytest.mark.parametrize("key", ["vectors", "retriever", "weights"])
def test_what_a_run_builds_on_may_have_moved(key: str, tmp_path: Path) -> None:
    check(built_on(**{key: "/old/place"}), built_on(**{key: str(tmp_path)}))


@pytest.mark.parametrize(
    ("then", "now", "key"),
    [
        (built_on("/old/place"), built_on(), "model.item_vectors"),
        (built_on(), built_on(retriever="/a/run"), "model.retriever"),
        (built_on(weights="hub/model"), built_on(weights="hub/other"), "llm.weights.name"),
        (built_on(weights="hub/model"), built_on(weights="/a/folder"), "llm.weights.name"),
    ],
)
def test_another_first_stage_or_language_model_is_refused(then: Any, now: Any, key: str) -> None:
    with pytest.raises(UserError, match=f"it was trained with {key}="):
        check(then, now)
