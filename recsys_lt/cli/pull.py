"""``python -m recsys_lt pull SOURCE``: a pushed run, fetched as a run folder."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from recsys_lt.cli.command import Command
from recsys_lt.cli.push import HUB, hub, repository
from recsys_lt.runs.trust import add_trust


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help=f"a folder, or {HUB}OWNER/NAME, perhaps with @REVISION")
    parser.add_argument("folder", type=Path, nargs="?", help="the new run folder (default: outputs/NAME)")
    add_trust(parser)


def _run(arguments: argparse.Namespace) -> None:
    """Fetch a run that `recsys_lt push` shared.

    It recommends from histories without its dataset, and stands in tables beside other runs. Nothing that is fetched is
    unpickled, imported or run; classes of other packages need --trust.
    """
    source: str = arguments.source
    if not source.startswith(HUB):
        folder = arguments.folder or Path("outputs", Path(source).resolve().name)
        _make(Path(source), folder)
        return
    name, revision = repository(source)
    folder = arguments.folder or Path("outputs", name.partition("/")[2])
    with tempfile.TemporaryDirectory() as place:
        from recsys_lt.training.sharing import PATTERNS

        with hub(source) as api:
            api.snapshot_download(name, revision=revision, local_dir=place, allow_patterns=list(PATTERNS))
        _make(Path(place), folder)


def _make(source: Path, folder: Path) -> None:
    from recsys_lt.training.sharing import first_items, new_folder, unpack
    from recsys_lt.training.trained import Run

    with new_folder(folder) as place:
        unpack(source, place)
        run = Run(place)  # which refuses a configuration that no run can be made of
        names, n_items, example = run.stored.names, run.catalogue.n_items, ",".join(first_items(run))
    print(f"{folder}: {names.model} on {names.dataset}, {n_items:,} items")
    print(f"try: python -m recsys_lt recommend {folder} --history {example}")


main = Command(_options, _run)
