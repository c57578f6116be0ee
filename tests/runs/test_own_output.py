"""What a cell prints goes into its folder, also from child processes; begin and end come through."""

import subprocess
import sys
from pathlib import Path

CELL = """
import os, subprocess, sys
from pathlib import Path
from recsys_lt.runs.sweep import own_output
print("before")
for turn in (1, 2):
    with own_output(Path(sys.argv[1])) as say:
        print("inside", turn)
        print("warning", turn, file=sys.stderr)
        os.system("echo child")
        say("begins")
print("after")
"""


def test_output_goes_into_the_folder_and_comes_back(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", CELL, str(tmp_path)], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["before", "begins", "begins", "after"]
    assert done.stderr == ""
    kept = (tmp_path / "output.txt").read_text().splitlines()
    assert sorted(kept) == sorted(["inside 1", "warning 1", "child", "inside 2", "warning 2", "child"])
