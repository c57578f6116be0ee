"""Make the peers' environments: ``python studies/speed/peers/install.py`` for all, or with names for some.

Each gets a virtual environment of its own in ``studies/speed/peers/<name>/.venv`` (git-ignored; ``--environments`` for
another place): torch first, in the version of constraints.txt, then exactly the versions in its requirements.txt.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PEERS = Path(__file__).resolve().parent
CONSTRAINTS = PEERS.parents[2] / "constraints.txt"
NAMES = sorted(path.parent.name for path in PEERS.glob("*/requirements.txt"))


def environment(name: str, environments: Path | None) -> Path:
    """Folder of a peer's environment."""
    return PEERS / name / ".venv" if environments is None else environments / name


def interpreter(name: str, environments: Path | None) -> Path:
    """A peer's Python."""
    return environment(name, environments) / "bin" / "python"


def commands(name: str, environments: Path | None, python: str) -> list[list[str]]:
    """What is run to make an environment, in order."""
    torch = next(line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("torch=="))
    pip = [str(interpreter(name, environments)), "-m", "pip", "install", "--quiet"]
    return [
        [python, "-m", "venv", "--clear", str(environment(name, environments))],
        [*pip, torch],
        # The list is complete; --no-deps keeps pip from second thoughts (torchdata's, ray's).
        [*pip, "--no-deps", "--requirement", str(PEERS / name / "requirements.txt")],
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Make the environments asked for; the first failing command's code, or 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--environments", type=Path, help="folder to make them in")
    parser.add_argument("--python", default=sys.executable, help="interpreter to make them with; RecBole needs 3.11")
    given = parser.parse_args(argv)
    for name in given.names:
        if name not in NAMES:
            print(f"error: no peer is named {name!r}. Choose from {', '.join(NAMES)}.", file=sys.stderr)
            return 2
    for name in given.names or NAMES:
        print(f"{name}: {environment(name, given.environments)}", flush=True)
        for command in commands(name, given.environments, given.python):
            code = subprocess.run(command).returncode
            if code:
                print(f"error: {name}: {' '.join(command)} failed", file=sys.stderr)
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
