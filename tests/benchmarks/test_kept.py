import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kept.py"


@pytest.fixture
def kept():
    spec = importlib.util.spec_from_file_location("script_kept", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("finished", [True, False])
def test_what_is_kept_of_a_run(kept, tmp_path, finished):
    run, place = tmp_path / "run", tmp_path / "docs" / "cell"
    run.mkdir()
    for name in (*kept.SLIM, "last.ckpt"):
        (run / name).write_text(json.dumps({"finished": finished}))
    assert kept.keep(run, place) == finished
    assert place.exists() == finished
    if finished:
        assert sorted(path.name for path in place.iterdir()) == sorted(kept.SLIM)
    assert [path.name for path in place.parent.glob("*")] == ["cell"] * finished
