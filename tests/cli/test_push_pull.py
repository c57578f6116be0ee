import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from recsys_lt.cli import pull, push, recommend, table
from recsys_lt.training.build import PLACES
from recsys_lt.training.sharing import _for_others
from recsys_lt.training.trained import Run
from tests.cli.hub_server import hub

ROOT = Path(__file__).resolve().parents[2]
FILES = {"README.md", "config.yaml", "items.parquet", "metrics.json", "model.safetensors"}


@pytest.fixture
def pushed(titled, tmp_path, command):
    folder = tmp_path / "pushed"
    assert command(push, titled, folder)[0] == 0
    return folder


@pytest.fixture
def pulled(pushed, tmp_path, command):
    folder = tmp_path / "pulled"
    assert command(pull, pushed, folder)[0] == 0
    return folder


def history_of(run, user):
    u = list(run.data.user_ids).index(user)
    return [str(run.data.item_ids[i]) for i in run.data.items[run.data.offsets[u] : run.data.offsets[u + 1]]]


def test_no_place_of_this_machine_is_shared():
    places = {key: ["/home/me/one"] if key == "model.parts" else "/home/me/one" for key in PLACES}
    config = OmegaConf.create()
    for key, place in places.items():
        OmegaConf.update(config, key, place)
    shared = _for_others(SimpleNamespace(config=config, parts=SimpleNamespace(needs={}, start_from=None)))
    assert "/home/me" not in OmegaConf.to_yaml(shared)
    assert {key for key in PLACES if OmegaConf.select(shared, key) in ("one", ["one"])} == {
        key for key, named in PLACES.items() if named
    }


def test_a_shared_run_names_no_place_to_write_to_and_is_no_link(pushed, refused, tmp_path):
    card = pushed / "README.md"
    card.rename(tmp_path / "elsewhere.md")
    card.symlink_to(tmp_path / "elsewhere.md")
    assert "it is a link" in refused(pull, pushed, tmp_path / "pulled")
    config = pushed / "config.yaml"
    config.write_text(re.sub("cache_dir: .*", "cache_dir: /tmp/elsewhere", config.read_text()))
    assert "dataset.cache_dir is '/tmp/elsewhere'" in refused(pull, pushed, tmp_path / "pulled")


def test_a_pulled_run_recommends_as_its_original_without_the_dataset(titled, pushed, pulled, command, monkeypatch):
    from recsys_lt.data.dataset import Dataset

    run = Run(titled)
    history = history_of(run, "u3")
    known = run.recommend(histories={"": history}, k=7, reasons=True)
    shutil.rmtree(pushed)
    monkeypatch.setattr(Dataset, "load", lambda *_, **__: pytest.fail("the dataset is not needed"))
    found = Run(pulled).recommend(histories={"": history}, k=7, reasons=True)
    assert found.equals(known)
    code, out, _ = command(recommend, pulled, "--history", ",".join(history), "--k", 3)
    assert code == 0
    assert known.title[0] in out


def test_where_the_dataset_is_a_pulled_run_recommends_to_its_users(titled, pulled):
    assert Run(pulled).recommend(["u3"]).equals(Run(titled).recommend(["u3"]))


def test_what_is_pushed_says_nothing_of_this_machine(titled, pushed):
    assert {path.name for path in pushed.iterdir()} == FILES
    for name in FILES - {"items.parquet", "model.safetensors"}:
        assert str(titled.parent) not in (pushed / name).read_text()
    card = (pushed / "README.md").read_text()
    metrics = json.loads((titled / "metrics.json").read_text())
    assert f"| ndcg@10 | {metrics['test']['ndcg@10']:.4f} | " in card
    assert f"- split: {metrics['protocol']['split']}" in card
    assert "library_name: recsys_lt" in card


def test_a_pulled_run_stands_in_tables(titled, pulled, tmp_path, command):
    both = tmp_path / "both"
    shutil.copytree(pulled, both / "pulled")
    shutil.copytree(titled, both / "original")
    code, out, err = command(table, both)
    assert (code, err) == (0, "")
    assert "sasrec" in out


def test_folders_that_are_taken(titled, pushed, refused, tmp_path):
    assert "it exists already" in refused(push, titled, pushed)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert "it exists already" in refused(pull, pushed, tmp_path / "other")
    assert "it holds no shared run" in refused(pull, tmp_path / "other", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert "no such folder" in refused(push, tmp_path / "none", tmp_path / "new")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert "names no repository" in refused(pull, "hf://only_a_name")


def _config(change):
    def apply(folder):
        text = (folder / "config.yaml").read_text()
        assert change[0] in text
        (folder / "config.yaml").write_text(text.replace(*change))

    return apply


def _weights(change):
    def apply(folder):
        path = folder / "model.safetensors"
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            notes = file.metadata()
        weights, notes = change(load_file(path), notes)
        save_file(weights, path, metadata=notes)

    return apply


def _pickled(folder):
    (folder / "model.safetensors").write_bytes(pickle.dumps(os.getcwd))


def _items(folder):
    read = pq.read_table(folder / "items.parquet")
    pq.write_table(read.slice(1), folder / "items.parquet")


def _column(name, value):
    """The items with another first value in a column."""

    def apply(folder):
        read = pq.read_table(folder / "items.parquet")
        changed = pa.array([value, *read.column(name).to_pylist()[1:]])
        pq.write_table(read.set_column(read.column_names.index(name), name, changed), folder / "items.parquet")

    return apply


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_column("item", "i" * 300), "ids or counts are not those of items"),
        (_column("item", "i5"), "ids or counts are not those of items"),
        (_column("item", None), "its column item is not one of ours"),
        (_column("training_interactions", -1), "ids or counts are not those of items"),
        (_column("data.title", "t" * 3000), "longer texts"),
        (_config(("recsys_lt.losses.ce.CE", "subprocess.Popen")), "which is no class of this program"),
        (_config(("recsys_lt.backbones.sasrec.SASRec", "os.path.join")), "which is no class of this program"),
        (_config(("name: synthetic", "name: ${oc.env:HOME}")), "refers to another place"),
        (_config(("max_epochs: 2", "max_epochs: -2")), "max_epochs"),
        (_pickled, "cannot be read as safetensors"),
        (_items, "its items are not those of model.safetensors"),
        (lambda folder: (folder / "items.parquet").write_bytes(b"PAR1"), "no catalogue of items"),
        (lambda folder: pq.write_table(pa.table({"item": [1]}), folder / "items.parquet"), "no catalogue of items"),
        (lambda folder: (folder / "metrics.json").write_text("{}"), "does not say its dataset"),
        (_weights(lambda weights, notes: (weights, {})), "its notes are not those"),
        (_weights(lambda weights, notes: ({k: v * torch.nan for k, v in weights.items()}, notes)), "are not finite"),
    ],
)
def test_what_a_stranger_changed_is_refused(pushed, tmp_path, refused, change, says):
    change(pushed)
    assert says in refused(pull, pushed, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_weights_of_another_model_are_refused(pushed, tmp_path, command, refused):
    _weights(lambda weights, notes: (weights | {"more": torch.zeros(1)}, notes))(pushed)
    assert command(pull, pushed, tmp_path / "new")[0] == 0
    assert "not those of the model" in refused(recommend, tmp_path / "new", "--history", "i1,i2")


def test_a_title_does_not_command_the_terminal(pushed, tmp_path, command):
    _column("data.title", "\x1b[2Jgone")(pushed)
    assert command(pull, pushed, tmp_path / "new")[0] == 0
    code, out, _ = command(recommend, tmp_path / "new", "--history", "i0,i5")
    assert code == 0
    assert "?[2Jgone" in out
    assert "\x1b" not in out


def test_other_files_are_left_behind(pushed, tmp_path, command):
    (pushed / "setup.py").write_text("raise SystemExit")
    (pushed / "best.ckpt").write_bytes(b"")
    assert command(pull, pushed, tmp_path / "new")[0] == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == FILES - {"model.safetensors"} | {"best.ckpt"}
    assert (tmp_path / "new" / "best.ckpt").stat().st_size


def test_through_the_hub(titled, tmp_path):
    pytest.importorskip("huggingface_hub")

    def call(*arguments, server):
        environment = {
            "PYTHONPATH": str(ROOT),
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
            "HF_TOKEN": "stand-in",
            "HF_HOME": str(tmp_path / "hf"),
        }
        command = [sys.executable, "-m", "recsys_lt", *map(str, arguments)]
        return subprocess.run(command, env=dict(os.environ) | environment, capture_output=True, text=True, cwd=tmp_path)

    with hub() as server:
        done = call("push", titled, "hf://somebody/sasrec", server=server)
        assert (done.returncode, done.stderr) == (0, "")
        assert set(server.repositories["somebody/sasrec"]) == FILES
        assert server.created[0]["visibility" if "visibility" in server.created[0] else "private"] in ("private", True)
        server.repositories["somebody/sasrec"]["run_me.py"] = b"raise SystemExit"
        done = call("pull", "hf://somebody/sasrec", server=server)
        assert (done.returncode, done.stderr) == (0, "")
        done = call("pull", "hf://somebody/nothing", server=server)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
        assert "the Hub refuses it" in done.stderr
    folder = tmp_path / "outputs" / "sasrec"
    assert {path.name for path in folder.iterdir()} == FILES - {"model.safetensors"} | {"best.ckpt"}
    history = history_of(Run(titled), "u3")
    assert Run(folder).recommend(histories={"": history}).equals(Run(titled).recommend(histories={"": history}))
