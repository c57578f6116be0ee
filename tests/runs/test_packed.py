"""Packed runs: read as a folder of runs is, or refused in one line."""

import pyarrow as pa
import pytest
from pyarrow import parquet

from recsys_lt.cli import table
from recsys_lt.errors import UserError
from recsys_lt.results.cells import cells_of
from recsys_lt.runs.listing import find_runs
from recsys_lt.runs.packed import FILE, content, runs_in
from recsys_lt.runs.ranks import read_ranks
from recsys_lt.runs.reading import read_curve
from studies.shared.kept import add
from tests.results.made import USERS, config_text, make_run


@pytest.fixture
def both(tmp_path):
    """The same runs in a folder and in a pack."""
    folder, pack = tmp_path / "folder", tmp_path / "pack" / FILE
    for number, loss in enumerate(("ce", "ce", "bce")):
        make_run(
            folder / f"sweep/{number}",
            0.5,
            loss=loss,
            seed=number,
            ranks=USERS % (5 + number),
            config=config_text(loss=loss),
        )
        (folder / f"sweep/{number}" / "learning_curve.csv").write_text("epoch,train/loss\n1,2.5\n")
    add(pack, {f"sweep/{number}": folder / "sweep" / f"{number}" for number in range(3)})
    return folder, pack


def test_a_pack_reads_as_the_folder_of_its_runs(both, capsys):
    folder, pack = both
    last = "sweep/1"
    for root, same in ((pack, folder), (pack.parent, folder), (pack / "sweep", folder), (pack / last, folder / last)):
        found, expected = find_runs(root), find_runs(same)
        assert [(run.metrics, run.config) for run in found] == [(run.metrics, run.config) for run in expected]
        for one, other in zip(found, expected, strict=True):
            curve, wanted = (read_curve(run.folder / "learning_curve.csv") for run in (one, other))
            assert curve == wanted == [{"epoch": 1, "train/loss": 2.5}]
            for a, b in zip(*(read_ranks(run.folder / "ranks.parquet") for run in (one, other)), strict=True):
                assert (a == b).all()
    said = []
    for root in both:
        assert table.main([str(root)]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert len(cells_of(find_runs(pack))) == 2


def test_paths_that_lead_nowhere_in_a_pack(both):
    _, pack = both
    assert runs_in(pack / "swee") == []
    assert content(pack / "sweep" / "9" / "metrics.json") is None
    assert content(pack / "sweep" / "0" / "best.ckpt") is None
    with pytest.raises(UserError, match="holds no metrics"):
        find_runs(pack / "swee")
    with pytest.raises(UserError, match="cannot be read as per-user ranks"):
        read_ranks(pack / "sweep" / "9" / "ranks.parquet")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.drop_columns("metrics"), "no one column metrics"),
        (lambda t: t.set_column(0, "run", pa.array([1, 2, 3])), "its column run is of int64"),
        (lambda t: t.set_column(0, "run", pa.array(["a", "a", "b"])), "'a' is no path of a run, or is there twice"),
        (lambda t: t.set_column(0, "run", pa.array(["a", "../b", "c"])), "leads out of it"),
        (lambda t: t.set_column(0, "run", pa.array(["a", "/b", "c"])), "'/b' is no path of a run"),
        (lambda t: t.set_column(0, "run", pa.array(["a", None, "c"])), "None is no path of a run"),
    ],
)
def test_what_is_no_pack_is_refused_in_one_line(both, change, reason):
    _, pack = both
    parquet.write_table(change(parquet.read_table(pack)), pack)
    with pytest.raises(UserError, match=rf"{pack}: cannot be read as packed runs \(.*{reason}"):
        find_runs(pack)


def test_another_file_and_broken_rows(both):
    _, pack = both
    table = parquet.read_table(pack)
    broken = pa.array(["{", *table["metrics"].to_pylist()[1:]])
    parquet.write_table(table.set_column(table.column_names.index("metrics"), "metrics", broken), pack)
    first, *others = find_runs(pack)
    assert first.broken.startswith("metrics.json: cannot be read as JSON")
    assert not any(run.broken for run in others)
    pack.write_bytes(b"text")
    with pytest.raises(UserError, match="cannot be read as packed runs"):
        find_runs(pack)
