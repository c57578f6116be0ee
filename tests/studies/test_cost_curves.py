import json

import pytest

from studies.speed import cost_curves


@pytest.fixture
def script(monkeypatch, tmp_path):
    monkeypatch.setenv("RECSYS_LT_CACHE", str(tmp_path / "cache"))
    module = cost_curves
    monkeypatch.setattr(module, "alone", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(module, "DATA", ("dataset=synthetic", "dataset.source.n_users=80"))
    monkeypatch.setattr(module, "MIDDLE", {module.ITEMS: 300, module.K: 20, module.BATCH: 16, module.LENGTH: 9})
    monkeypatch.setattr(module, "AXES", {module.ITEMS: (200, 400), module.K: (5, 10), module.BATCH: (8, 16)})
    return module


def test_it_measures_saves_and_draws(script, tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(script.compare, "installed", lambda *_: None)
    monkeypatch.setattr(script.compare, "export", lambda *_: "made up")

    def run_peer(peer, given, data, rows):
        asked.append((peer.folder, given.overrides, rows))
        return {"seconds": 2.0, "targets": 1000}

    monkeypatch.setattr(script.compare, "run_peer", run_peer)
    options = ["--axes", "items", "k", "batch", "--peers", "recbole", "replay", "--steps", "1"]
    assert script.main([*options, "--results", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "cost-curves.json").read_text())
    curves = result["microseconds_a_target"]
    assert {axis: set(by_name) for axis, by_name in curves.items()} == {
        script.ITEMS: {script.CE, script.OWN, script.SHARED, "recbole", "replay"},
        script.K: {script.CE, script.OWN, script.SHARED},
        script.BATCH: {script.CE, script.OWN, script.SHARED, "recbole", "replay"},
    }
    assert curves[script.ITEMS]["replay"] == {"200": 2000.0, "400": 2000.0}
    assert list(curves[script.K][script.CE]) == ["5", "10"]
    # A row of RecBole's is a prefix: as many as 16 users have targets.
    assert {rows for folder, _, rows in asked if folder == "recbole"} == {16 * 6, 8 * 6}
    assert all("loss.k" not in " ".join(overrides) for _, overrides, _ in asked)
    assert (tmp_path / "cost-curves.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count("us a target") == 6


def test_what_does_not_fit_is_left_out(script, monkeypatch):
    monkeypatch.setattr(script, "LARGEST", 0.0)
    assert script.theirs("replay", script.Point(script.ITEMS, 400), 1, None) is None


def test_what_the_user_can_mend(script, tmp_path, capsys):
    for arguments in (["--steps", "0"], ["--peers", "nobody"], ["--peers", "replay", "--environments", str(tmp_path)]):
        assert script.main(arguments) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
