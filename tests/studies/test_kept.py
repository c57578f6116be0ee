import json

import pytest

from studies.shared import kept


@pytest.mark.parametrize("finished", [True, False])
def test_what_is_kept_of_a_run(tmp_path, finished):
    run, place = tmp_path / "run", tmp_path / "docs" / "cell"
    run.mkdir()
    for name in (*kept.SLIM, "last.ckpt"):
        (run / name).write_text(json.dumps({"finished": finished}))
    assert kept.keep(run, place) == finished
    assert place.exists() == finished
    if finished:
        assert sorted(path.name for path in place.iterdir()) == sorted(kept.SLIM)
    assert [path.name for path in place.parent.glob("*")] == ["cell"] * finished
