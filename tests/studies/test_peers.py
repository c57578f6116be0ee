import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from recsys_lt.errors import UserError
from studies.speed.peers import compare, driver, export, install
from tests.data.small_sequences import sequences_of

PEERS = Path(install.__file__).parent

THEIRS = {
    "package": "peer",
    "seconds": 120.0,
    "peak_rss_mb": 3000.0,
    "evaluate_seconds": 6.0,
    "evaluate_peak_rss_mb": 3100.0,
    "rows": 1000,
    "batch_rows": 100,
    "targets": 900,
    "trains": "every position",
    "timed_steps": 5,
    "steps_an_epoch": 10,
    "masks_seen": False,
    "versions": {"peer": "1.2.1"},
}
OURS = {
    "seconds": 5.0,
    "peak_rss_mb": 600.0,
    "evaluate_seconds": 1.5,
    "evaluate_peak_rss_mb": 500.0,
    "batch_users": 100,
    "data": {"source": "beauty"},
    "machine": {"processor": "a processor", "cores": 2},
    "versions": {"torch": "2"},
}


def test_the_same_steps_an_epoch():
    assert compare.equal_users({"batch_rows": 128, "rows": 22363}, 22363) == 128
    # Prefixes: as many of our users as have that many prefixes.
    users = compare.equal_users({"batch_rows": 2048, "rows": 131413}, 22363)
    assert users == 349
    assert -(-22363 // users) == -(-131413 // 2048)
    assert compare.equal_users({"batch_rows": 1, "rows": 100}, 10) == 1


def test_medians_and_ratios():
    theirs = [THEIRS, THEIRS | {"seconds": 140.0, "peak_rss_mb": 1000.0}]
    ours = [OURS, OURS | {"seconds": 8.0}]
    result = compare.joined(compare.Peer("peer", 15), theirs, ours)
    assert (result["theirs"]["seconds"], result["ours"]["seconds"]) == (130.0, 6.5)
    assert result["ratio"] == 20.0
    assert result["memory_ratio"] == 600 / 2000
    assert result["evaluate_ratio"] == 4.0
    assert result["version"] == "1.2.1"
    assert result["repeats"] == {"theirs": theirs, "ours": ours}
    json.dumps(result, allow_nan=False)


def test_the_line():
    said = compare.line({"name": "recbole", **compare.joined(compare.Peer("recbole", 25), [THEIRS], [OURS])})
    assert len(said.splitlines()) == 1
    for part in ("120.0 s", "5.00 s", "24.0x (target 25x)", "3000 MB", "600 MB", "0.20 (target 0.5)"):
        assert part in said
    for part in ("seen not masked", "every position: 900 targets in batches of 100 rows", "5 of 10 steps timed"):
        assert part in said
    masked = compare.joined(compare.Peer("recbole", 25), [THEIRS | {"masks_seen": True}], [OURS])
    assert "seen masked" in compare.line({"name": "recbole", **masked})


def test_the_report_among_noise():
    output = 'Trainer stopped\n{"loss": 1}\n{"seconds": 3}\n[Coach] >>> bye\n'
    assert compare.report_in(output) == {"seconds": 3}
    with pytest.raises(UserError, match="no report"):
        compare.report_in("nothing\n")


def pretend(folder, body):
    """An environment whose Python is a shell script."""
    python = folder / "freerec" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{body}\n")
    python.chmod(0o755)
    return folder


def test_in_turn_and_saved(tmp_path, monkeypatch, capsys):
    environments = pretend(tmp_path / "environments", f"echo noise; echo '{json.dumps(THEIRS)}'")
    asked_of_ours = []

    def export(asked, data):
        data.write_text("user,item,position,split\n" + "".join(f"{u},1,{p},train\n" for u in range(50) for p in (0, 1)))
        return "small"

    monkeypatch.setattr(compare, "export", export)
    monkeypatch.setattr(compare, "run_ours", lambda users, asked: asked_of_ours.append(users) or OURS)
    options = ["--only", "freerec", "--environments", str(environments), "--results", str(tmp_path / "results")]
    assert compare.main([*options, "--repeats", "3"]) == 0
    assert asked_of_ours == [5, 5, 5]  # 100 of 1,000 rows: 5 of 50 users
    assert "24.0x (target 15x)" in capsys.readouterr().out
    saved = json.loads((tmp_path / "results" / "peers.json").read_text())["freerec"]
    assert saved["ratio"] == 24.0
    assert len(saved["repeats"]["theirs"]) == len(saved["repeats"]["ours"]) == 3


def test_a_peer_runs_under_its_variables_and_without_our_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/ours")
    body = """printf '{"trim": "%s", "path": "%s"}\\n' "$MALLOC_TRIM_THRESHOLD_" "$PYTHONPATH" """
    asked = compare.Asked(5, 1, pretend(tmp_path, body), None, ())
    peer = compare.Peer("freerec", 15, compare.KEEPS_FREED)
    assert compare.run_peer(peer, asked, tmp_path / "data.csv") == {"trim": str(1 << 40), "path": ""}


def test_what_the_user_can_mend(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "export", lambda asked, data: str(data.write_text("")))
    broken = pretend(tmp_path / "broken", "echo 'ModuleNotFoundError: no torch' >&2; exit 1")
    for arguments, said in (
        (["--only", "surprise"], "no peer is named 'surprise'"),
        (["--only", "freerec", "--environments", str(tmp_path / "none")], "install.py freerec"),
        (["--only", "freerec", "--environments", str(broken)], "freerec: ModuleNotFoundError: no torch"),
        (["--steps", "0"], "--steps"),
    ):
        assert compare.main(arguments) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1


def test_every_peer_is_whole():
    folders = {peer.folder for peer in compare.COMPARISONS.values()}
    assert folders == set(install.NAMES)
    for name in install.NAMES:
        assert (PEERS / name / "run.py").is_file()
        wanted = [row for row in (PEERS / name / "requirements.txt").read_text().splitlines() if row[:1] != "#"]
        assert all("==" in row for row in wanted)
        assert not any(row.startswith("torch==") for row in wanted)
        first, torch, rest = install.commands(name, Path("folder"), "python3")
        assert first[-1] == str(Path("folder") / name)
        assert torch[-1].startswith("torch==")
        assert "--no-deps" in rest
    assert install.main(["surprise"]) == 2


def test_the_clock_leaves_the_warm_up_out(monkeypatch):
    times = iter([0.0, 10.0, 10.0, 20.0, 20.0, 21.0, 23.0])
    monkeypatch.setattr(driver, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    clock = driver.Clock(warm=2, steps=2)
    assert [clock.step() for _ in range(4)] == [False, False, False, True]
    assert clock.seconds_a_step() == 1.5
    clock.steps = 3
    with pytest.raises(SystemExit, match="4 steps were made"):
        clock.seconds_a_step()


def test_steps_within_an_epoch():
    asked = driver.Asked(Path("data.csv"), steps=20, warm=3, batch_rows=128)
    assert asked.within(175) == 20
    assert asked.within(10) == 7
    with pytest.raises(SystemExit):
        asked.within(3)


def test_a_driver_reports_an_epoch_scaled_by_rows(capsys):
    clock = driver.Clock(warm=0, steps=1)
    clock.seconds_a_step = lambda: 2.0
    driver.report(
        package="numpy",
        clock=clock,
        rows=250,
        batch_rows=100,
        targets=300,
        trains="rows",
        training_peak=10.0,
        evaluate_seconds=1.0,
        ndcg=0.1,
        masks_seen=True,
        loss=9.4,
    )
    report = compare.report_in(capsys.readouterr().out)
    assert report["seconds"] == 5.0
    assert report["steps_an_epoch"] == 3
    assert report["evaluate_peak_rss_mb"] > 10
    assert set(THEIRS) <= set(report)


def test_exported_events(tmp_path):
    data = sequences_of([[3, 1, 2, 0], [2, 2]], train_end=[2, 1], valid_at=[2, -1], test_at=[3, -1])
    export.write(tmp_path / "data.csv", data)
    assert (tmp_path / "data.csv").read_text().splitlines() == [
        "user,item,position,split",
        "0,3,0,train",
        "0,1,1,train",
        "0,2,2,valid",
        "0,0,3,test",
        "1,2,0,train",
    ]
