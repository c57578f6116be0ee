"""The W&B workspace: over the keys a run writes, and sent as it should be."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from recsys_lt.cli import dashboard
from tests.end_to_end.conftest import TINY, Cli
from tests.end_to_end.weights_and_biases import Server, read, serving

# The library's own, against pydantic.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb_workspaces")

CONTENT = yaml.safe_load(dashboard.FILE.read_text(encoding="utf-8"))
SECTIONS = CONTENT["sections"]
PANELS = [panel for section in SECTIONS for panel in section["panels"]]


@pytest.fixture(scope="module")
def logged(here: Cli, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one run sends to W&B."""
    place = tmp_path_factory.mktemp("run")
    done = here(*TINY, "trainer.max_epochs=1", "hydra.run.dir=run", cwd=place)
    assert done.returncode == 0, done.stderr
    (file,) = place.glob("run/wandb/offline-run-*/run-*.wandb")
    return read(file)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    pytest.importorskip("wandb_workspaces", reason="needs the extra dashboard")
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        yield server


def test_panels_name_what_a_run_writes(logged: dict[str, Any]) -> None:
    assert set(CONTENT["grouped_by"]) <= set(logged["config"])
    numbers = {key for key, value in logged["summary"].items() if isinstance(value, int | float)}
    pictures = {key.removesuffix("/path") for key in logged["summary"] if key.endswith("/path")}
    for kind, title, *keys in PANELS:
        match kind:
            case "curve":
                written = logged["history_keys"]
            case "pictures":
                written = pictures
            case _:
                written = numbers
        assert set(keys) <= written, title
    assert set(CONTENT["columns"]) <= numbers


def test_the_view_that_is_sent(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert dashboard.main(["team/known", "--dataset", "beauty"]) == 0
    (sent,) = server.saved
    name = sent["name"].removeprefix("nw-").removesuffix("-v")
    assert capsys.readouterr().out == f"{server.url}/team/known/workspace?nw={name}\n"
    assert (sent["entityName"], sent["projectName"], sent["displayName"]) == ("team", "known", "recsys_lt: beauty")

    spec = json.loads(sent["spec"])["section"]
    (runs,) = spec["runSets"]
    assert [(key["section"], key["name"]) for key in runs["grouping"]] == [
        ("config", f"{name}.value") for name in ("dataset", "model", "loss", "optimizer")
    ]
    (only,) = runs["filters"]["filters"]
    assert (only["key"], only["op"], only["value"]) == ({"section": "config", "name": "dataset"}, "=", "beauty")
    sections = spec["panelBankConfig"]["sections"]
    for settings in (spec["settings"], *(section["localPanelSettings"] for section in sections)):
        assert settings["xAxis"] == "epoch"
        assert settings["smoothingActive"] is False
        assert settings["useRunsTableGroupingInPanels"] is True

    assert [section["name"] for section in sections] == [section["name"] for section in SECTIONS]
    for section in sections:
        page = section["flowConfig"]
        assert len(section["panels"]) <= page["columnsPerPage"] * page["rowsPerPage"]
    panels = [panel for section in sections for panel in section["panels"]]
    for (_, title, *keys), panel in zip(PANELS, panels, strict=True):
        assert panel["config"]["chartTitle"] == title
        words = json.dumps(panel["config"])
        assert all(f'"{key}"' in words or f'"summary:{key}"' in words for key in keys), words
    curves = [panel["config"] for panel in panels if panel["viewType"] == "Run History Line Plot"]
    assert curves
    assert {(curve["xAxis"], curve["smoothingType"]) for curve in curves} == {("epoch", "none")}


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert dashboard.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    return said.err


def test_what_w_and_b_refuses_is_one_line(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert "team/unknown: the view is not saved" in _refused(capsys, "team/unknown")
    server.refuses = "upsertView"
    assert "permission denied" in _refused(capsys, "team/known")
    server.refuses = "viewer"
    assert "wandb login --relogin" in _refused(capsys, "team/known")
    assert server.saved == []


def test_without_network_key_or_package(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9: no answer" in _refused(capsys, "team/known")
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert "wandb login" in _refused(capsys, "team/known")
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert "pip install 'recsys_lt[dashboard]'" in _refused(capsys, "team/known")
    assert "'known' is not an entity and a project" in _refused(capsys, "known")


def test_a_dry_run_needs_neither_account_nor_package(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert dashboard.main(["team/known", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed) == CONTENT
