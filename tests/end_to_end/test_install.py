"""The wheel carries the configuration, and help answers at once."""

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.end_to_end.conftest import ROOT, Cli


def test_the_wheel_carries_conf(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    shipped = {f"recsys_lt/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    page = ROOT / "recsys_lt" / "results" / "report" / "page"  # template, style sheet, a script and its licence
    shipped |= {f"{path.relative_to(ROOT)}" for path in page.rglob("*") if path.suffix not in (".py", ".pyc", "")}
    shipped.add("recsys_lt/results/report/page/vendored/sortable-tablesort-LICENSE")
    assert shipped <= inside
    assert not [name for name in inside if name.startswith("tests/")]
    # From the wheel alone, in a folder far from the checkout.
    where = "import recsys_lt as m; print(m.CONF, m.CONF.joinpath('config.yaml').is_file())"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert found.stdout.split() == [str(tmp_path / "site" / "recsys_lt" / "conf"), "True"], found.stderr


def test_help_imports_nothing_heavy_and_shows_what_can_be_chosen(cli: Cli, tmp_path: Path) -> None:
    done = cli("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "loss: bce, bpr, bsl, ce" in done.stdout
    assert "_base" not in done.stdout
    heavy = "import sys, recsys_lt.cli.train; print('torch' in sys.modules, 'pandas' in sys.modules)"
    imports = subprocess.run([sys.executable, "-c", heavy], cwd=ROOT, capture_output=True, text=True)
    assert imports.stdout.split() == ["False", "False"]
