"""``python -m recsys_lt push outputs/<run> TARGET``: a run to share, in a folder or a Hugging Face repository."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recsys_lt.cli.command import Command
from recsys_lt.errors import UserError
from recsys_lt.runs.trust import add_trust
from recsys_lt.system.package import check_installed

# Everything else is imported where it is used, so that --help answers at once.
#: Before the name of a Hugging Face repository.
HUB = "hf://"


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the run: a folder with config.yaml, best.ckpt and metrics.json")
    parser.add_argument(
        "target", help=f"a new folder, or {HUB}OWNER/NAME, a Hugging Face repository (log in with `hf auth login`)"
    )
    parser.add_argument("--public", action="store_true", help="let everybody read a repository that is created")
    add_trust(parser)


def _run(arguments: argparse.Namespace) -> None:
    """Share a finished run.

    Its weights (safetensors), configuration, items with titles, metrics and a card that states its protocol. Events and
    user ids do not go with it; a model that keeps user vectors holds those.
    """
    target = arguments.target
    if target.startswith(HUB):
        name, _ = repository(target)
        with tempfile.TemporaryDirectory() as place:
            from recsys_lt.training.sharing import pack

            pack(arguments.folder, Path(place))
            with hub(target) as api:
                api.create_repo(name, private=not arguments.public, exist_ok=True)
                api.upload_folder(repo_id=name, folder_path=place, commit_message="recsys_lt push")
    else:
        from recsys_lt.training.sharing import new_folder, pack

        with new_folder(Path(target)) as place:
            pack(arguments.folder, place)
    print(f"{target}: fetch it with `python -m recsys_lt pull {target}`")


def repository(place: str) -> tuple[str, str | None]:
    """Owner and name, and the revision, of ``hf://OWNER/NAME[@REVISION]``."""
    name, _, revision = place.removeprefix(HUB).partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII):
        raise UserError("it names no repository", where=place, remedy=f"Write {HUB}OWNER/NAME")
    return name, revision or None


@contextmanager
def hub(place: str) -> Iterator[Any]:
    """Yield huggingface_hub's client; what the Hub or the network refuses inside the block is one line."""
    check_installed(place, "hub", "huggingface_hub")
    import huggingface_hub
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield huggingface_hub.HfApi(library_name="recsys_lt")
    except Exception as error:  # its own kinds, and those of its HTTP client, which changes between versions
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        remedy = "Check the name and the network, and log in with `hf auth login` where it is private"
        raise UserError(f"the Hub refuses it ({reason})", where=place, remedy=remedy) from error


main = Command(_options, _run)
