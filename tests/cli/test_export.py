import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from recsys_lt.cli import export
from recsys_lt.training.trained import Run

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

BACKBONES = (
    "sasrec", "esasrec", "bert4rec", "cotten4rec", "linrec", "causal_linrec", "hstu", "bsarec", "fmlp_rec", "gru4rec",
    "lrurec", "pop",
)  # fmt: skip


def scores(path, windows):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["scores"], {"items": windows})[0]


def test_an_exported_run_ranks_as_recommend_does(titled, command, tmp_path):
    onnx, vectors = tmp_path / "new" / "model.onnx", tmp_path / "vectors.parquet"
    code, out, err = command(export, titled, "--onnx", onnx, "--vectors", vectors)
    assert (code, err) == (0, "")
    assert "items [batch, 50] to scores [batch, 60]" in out
    assert [path.name for path in onnx.parent.iterdir()] == ["model.onnx"]  # weights within
    run = Run(titled)
    table = pq.read_table(vectors)
    ids = table.column("item").to_pylist()
    assert ids == run.data.item_ids.tolist()
    assert table.column("title").to_pylist() == run.data.titles.tolist()
    assert torch.equal(torch.tensor(table.column("vector").to_pylist()), run.model.model.output_table().weight)
    users = ["u3", "u0", "u7"]
    windows = np.full((3, 50), -1)
    for row, user in zip(windows, users, strict=True):
        u = list(run.data.user_ids).index(user)
        history = run.data.items[run.data.offsets[u] : run.data.offsets[u + 1]]
        row[50 - len(history) :] = history
    found = scores(onnx, windows)
    for row, window, one in zip(found, windows, run.lists(users, k=10), strict=True):
        order = [v for v in np.argsort(-row, kind="stable") if v not in set(window)][:10]
        assert [ids[v] for v in order] == [item.item for item in one.items]
        np.testing.assert_allclose(row[order], [item.score for item in one.items], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_with_a_padded_form_is_exported(name, tmp_path):
    from recsys_lt.data.facts import DataFacts
    from recsys_lt.recommenders.onnx_file import windows, write_onnx
    from tests.backbones.test_padded import MODELS

    torch.manual_seed(0)
    model = MODELS[name](DataFacts(n_users=40, n_items=30, popularity=torch.arange(30) % 7)).eval()
    write_onnx(tmp_path / "model.onnx", model, {"of": name})
    for rows in (1, 11):  # the example has five
        items = windows(30, model.max_length, rows)
        with torch.no_grad():
            states = model.padded_states(items.clamp(min=0), items >= 0)
            plain = model.output_table().block(states, 0, 30)
        np.testing.assert_allclose(scores(tmp_path / "model.onnx", items.numpy()), plain, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_exported_is_one_line(titled, refused, tmp_path, monkeypatch):
    assert "Add --onnx FILE" in refused(export, titled)
    (tmp_path / "file").touch()
    assert "is in the way" in refused(export, titled, "--vectors", tmp_path / "file" / "vectors.parquet")
    monkeypatch.setattr("recsys_lt.system.package.find_spec", lambda name: None)
    assert "recsys_lt[export]" in refused(export, titled, "--onnx", tmp_path / "model.onnx")
    monkeypatch.undo()
    monkeypatch.setattr("recsys_lt.recommenders.onnx_file._scores_of", lambda path, items: np.zeros(1))
    assert "scores differ by up to" in refused(export, titled, "--onnx", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_model_without_a_padded_form_is_refused(tmp_path, train, refused):
    sizes = ("dataset=synthetic", "dataset.source.n_users=80", "dataset.source.n_items=60")
    folder = train(tmp_path / "run", *sizes, "model=caser")
    assert "Caser has no padded form" in refused(export, folder, "--onnx", tmp_path / "model.onnx")
