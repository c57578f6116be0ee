"""learning_curve.csv: what is read of one that is broken."""

import pytest

from recsys_lt.runs.reading import read_curve

LONG = b"epoch,a\n1," + b"9" * 200_000  # more than the csv module takes


def test_epochs_have_the_numbers_they_have(tmp_path):
    path = tmp_path / "learning_curve.csv"
    path.write_text("epoch,valid/ndcg@10,train/loss\n0,0.1,\n1,,7\n2,nan,inf\n,3,4\n")
    assert read_curve(path) == [{"epoch": 0, "valid/ndcg@10": 0.1}, {"epoch": 1, "train/loss": 7}, {"epoch": 2}]


@pytest.mark.parametrize(
    "content",
    [b"", b"epoch,a\n1,x\n", b"\xff\xfe", LONG, b"epoch,a\n1,2,3,4\nx", b"\0,\0\n\0"],
)
def test_what_is_no_curve_is_none(tmp_path, content):
    path = tmp_path / "learning_curve.csv"
    assert read_curve(path) == []
    path.write_bytes(content)
    assert read_curve(path) == []
    path.unlink()
    path.mkdir()
    assert read_curve(path) == []
