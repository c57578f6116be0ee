"""Arguments as Hydra takes them."""

from pathlib import Path

import pytest

from recsys_lt.cli.arguments import as_meant, in_order
from recsys_lt.errors import UserError


@pytest.mark.parametrize(
    ("typed", "ordered"),
    [
        ("loss=ce --config-dir x seed=1", "--config-dir x loss=ce seed=1"),
        ("seed=1 -m optimizer.lr=-1", "--multirun seed=1 optimizer.lr=-1"),
        ("~seed --cfg=job -cd x", "--cfg job --config-dir x ~seed"),
        ("a=1 --hydra-help", "--hydra-help"),
    ],
)
def test_flags_come_first_with_their_values(typed: str, ordered: str) -> None:
    assert in_order(typed.split()) == ordered.split()


@pytest.mark.parametrize("typed", ["--nothing", "--config-dir", "seed=1 --cfg x"])
def test_a_flag_that_is_unknown_or_incomplete(typed: str) -> None:
    with pytest.raises(UserError, match=r"command line: .*--help says"):
        in_order(typed.split())


@pytest.mark.parametrize("adding", ["", "+", "++"])
def test_a_path_gets_quotes_however_its_key_is_given(adding: str, tmp_path: Path) -> None:
    (tmp_path / "a,b.csv").touch()
    typed = f"{adding}dataset.path={tmp_path}/a,b.csv"
    assert as_meant([typed]) == [f"{adding}dataset.path='{tmp_path}/a,b.csv'"]
