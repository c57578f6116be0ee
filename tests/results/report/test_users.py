import json
import re
import shutil

import pytest
from pyarrow import parquet

from recsys_lt.cli import report
from tests.results.report.runs import written


@pytest.fixture(scope="module")
def trained(tmp_path_factory, train):
    """A sweep of two cells: a run on data with titles, and the same one under another name."""
    root = tmp_path_factory.mktemp("users")
    first = train(root / "run", "dataset=synthetic", "dataset.source.n_users=80", "dataset.source.n_items=60")
    for name in "ab":
        shutil.copytree(first, root / "sweep" / name)
    path = root / "sweep" / "b" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["loss"] = "another"
    path.write_text(json.dumps(metrics))
    return root / "sweep"


def users_of(page):
    articles = re.findall(r"(?s)<article>(.*?)</article>", page)
    return {re.search(r"<h4>User (.*?)</h4>", article)[1]: article for article in articles}


def test_lists_are_those_the_test_ranked(trained, tmp_path):
    from recsys_lt.training.trained import Run

    data = Run(trained / "a").data
    ranks = parquet.read_table(trained / "a" / "ranks.parquet").to_pydict()
    rank_of = dict(zip(ranks["user"], ranks["rank"], strict=True))
    groups = dict(zip(ranks["user"], ranks["group"], strict=True))
    page = written(trained / "a", tmp_path / "x.html", users=12).read_text()
    shown = users_of(page)
    assert len(shown) == 12
    rows = [list(data.user_ids).index(user) for user in shown]
    assert len({groups[row] for row in rows}) == len(set(ranks["group"]))  # of each group there is
    hits = 0
    for row, article in zip(rows, shown.values(), strict=True):
        target = data.items[data.offsets[row] + data.test_at[row]]
        assert f'<p class="target">{data.titles[target]}</p>' in article
        before = data.items[data.offsets[row] + data.test_at[row] - 1]
        assert re.findall(r"<li>([^<]*)</li>", article)[-1] == data.titles[before]
        rank = rank_of[row]
        assert f"rank: {rank} of {data.n_items}" in article
        listed = re.findall(r"<li( class=\"hit\")?>(.*?) <small>", article)
        assert len(listed) == 10
        assert [place for place, (hit, _) in enumerate(listed, 1) if hit] == ([rank] if rank <= 10 else [])
        hits += rank <= 10
    assert hits


def test_a_sweep_asks_two_cells_about_the_same_users(trained, tmp_path):
    page = written(trained, tmp_path / "x.html").read_text()
    shown = users_of(page)
    assert len(shown) == 4
    for article in shown.values():
        lists = re.findall(r"(?s)<ol>(.*?)</ol>", article)
        assert len(lists) == 2
        assert lists[0] == lists[1]  # the same model
    assert written(trained, tmp_path / "y.html").read_text() == page  # drawn the same each time


def test_a_broken_checkpoint_costs_the_users_alone(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "sweep")
    (tmp_path / "sweep" / "b" / "best.ckpt").write_bytes(b"no checkpoint")
    page = written(tmp_path / "sweep").read_text()
    assert "Cell 2 (another) is not asked: best.ckpt: " in page
    assert all(article.count("<ol>") == 1 for article in users_of(page).values())
    (tmp_path / "sweep" / "b" / "best.ckpt").unlink()
    page = written(tmp_path / "sweep").read_text()
    assert "Cell 2 (another) is not asked: its runs hold no best.ckpt or no ranks.parquet." in page
    assert str(tmp_path) not in page


def test_the_data_are_described_where_it_is_asked(trained, tmp_path):
    place = tmp_path / "x.html"
    assert 'id="data"' not in written(trained, place).read_text()
    report.main([str(trained), "--out", str(place), "--data"])
    page = place.read_text()
    part = page[page.index('<section id="data">') : page.index('<section id="run">')]
    assert "<dt>users</dt><dd>80</dd>" in part
    assert "What counting reaches" in part
    shutil.copytree(trained, tmp_path / "bare")
    for name in "ab":
        (tmp_path / "bare" / name / "best.ckpt").unlink()
    report.main([str(tmp_path / "bare"), "--out", str(place), "--data"])
    assert "The data are not described: no run holds best.ckpt" in place.read_text()
