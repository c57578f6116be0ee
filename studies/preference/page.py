"""Tables of this study: ``python studies/preference/page.py FOLDER`` after ``runs.py FOLDER``.

It ranks the test's candidates with every run (``recsys_lt candidates``), keeps each user's rank and the item ranked
first in ``shortlists.parquet``, and prints the tables of README.md: 20 candidates, and the full ranking apart.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import recsys_lt
from recsys_lt.data.item_data import ATTRIBUTES
from recsys_lt.data.loader import users_with_target
from recsys_lt.metrics.ranking import gains
from recsys_lt.metrics.shortlists import shortlist_metrics
from recsys_lt.recommenders.shortlists import shortlists
from recsys_lt.results.cells import mean_and_spread
from recsys_lt.results.shortlist_table import Measured, ShortlistTable
from recsys_lt.results.significance import corrected, difference
from recsys_lt.results.written_tables import markdown, shown_p
from recsys_lt.runs.ranks import read_ranks
from studies.shared.kept import is_finished

OTHERS, STAGE = 19, "test"
#: A method that is said to be better than another.
CLAIMS = (
    ("napo", "s_dpo"), ("napo", "napo_unshared"), ("napo", "napo_no_margin"), ("s_dpo", "dpo"), ("s_dpo", "ce"),
)  # fmt: skip
FULL = ("ndcg@10", "hr@10", "head/ndcg@10", "mid/ndcg@10", "tail/ndcg@10", "arp@10", "tail/exposure@10", "gini@10")


def folders(root: Path) -> dict[str, list[Path]]:
    """The finished runs of each method, in order of their seeds."""
    places = {"start": root / "ce", "itemgraph": root / "itemgraph"}
    places |= {each.name: each for each in sorted((root / "final").iterdir())}
    found = {name: [run for run in sorted(each.glob("seed*")) if is_finished(run)] for name, each in places.items()}
    return {name: runs for name, runs in found.items() if runs}


def measured(folder: Path, users: int | None) -> tuple[Measured, pd.DataFrame]:
    """A run's shortlists with their metrics, and what is kept of them."""
    run = recsys_lt.load(folder)
    data, seed = run.data, int(run.config.seed)
    some = users_with_target(data, STAGE, users)
    found = shortlists(run.model, data, some, OTHERS, 0, STAGE, run.parts.trainer.rank_rows)
    assert found is not None
    genres = [str(each) for each in data.item_data[ATTRIBUTES]]
    popularity, groups = data.popularity, run.groups.of
    values = shortlist_metrics(found.ranks, found.targets, found.first, OTHERS + 1, popularity, groups, genres)
    kept = pd.DataFrame({"user": found.users, "rank": found.ranks, "first": found.first}).astype("int16")
    return Measured(seed, found, values), kept.assign(seed=np.int8(seed))


def full_table(methods: dict[str, list[Path]], against: str) -> str:
    """Test metrics of the full ranking, and tests of NDCG@10."""
    gained = {
        method: np.stack([gains("ndcg", read_ranks(run / "ranks.parquet").rank, 10) for run in runs])
        for method, runs in methods.items()
    }
    others = [method for method in methods if method != against]
    tests = dict(zip(others, corrected([difference(gained[each], gained[against]) for each in others]), strict=True))
    lines = [f"| method | {' | '.join(FULL)} | difference in ndcg@10 | p |", "| --- |" + " ---: |" * (len(FULL) + 2)]
    for method, runs in sorted(methods.items(), key=lambda pair: -float(gained[pair[0]].mean())):
        tested = [recsys_lt.load(run).metrics["test"] for run in runs]
        cells = []
        for name in FULL:
            mean, std = mean_and_spread([float(each[name]) for each in tested])
            digits = 1 if name.startswith("arp") else 4
            cells.append(f"{mean:.{digits}f}" + ("" if std is None else f" ±{std:.{digits}f}"))
        test = tests.get(method)
        said = (
            "- | ref" if test is None else f"{test.value:+.4f} ({test.low:.4f} to {test.high:.4f}) | {shown_p(test.p)}"
        )
        said += "" if test is None or test.over_seeds else " (users only)"
        lines.append(f"| {method} | {' | '.join(cells)} | {said} |")
    return "\n".join(lines)


def claims_table(cells: dict[str, list[Measured]], popularity: np.ndarray) -> str:
    """Tests of HR@1 of 20 and of the popularity of the item ranked first, for each pair of ``CLAIMS``."""
    hits = {name: np.stack([one.found.ranks == 1 for one in runs]).astype(float) for name, runs in cells.items()}
    shown = {
        name: np.stack([popularity[one.found.first] for one in runs]).astype(float) for name, runs in cells.items()
    }
    claims = [(a, b) for a, b in CLAIMS if a in cells and b in cells]
    tests = corrected([difference(of[a], of[b]) for of in (hits, shown) for a, b in claims])
    lines = ["| | HR@1 of 20 | p | ARP@1 | p |", "| --- | ---: | ---: | ---: | ---: |"]
    for (a, b), hr, arp in zip(claims, tests[: len(claims)], tests[len(claims) :], strict=True):
        assert hr is not None
        assert arp is not None
        said = f"{hr.value:+.4f} ({hr.low:.4f} to {hr.high:.4f}) | {shown_p(hr.p)}"
        lines.append(
            f"| {a} minus {b} | {said} | {arp.value:+.1f} ({arp.low:.1f} to {arp.high:.1f}) | {shown_p(arp.p)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--against", default="ce", help="the method that others are tested against (default: ce)")
    given = parser.parse_args()
    methods = folders(given.folder)
    cells: dict[str, list[Measured]] = {}
    kept = []
    for method, runs in methods.items():
        for run in runs:
            one, frame = measured(run, None)
            cells.setdefault(method, []).append(one)
            kept.append(frame.assign(method=method))
    pd.concat(kept).astype({"method": "category"}).to_parquet(
        Path(__file__).with_name("shortlists.parquet"), index=False, compression="zstd"
    )
    table = ShortlistTable.of("ml-100k", cells, given.against)
    print(markdown(table.content(), table.caption()))
    print(claims_table(cells, recsys_lt.load(methods["start"][0]).data.popularity), end="\n\n")
    print(full_table(methods, given.against))


if __name__ == "__main__":
    main()
