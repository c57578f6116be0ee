"""What is kept of finished runs, and that it is all there again."""

import json
import threading

import pytest
from pyarrow import parquet

from recsys_lt.errors import UserError
from recsys_lt.runs.packed import FILE, content, packed_ranks, runs_in
from studies.shared import kept
from tests.results.made import USERS, config_text, make_run


def made(folder, seed=0, finished=True):
    make_run(folder, 0.5, seed=seed, ranks=USERS % 5, config=config_text(seed=seed))
    path = folder / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"finished": finished}))
    (folder / "learning_curve.csv").write_text("epoch,train/loss\n1,2.5\n")
    return folder


def test_a_run_that_is_kept_can_be_made_again(tmp_path):
    one, other = (made(tmp_path / name, seed=seed) for seed, name in enumerate(("one", "other")))
    pack = tmp_path / "kept" / FILE
    assert kept.keep(other, pack / "sub" / "b")
    assert kept.keep(one, pack / "a", ranks=False)
    assert runs_in(pack) == [pack / "a", pack / "sub" / "b"]
    assert packed_ranks(pack / "a" / "ranks.parquet") is None
    assert kept.main(["unpack", str(pack), str(tmp_path / "again")]) == 0
    for name, run in (("a", one), ("sub/b", other)):
        for file in ("metrics.json", "config.yaml", "learning_curve.csv"):
            assert (tmp_path / "again" / name / file).read_bytes() == (run / file).read_bytes()
            assert content(pack / name / file) == (run / file).read_bytes()
    before, after = (parquet.read_table(run / "ranks.parquet") for run in (other, tmp_path / "again" / "sub" / "b"))
    assert before.to_pydict() == after.to_pydict()
    assert kept.main(["pack", str(tmp_path / "again"), str(tmp_path / "second.parquet")]) == 0
    assert parquet.read_table(tmp_path / "second.parquet").equals(parquet.read_table(pack))


def test_what_is_not_kept(tmp_path):
    pack = tmp_path / FILE
    assert not kept.keep(made(tmp_path / "begun", finished=False), pack / "begun")
    assert not pack.exists()
    done = made(tmp_path / "done")
    assert kept.keep(done, pack / "done")
    before = pack.read_bytes()
    with pytest.raises(UserError, match="kept already"):
        kept.keep(done, pack / "done")
    assert pack.read_bytes() == before
    with pytest.raises(UserError, match="kept in a Parquet file"):
        kept.keep(done, tmp_path / "folder" / "done")


def test_processes_may_keep_at_the_same_time(tmp_path):
    run = made(tmp_path / "run")
    threads = [threading.Thread(target=kept.keep, args=(run, tmp_path / FILE / f"{n}")) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in runs_in(tmp_path / FILE)] == list("012345")
