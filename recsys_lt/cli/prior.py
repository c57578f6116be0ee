"""``python -m recsys_lt prior beauty llm=smollm2_135m``: what a language model knows about items before training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_lt.cli.command import Command, wide_enough
from recsys_lt.cli.dataset import parts_of
from recsys_lt.runs.trust import add_trust

# Everything else is imported where it is used, so that --help answers at once.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pandas import DataFrame

    from recsys_lt.data.sequences import Sequences
    from recsys_lt.llm.title_prior import ItemPrior


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "choices",
        nargs="+",
        metavar="choice",
        help="a choice of dataset, then keys as in training: beauty llm=smollm2_135m llm.dtype=bfloat16 prior.others=1",
    )
    parser.add_argument(
        "--runs",
        type=Path,
        nargs="+",
        default=(),
        metavar="FOLDER",
        help="also show the metrics of these runs by prior",
    )
    parser.add_argument(
        "--against", metavar="CELL", help="the control among --runs, which reads no titles, such as sasrec/ce"
    )
    parser.add_argument(
        "--probe",
        choices=("familiarity", "completion"),
        default="familiarity",
        help="the probe that items are grouped by (default: familiarity)",
    )
    parser.add_argument(
        "--exposure", action="store_true", help="rank again for the test users of the runs, to measure exposure"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page with figures here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw the probes here, as PNG and PDF")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the measurements of each item here")
    parser.add_argument("--config-dir", type=Path, metavar="FOLDER", help="a folder with your own choices")
    add_trust(parser)


def _meant(choice: str) -> str:
    """A choice of the language model, as the configuration of the prior names it."""
    if choice.startswith("llm="):
        return f"llm@prior.llm={choice.removeprefix('llm=')}"
    return f"prior.{choice}" if choice.startswith("llm.") else choice


def _run(given: argparse.Namespace) -> None:
    """How well a language model knows each item's title, before any training on recommendation data.

    Two probes, in nats per token. Familiarity: log-likelihood of the title after neutral openings, minus that of its
    tokens at any place of any title. Completion: log-likelihood of the title's second half after its own first half,
    minus that after the first halves of other titles. --runs adds NDCG@10 and HR@10 by prior and popularity. The
    measurements are cached.
    """
    from rich.console import Console
    from rich.text import Text

    from recsys_lt.results.comparison import compare
    from recsys_lt.results.item_prior import figures
    from recsys_lt.results.item_prior.measures import by_prior, measured
    from recsys_lt.results.item_prior.page import page, sections, title
    from recsys_lt.results.item_prior.tables import effects_table, label, matrix_table, on_effects, on_matrices
    from recsys_lt.results.report.sections import print_sections
    from recsys_lt.results.written_tables import terminal
    from recsys_lt.system.atomic import replacing, write_json, write_text

    parts = parts_of(["prior=title", *map(_meant, given.choices)], given.config_dir)
    assert parts.prior is not None
    data = parts.data(print)
    groups = parts.metrics.groups.of(data)
    if given.runs:  # runs that are none, and a name that fits no cell, are refused before titles are read
        compare(given.runs, None, given.against)
    with Console(stderr=True).status(Text(f"reading the titles of {data.name}")):
        prior = parts.prior.of(data)
    values = getattr(prior, given.probe)
    with Console(stderr=True).status("reading runs"):
        cells = by_prior(given.runs, data, groups, values, given.against, _exposed if given.exposure else None)
    numbers = measured(data, groups, parts.prior, prior, given.probe, cells)
    console = Console(markup=False, emoji=False)
    console.print(Text(title(numbers), style="bold"))
    print_sections(console, sections(numbers))
    for cell in cells:
        table = terminal(matrix_table(cell, "2x2"), label(cell))
        wide_enough(console, table).print(table)
    if cells:
        console.print(Text(on_matrices(numbers)), style="dim")
        table = terminal(effects_table(cells))
        wide_enough(console, table).print(table)
        console.print(Text(on_effects()), style="dim")
    if given.json is not None:
        write_json(given.json, numbers)
    if given.html is not None:
        write_text(given.html, page(numbers))
    if given.plot is not None:
        figures.save_clouds(numbers["probes"], given.plot)
    if given.csv is not None:
        with replacing(given.csv) as draft:
            _frame(data, prior).to_csv(draft, index=False)
    for path in (given.html, given.plot, given.json, given.csv):
        if path is not None:
            print(path)


def _exposed(folder: Path) -> NDArray[np.int64]:
    """How often a run's model has each item in its lists of ten for the test users, [I]."""
    import numpy as np
    import torch

    from recsys_lt.data.loader import RankBatches, rank_loader, users_with_target
    from recsys_lt.metrics.all_metrics import expose
    from recsys_lt.metrics.long_tail import K
    from recsys_lt.training.trained import Run

    run = Run(folder)
    run.check_events()
    model, counts = run.model, np.zeros(run.data.n_items, dtype=np.int64)
    users = users_with_target(run.data, "test", run.parts.metrics.max_users)
    rows, with_seen = run.parts.trainer.rank_rows, model.mask_seen != "none"
    with torch.inference_mode():
        model.begin_ranking()
        for batch in rank_loader(RankBatches(run.data, users, "test", model.max_length, rows, with_seen=with_seen)):
            expose({K: counts}, model.rank(batch.to(model.device), K).items.cpu().numpy())
    return counts


def _frame(data: Sequences, prior: ItemPrior) -> DataFrame:
    """A row an item: its id and title, its training interactions, and what was measured."""
    import pandas as pd

    columns = {"item": data.item_ids, "title": data.titles, "training_interactions": data.popularity}
    return pd.DataFrame(columns | prior._asdict() | {"familiarity": prior.familiarity})


main = Command(_options, _run)
