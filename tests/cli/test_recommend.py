import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from recsys_lt.cli import recommend
from recsys_lt.metrics.groups import GROUPS, ItemGroups
from recsys_lt.runs.checkpoints import load
from recsys_lt.runs.stored import stored
from recsys_lt.training.build import build
from recsys_lt.training.trained import Run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def untitled(tmp_path_factory, train):
    """A run on a file whose user ids are numbers; user 9 has seen every item."""
    folder = tmp_path_factory.mktemp("untitled")
    events(folder / "mine.csv", seed=0)
    return train(folder / "run", "dataset=file", "dataset.path=mine.csv", "dataset.k_core=1", "model.width=8")


def events(path, seed):
    random = np.random.default_rng(seed)
    lines = ["user,item"]
    for user in range(100, 140):
        lines += [f"{user},{item}" for item in random.permutation(30)[:8]]
    path.write_text("\n".join(lines + [f"9,{item}" for item in range(30)]) + "\n")


@pytest.fixture
def call(capsys):
    def run(*arguments):
        code = recommend.main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return run


def fails(call, *arguments):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    return err


def trained(folder):
    parts = build(stored(folder).config)
    data = parts.dataset.load(lambda line: None)
    module = parts.recommender(data)
    module.load_state_dict(load(folder / "best.ckpt", events=data.fingerprint)["state_dict"])
    return module.eval(), data


def expected(folder, user, masked=True):
    """The catalogue in the model's order, from a history cut by hand."""
    from recsys_lt.data.batch import Batch

    module, data = trained(folder)
    row = list(data.user_ids).index(user)
    history = data.items[data.offsets[row] : data.offsets[row + 1]].astype(np.int64)
    read = torch.from_numpy(history[-module.backbone.max_length :])
    batch = Batch(
        users=torch.tensor([row]),
        items=read,
        offsets=torch.tensor([0, len(read)]),
        lengths=(len(read),),
        targets=torch.zeros(0, dtype=torch.int64),
        streams=torch.tensor([row]),
    )
    with torch.inference_mode():
        scores = (module.backbone.user_states(batch) @ module.backbone.output_table().weight.T)[0].numpy()
    order = np.argsort(-scores, kind="stable")
    return [i for i in order if not masked or i not in set(history)], scores, data


def test_the_list_is_the_argsort_of_states_times_table_without_what_was_seen(titled):
    lists = list(Run(titled).lists(["u3", "u0", "u3"], k=7))
    assert [one.user for one in lists] == ["u3", "u0"]  # as asked, each once
    for one in lists:
        order, scores, data = expected(titled, one.user)
        groups = ItemGroups(data.popularity).of
        assert [i.item for i in one.items] == [data.item_ids[i] for i in order[:7]]
        assert [i.title for i in one.items] == [data.titles[i] for i in order[:7]]
        assert [i.group for i in one.items] == [GROUPS[groups[i]] for i in order[:7]]
        assert [i.interactions for i in one.items] == [data.popularity[i] for i in order[:7]]
        assert [i.rank for i in one.items] == list(range(1, 8))
        np.testing.assert_allclose([i.score for i in one.items], scores[order[:7]], rtol=1e-4, atol=1e-6)


def test_the_history_is_whole(titled):
    (one,) = Run(titled).lists(["u5"], k=1)
    _, data = trained(titled)
    row = list(data.user_ids).index("u5")
    history = data.items[data.offsets[row] : data.offsets[row + 1]]
    assert one.events == len(history)
    assert one.recent == tuple((data.item_ids[i], data.titles[i]) for i in history[-5:])


def test_masking_follows_the_run(titled, tmp_path):
    unmasked = tmp_path / "unmasked"
    shutil.copytree(titled, unmasked)
    text = (titled / "config.yaml").read_text()
    (unmasked / "config.yaml").write_text(text.replace("mask_seen: published", "mask_seen: none"))
    (one,) = Run(unmasked).lists(["u3"], k=60)
    order, _, data = expected(titled, "u3", masked=False)
    assert [i.item for i in one.items] == [data.item_ids[i] for i in order]


def test_what_is_printed(titled, call):
    code, out, err = call(titled, "--user", "u3", "--user", "u4", "--k", 3)
    assert (code, err) == (0, "")
    first, *_ = Run(titled).lists(["u3"], k=3)
    assert f"user u3: {first.events} events" in out
    assert "user u4: " in out
    for item in first.items:
        line = next(line for line in out.splitlines() if line.split()[:2] == [str(item.rank), item.item])
        assert item.title in line
        assert line.split()[-2:] == [item.group, str(item.interactions)]


def test_csv(titled, call, tmp_path):
    code, _, _ = call(titled, "--user", "u3", "u4", "--k", 4, "--csv", tmp_path / "new" / "out.csv")
    assert code == 0
    with (tmp_path / "new" / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["user"], row["rank"]) for row in rows] == [(u, str(r)) for u in ("u3", "u4") for r in range(1, 5)]
    (one, _) = Run(titled).lists(["u3", "u4"], k=4)
    assert [row["item"] for row in rows[:4]] == [item.item for item in one.items]
    (tmp_path / "file").touch()
    assert "is in the way" in fails(call, titled, "--user", "u3", "--csv", tmp_path / "file" / "out.csv")


def test_no_titles_and_nothing_left_to_recommend(untitled, call, monkeypatch):
    monkeypatch.chdir(untitled.parent)  # the file was named relative to it
    code, out, _ = call(untitled, "--user", "100", "9")
    assert code == 0
    assert "title" not in out
    assert "user 9: 30 events" in out
    assert "Only 0 items" in out


def test_titles_are_no_markup(titled, call, monkeypatch):
    from recsys_lt.data.dataset import Dataset

    whole = Dataset.load

    def bracketed(self, announce, **options):
        data = whole(self, announce, **options)
        object.__setattr__(data, "titles", np.array([f"[b]Film[/i] {i}" for i in range(data.n_items)]))
        return data

    monkeypatch.setattr(Dataset, "load", bracketed)
    code, out, _ = call(titled, "--user", "u3")
    assert code == 0
    assert "[b]Film[/i]" in out


def test_unknown_user(titled, call):
    error = fails(call, titled, "--user", "3")
    assert "no user '3'" in error
    named = error.rsplit("such as ", 1)[1].strip().rstrip(".").split(", ")
    assert len(named) == 3
    assert len(list(Run(titled).lists(named, k=1))) == 3


@pytest.mark.parametrize(("k", "said"), [(0, "it is 0"), (-3, "it is -3"), (61, "from 1 to 60")])
def test_k_that_fits_no_catalogue(titled, call, k, said):
    assert said in fails(call, titled, "--user", "u3", f"--k={k}")


def test_no_run_folder(tmp_path, titled, call):
    assert "no such folder" in fails(call, tmp_path / "none", "--user", "u3")
    assert "no config.yaml" in fails(call, tmp_path, "--user", "u3")
    shutil.copy(titled / "config.yaml", tmp_path)
    assert "no best.ckpt" in fails(call, tmp_path, "--user", "u3")


def test_broken_files(tmp_path, titled, call):
    folder = tmp_path / "run"
    shutil.copytree(titled, folder)
    whole = (folder / "best.ckpt").read_bytes()
    (folder / "best.ckpt").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read as a checkpoint" in fails(call, folder, "--user", "u3")
    (folder / "best.ckpt").write_bytes(whole)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("width: 8", "width: 16"))
    assert "trained with model.width=8, and now it is 16" in fails(call, folder, "--user", "u3")
    (folder / "config.yaml").write_text(text.replace("losses.ce.CE", "losses.ce.EC"))
    assert "loss" in fails(call, folder, "--user", "u3")
    for malformed in ("a: [", "- 1\n", "", "seed: 0\n"):
        (folder / "config.yaml").write_text(malformed)
        assert "config.yaml" in fails(call, folder, "--user", "u3")


def _without(key):
    return lambda kept: {name: value for name, value in kept.items() if name != key}


def _with_weights(change):
    return lambda kept: kept | {"state_dict": change(kept["state_dict"])}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda _kept: [1, 2], "not a checkpoint of this program"),
        (_without("recsys_lt"), "not a checkpoint of this program"),
        (lambda kept: kept | {"recsys_lt": 5}, "not a checkpoint of this program"),
        (lambda kept: kept | {"recsys_lt": {"format": 1}}, "recsys_lt 0.1.0 reads runs"),
        (lambda kept: kept | {"recsys_lt": {"items": 7}}, "not a checkpoint of this program"),
        (lambda kept: kept | {"recsys_lt": kept["recsys_lt"] | {"trained_as": 5}}, "its notes cannot be read"),
        (_without("state_dict"), "it holds no weights"),
        (lambda kept: kept | {"state_dict": {"a": 1}}, "it holds no weights"),
        (_without("notes"), "it is no best.ckpt (it holds no notes)"),
        (_with_weights(lambda w: {k: v * float("nan") for k, v in w.items()}), "its weights are not finite"),
        (_with_weights(lambda w: {k: v.to_sparse() for k, v in w.items()}), "is no plain tensor"),
        (_with_weights(lambda w: {k: v.to("meta") for k, v in w.items()}), "is no plain tensor"),
        (_with_weights(lambda w: dict(list(w.items())[1:])), "not those of the model in config.yaml"),
        (_with_weights(lambda w: w | {"more": torch.zeros(1)}), "not those of the model in config.yaml"),
    ],
)
def test_a_checkpoint_with_another_content(tmp_path, titled, call, change, says):
    folder = shutil.copytree(titled, tmp_path / "run")
    torch.save(change(torch.load(folder / "best.ckpt", weights_only=True)), folder / "best.ckpt")
    assert says in fails(call, folder, "--user", "u3")


def test_a_checkpoint_that_is_another_file(tmp_path, titled, call):
    folder = shutil.copytree(titled, tmp_path / "run")
    (folder / "last.ckpt").rename(folder / "best.ckpt")
    assert "it is no best.ckpt" in fails(call, folder, "--user", "u3")
    (folder / "best.ckpt").unlink()
    (folder / "best.ckpt").mkdir()
    assert "no best.ckpt" in fails(call, folder, "--user", "u3")


@pytest.mark.parametrize("change", ["width: 8|width: 16", "blocks: 2|blocks: 3", "max_length: 50|max_length: 40"])
def test_a_model_of_another_shape(tmp_path, titled, call, change):
    folder = shutil.copytree(titled, tmp_path / "run")
    text = (folder / "config.yaml").read_text()
    before, after = change.split("|")
    assert before in text
    (folder / "config.yaml").write_text(text.replace(before, after))
    was, now = f"model.{before.replace(': ', '=')}", after.partition(": ")[2]
    assert f"trained with {was}, and now it is {now}" in fails(call, folder, "--user", "u3")


def test_checkpoint_of_other_data(tmp_path, untitled, call):
    folder = tmp_path / "run"
    shutil.copytree(untitled, folder)
    events(tmp_path / "other.csv", seed=1)
    config = OmegaConf.load(folder / "config.yaml")
    config.dataset.path = str(tmp_path / "other.csv")
    OmegaConf.save(config, folder / "config.yaml")
    assert "another dataset" in fails(call, folder, "--user", "100")
    config.dataset.path = str(tmp_path / "gone.csv")
    OmegaConf.save(config, folder / "config.yaml")
    assert "gone.csv" in fails(call, folder, "--user", "100")


def test_a_first_answer_imports_nothing_of_training(titled):
    command = [sys.executable, "-X", "importtime", "-m", "recsys_lt", "recommend", str(titled), "--user", "u3"]
    done = subprocess.run(command, env=dict(os.environ) | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "torch" in imported
    # Three seconds, one and a half (of torch._dynamo), half a second.
    assert not {"pytorch_lightning", "sympy", "matplotlib"} & imported
    assert "torch._dynamo" not in done.stderr


def test_help_is_quick():
    imported = "import sys, recsys_lt.cli.recommend; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", imported], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_all_users_to_csv_and_parquet(titled, call, tmp_path, monkeypatch):
    import pandas as pd

    monkeypatch.setattr(recommend, "_USERS", 32)  # several tables, one header
    code, out, err = call(titled, "--all", "--k", 5, "--csv", tmp_path / "all.csv")
    assert (code, err) == (0, "")
    assert out == f"{tmp_path / 'all.csv'}: lists of 80 users\n"
    assert call(titled, "--all", "--k", 5, "--parquet", tmp_path / "all.parquet")[0] == 0
    written = pd.read_csv(tmp_path / "all.csv")
    run = Run(titled)
    users = [str(user) for user in run.data.user_ids]
    expected = run.recommend(users, k=5)
    pd.testing.assert_frame_equal(written, expected, check_dtype=False, rtol=1e-6)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "all.parquet"), expected, check_dtype=False)
    assert "Add --csv FILE" in fails(call, titled, "--all")


def test_users_of_a_file(titled, call, tmp_path):
    (tmp_path / "users.txt").write_text("u4\n\nu3\nu4\n")
    code, out, _ = call(titled, "--users", tmp_path / "users.txt", "--k", 2)
    assert code == 0
    assert out.index("user u4: ") < out.index("user u3: ")
    (tmp_path / "empty.txt").write_text("\n")
    assert "it is empty" in fails(call, titled, "--users", tmp_path / "empty.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    assert "no UTF-8 text" in fails(call, titled, "--users", tmp_path / "binary.txt")
    assert "no such file" in fails(call, titled, "--users", tmp_path / "none.txt")


def test_histories_of_nobody_in_the_data(titled, call, tmp_path):
    _, data = trained(titled)
    row = list(data.user_ids).index("u3")
    history = [str(data.item_ids[i]) for i in data.items[data.offsets[row] : data.offsets[row + 1]]]
    (known,) = Run(titled).lists(["u3"], k=6)
    code, out, err = call(titled, "--history", ",".join([*history, "nothing"]), "--k", 6)
    assert (code, err) == (0, f"note: 1 events are left out: {data.name} does not have their items\n")
    assert [line.split()[1] for line in out.splitlines() if line.split()[:1] in [[str(n)] for n in range(1, 7)]][
        -6:
    ] == [item.item for item in known.items]
    # In a file they stand in any order, with times.
    rows = [f"a,{item},{time}" for time, item in enumerate(history)] + [f"b,{history[0]},5"]
    (tmp_path / "new.csv").write_text("\n".join(["user,item,timestamp", *reversed(rows)]))
    assert call(titled, "--histories", tmp_path / "new.csv", "--k", 6, "--csv", tmp_path / "out.csv")[0] == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        written = [(row["user"], row["item"]) for row in csv.DictReader(file)]
    assert [item for user, item in written if user == "a"] == [item.item for item in known.items]
    assert sum(user == "b" for user, _ in written) == 6
    with (tmp_path / "new.csv").open("a") as file:
        file.write("\nc,nothing,1\n")
    _, out, err = call(titled, "--histories", tmp_path / "new.csv", "--csv", tmp_path / "out.csv")
    assert out.endswith("lists of 2 users\n")
    assert "note: 1 of 3 users are left out" in err
    assert "files of this kind" in fails(call, titled, "--histories", tmp_path / "new.xlsx")
    assert "no such file" in fails(call, titled, "--histories", tmp_path / "none.csv")
    assert "known item" in fails(call, titled, "--history", "nothing")


def test_histories_have_the_headers_of_the_run_or_the_usual_ones(tmp_path, train, call):
    events(tmp_path / "mine.csv", seed=0)
    rows = (tmp_path / "mine.csv").read_text()
    (tmp_path / "mine.csv").write_text(rows.replace("user,item", "customer,sku"))
    names = ("dataset.columns={user: customer, item: sku}", "dataset.k_core=1", "model=pop")
    run = train(tmp_path / "run", "dataset=file", "dataset.path=mine.csv", *names)
    written = []
    for headers in ("customer,sku", "user,sku", "user,item"):
        (tmp_path / "new.csv").write_text(f"{headers}\na,3\na,4\n")
        assert call(run, "--histories", tmp_path / "new.csv", "--csv", tmp_path / "out.csv")[0] == 0
        written.append((tmp_path / "out.csv").read_text())
    assert len(set(written)) == 1
    (tmp_path / "new.csv").write_text("client,sku\na,3\n")
    line = fails(call, run, "--histories", tmp_path / "new.csv")
    assert "new.csv: no column named user (found: client, sku). Rename the columns to user, item and timestamp." in line


@pytest.mark.parametrize("masked", ["published", "none"])
def test_excluded_items_are_recommended_to_nobody(titled, call, tmp_path, masked):
    folder = tmp_path / "run"
    shutil.copytree(titled, folder)
    text = (titled / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("mask_seen: published", f"mask_seen: {masked}"))
    run = Run(folder)
    one, other = run.lists(["u3", "u4"], k=8)
    gone = [one.items[0].item, one.items[3].item, other.items[1].item]
    for before, after in zip((one, other), run.lists(["u3", "u4"], k=5, exclude=gone), strict=True):
        assert [i.item for i in after.items] == [i.item for i in before.items if i.item not in gone][:5]
    (tmp_path / "gone.txt").write_text("\n".join([gone[0], "unheard of"]))
    _, out, err = call(folder, "--user", "u3", "--exclude-file", tmp_path / "gone.txt", "--exclude", gone[1], "--k", 60)
    assert "1 of 3 excluded ids are no items" in err
    listed = out.partition("recommended next")[2].split()
    assert gone[2] in listed
    assert not {gone[0], gone[1]} & set(listed)


def test_reasons_are_the_drops_of_the_score_without_an_event(titled, call, tmp_path):
    (one,) = Run(titled).lists(["u3"], k=3, reasons=True)
    _, _, data = expected(titled, "u3", masked=False)
    row = list(data.user_ids).index("u3")
    history = [str(data.item_ids[i]) for i in data.items[data.offsets[row] : data.offsets[row + 1]]]

    def centred(events):
        run = Run(titled)
        object.__setattr__(run.model, "mask_seen", "none")
        (found,) = run.lists(histories={"": events}, k=data.n_items)
        scores = {item.item: item.score for item in found.items}
        return {item: score - np.mean(list(scores.values())) for item, score in scores.items()}

    whole = centred(history)
    for item in one.items:
        drops = [whole[item.item] - centred(history[:e] + history[e + 1 :])[item.item] for e in range(len(history))]
        best = np.argsort(drops)[::-1][:3]
        assert [r.item for r in item.reasons] == [history[e] for e in best if drops[e] > 0]
        np.testing.assert_allclose([r.drop for r in item.reasons], [drops[e] for e in best if drops[e] > 0], rtol=1e-3)
    code, out, _ = call(titled, "--user", "u3", "--reasons", "--k", 3)
    assert code == 0
    assert f"{one.items[0].reasons[0].item} ({one.items[0].reasons[0].drop:.3g})" in out
    call(titled, "--user", "u3", "--reasons", "--k", 3, "--csv", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert [item for item, _ in json.loads(first["reasons"])] == [r.item for r in one.items[0].reasons]


def test_the_reason_of_a_single_event_is_that_event(titled):
    _, data = trained(titled)
    (one,) = Run(titled).lists(histories={"": [str(data.item_ids[3])]}, k=2, reasons=True)
    assert [[r.item for r in item.reasons] for item in one.items] == [[str(data.item_ids[3])]] * 2
    assert all(np.isnan(r.drop) for item in one.items for r in item.reasons)


def test_scores_without_their_order_give_the_same_drops(titled, monkeypatch):
    from recsys_lt.recommenders import reasons

    run = Run(titled)
    quick = run.recommend(["u3", "u4"], k=4, reasons=True)
    monkeypatch.setattr(reasons, "SequentialRecommender", int)  # any recommender: by its ranking
    assert run.recommend(["u3", "u4"], k=4, reasons=True).equals(quick)
