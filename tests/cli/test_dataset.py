"""The card of a dataset from the command line."""

import json

import pytest

from recsys_lt.cli import dataset


@pytest.fixture
def log(tmp_path):
    rows = [f"u{user},i{(user * 7 + n * n) % 20},{n // 2}" for user in range(30) for n in range(6)]
    (tmp_path / "log.csv").write_text("user,item,timestamp\n" + "\n".join(rows) + "\n")
    titles = [f"i{n},{'Lamp' if n % 2 else 'Chair'} {n}" for n in range(20)]
    (tmp_path / "items.csv").write_text("item,title\n" + "\n".join(titles) + "\n")
    return tmp_path


def test_a_file_of_ones_own(log, command):
    own = (
        f"dataset.path={log / 'log.csv'}",
        f"dataset.items={log / 'items.csv'}",
        f"dataset.cache_dir={log / 'cache'}",
    )
    paths = ("--html", log / "card.html", "--json", log / "card.json")
    code, out, err = command(dataset, "file", *own, "dataset.k_core=1", *paths)
    assert (code, err) == (0, "")
    numbers = json.loads((log / "card.json").read_text())
    assert (numbers["dataset"], numbers["counts"]["users"], numbers["counts"]["events"]) == ("log", 30, 180)
    assert numbers["counts"]["equal_times"] == pytest.approx(3 / 5)
    assert numbers["titles"]["alike"] == numbers["text"]["items_with_text"] == numbers["counts"]["items"]
    html = (log / "card.html").read_text()
    for text in (out, html):
        assert "neighbour of the last item" in text
        assert "item graph, with text" in text
    ndcg = [row["ndcg@10"] for row in numbers["baselines"]]
    assert all(f"{value:.4f}" in out for value in ndcg)


def test_the_protocol_and_the_groups_are_those_of_a_run(log, command):
    own = ("dataset=file", f"dataset.path={log / 'log.csv'}", f"dataset.cache_dir={log / 'cache'}", "dataset.k_core=1")
    card = log / "card.json"
    assert command(dataset, *own, "--json", card)[0] == 0
    before = json.loads(card.read_text())
    keys = ("metrics.mask_seen=none", "metrics.groups=[0.5,0.3,0.2]", "metrics.max_users=10")
    assert command(dataset, *own, *keys, "--json", card)[0] == 0
    after = json.loads(card.read_text())
    assert (before["mask_seen"], after["mask_seen"]) == ("published", "none")
    assert before["popularity"]["groups"]["head"]["items"] < after["popularity"]["groups"]["head"]["items"]
    assert (before["next_item"]["users"], after["next_item"]["users"]) == (30, 10)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["beuaty"], ["beuaty", "beauty"]),
        (["file"], ["dataset.path"]),
        (["file", "dataset.path=nowhere.csv"], ["nowhere.csv", "no such file"]),
        (["synthetic", "colour=blue"], ["colour"]),
        (["synthetic", "--config-dir", "nowhere"], ["nowhere"]),
    ],
)
def test_what_is_no_dataset_is_refused_in_one_line(arguments, words, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path / "cache"))
    said = refused(dataset, *arguments)
    assert [word for word in words if word not in said] == []
