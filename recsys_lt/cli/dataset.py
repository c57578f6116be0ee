"""``python -m recsys_lt dataset beauty``: what a dataset holds, and which signals a recommender can use on it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_lt.cli.command import Command, wide_enough
from recsys_lt.errors import UserError
from recsys_lt.runs.trust import add_trust
from recsys_lt.system.package import CONF

# Everything else is imported where it is used, so that --help answers at once.
if TYPE_CHECKING:
    from recsys_lt.training.build import Parts


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "choices",
        nargs="+",
        metavar="choice",
        help="a dataset of conf/dataset/, and keys as in training: beauty, or file dataset.path=mine.csv",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write the card here, as a page with pictures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write its numbers here")
    parser.add_argument("--config-dir", type=Path, metavar="FOLDER", help="a folder with choices of your own")
    add_trust(parser)


def parts_of(choices: list[str], config_dir: Path | None) -> Parts:
    """The objects of a training run with these choices; a word without a key is the dataset."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from recsys_lt.cli.arguments import as_meant, check_arguments
    from recsys_lt.cli.hydra_refusals import composed
    from recsys_lt.system.machine import refusals
    from recsys_lt.training.build import build

    if config_dir is not None and not config_dir.is_dir():
        raise UserError("there is no such folder", where=config_dir, remedy="Name the folder that holds dataset/")
    own = [] if config_dir is None else [f"hydra.searchpath=[{json.dumps(str(config_dir.expanduser().absolute()))}]"]
    arguments = as_meant([*(word if "=" in word else f"dataset={word}" for word in choices), *own])
    check_arguments(arguments)
    GlobalHydra.instance().clear()
    with refusals(), composed(arguments), initialize_config_dir(str(CONF), version_base="1.3"):
        return build(compose("config", arguments))


def _run(given: argparse.Namespace) -> None:
    """What a dataset holds, and which signals a recommender can use on it.

    Counts, histories, popularity, repeats, how near the next item is to the history, item text, and what counting
    reaches without training. A dataset is chosen and changed as in training: dataset yelp dataset.k_core=10.
    """
    from rich.console import Console
    from rich.text import Text

    from recsys_lt.results.dataset_card.card import baseline_table, measured, on_baselines, page, sections
    from recsys_lt.results.field_terms import term
    from recsys_lt.results.report.sections import print_sections
    from recsys_lt.results.written_tables import terminal
    from recsys_lt.system.atomic import write_json, write_text

    parts = parts_of(given.choices, given.config_dir)
    data = parts.data(print)
    metrics = parts.metrics
    with Console(stderr=True).status(Text(f"measuring {data.name}")):
        numbers = measured(data, metrics.groups.of(data), metrics.mask_seen, metrics.max_users)
    if given.json is not None:
        write_json(given.json, numbers)
    if given.html is not None:
        write_text(given.html, page(numbers))
    console = Console(markup=False, emoji=False)
    console.print(Text(term(numbers["dataset"]), style="bold"))
    print_sections(console, sections(numbers))
    table = terminal(baseline_table(numbers))
    console.print(Text("\nWhat counting reaches", style="bold"))
    wide_enough(console, table).print(table)
    console.print(Text(on_baselines(numbers)), style="dim")
    for path in (given.html, given.json):
        if path is not None:
            print(path)


main = Command(_options, _run)
