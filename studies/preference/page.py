"""Tables of this study: ``python studies/preference/page.py``, of what is kept of its runs.

``python studies/preference/page.py collect FOLDER`` first, after ``runs.py FOLDER``: it ranks the test's candidates
with every finished run (``recsys_lt candidates``) and keeps the metrics in shortlists.json, and each user's rank and
the popularity of the item ranked first in shortlists.parquet. The files of MovieLens-100K lie in
this folder, those of another dataset in a folder of its own (``--kept``). ``kept.py pack`` adds runs.parquet.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys_lt.metrics.ranking import gains
from recsys_lt.results.cells import mean_and_spread
from recsys_lt.results.significance import Difference, corrected, difference
from recsys_lt.results.written_tables import shown, shown_p
from recsys_lt.runs.packed import runs_in
from recsys_lt.runs.ranks import read_ranks
from studies.shared.kept import is_finished, text

HERE = Path(__file__).parent
RANKS, NUMBERS, RUNS = "shortlists.parquet", "shortlists.json", "runs.parquet"
#: What every method is tested against, and pairs of which the first is said to be the better or the less popular one.
CONTROL = "ce"
CLAIMS = (
    ("napo", "s_dpo"), ("napo", "napo_unshared"), ("napo", "napo_no_margin"), ("s_dpo", "dpo"), ("s_dpo", "ce"),
)  # fmt: skip
SHORT = ("hr@1", "mrr", "ndcg@5", "head/hr@1", "mid/hr@1", "tail/hr@1", "arp@1", "head/exposure@1", "tail/exposure@1")
FULL = ("ndcg@10", "hr@10", "head/ndcg@10", "mid/ndcg@10", "tail/ndcg@10", "arp@10", "head/exposure@10", "gini@10")


def collect(root: Path, kept_in: Path) -> None:
    """Rank the candidates with the finished runs of each method."""
    from recsys_lt.cli import candidates

    kept_in.mkdir(parents=True, exist_ok=True)
    places = {"start": root / "ce", "itemgraph": root / "itemgraph"}
    places |= {each.name: each for each in sorted((root / "final").iterdir())}
    numbers: dict[str, Any] = {}
    kept = []
    for method, place in places.items():
        runs = [str(run) for run in sorted(place.glob("seed*")) if is_finished(run)]
        if not runs:
            continue
        with tempfile.TemporaryDirectory() as folder:
            ranks, table = Path(folder) / "ranks.tsv", Path(folder) / "numbers.json"
            if candidates.main([*runs, "--ranks", str(ranks), "--json", str(table)]):
                raise SystemExit(f"error: {method} was not ranked")
            numbers[method] = json.loads(table.read_text())
            kept.append(pd.read_csv(ranks, sep="\t").assign(method=method))
    columns = ["method", "seed", "user", "rank", "interactions"]
    pd.concat(kept)[columns].to_parquet(kept_in / RANKS, index=False, compression="zstd")
    (kept_in / NUMBERS).write_text(json.dumps(numbers, indent=1) + "\n")


def of_users(kept_in: Path, column: str) -> dict[str, NDArray[np.float64]]:
    """A column of the kept ranks for each method, a row a seed: [n, U]."""
    table = pd.read_parquet(kept_in / RANKS)
    return {
        str(method): rows.pivot(index="seed", columns="user", values=column).to_numpy(dtype=np.float64)
        for method, rows in table.groupby("method")
    }


def tests(values: dict[str, NDArray[np.float64]], pairs: list[tuple[str, str]]) -> list[str]:
    """The difference of each pair as text, with its interval and p, corrected by Holm."""
    return [said(one) for one in corrected([difference(values[a], values[b]) for a, b in pairs])]


def claims(*values: dict[str, NDArray[np.float64]]) -> list[list[str]]:
    """The differences of ``CLAIMS`` in each of several numbers; Holm's correction is for all of them together."""
    pairs = measured_claims(values[0])
    found = [said(one) for one in corrected([difference(of[a], of[b]) for of in values for a, b in pairs])]
    return [found[start : start + len(pairs)] for start in range(0, len(found), len(pairs))]


def measured_claims(values: dict[str, NDArray[np.float64]]) -> list[tuple[str, str]]:
    """Those of ``CLAIMS`` whose methods were both run."""
    return [pair for pair in CLAIMS if all(method in values for method in pair)]


def said(found: Difference | None) -> str:
    assert found is not None
    digits = 4 if max(-found.low, found.high) < 1 else 1
    p = shown_p(found.p) + ("" if found.over_seeds else " (users only)")
    return f"{found.value:+.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f}) | {p}"


def table(names: tuple[str, ...], numbers: dict[str, list[dict[str, Any]]], tested: dict[str, str]) -> str:
    """A row a method, in falling order of the first metric."""
    means = {
        method: [mean_and_spread([one[name] for one in runs]) for name in names] for method, runs in numbers.items()
    }
    lines = [f"| method | n | {' | '.join(names)} | difference | p |", "| --- |" + " ---: |" * (len(names) + 3)]
    for method in sorted(means, key=lambda each: -float(means[each][0][0] or 0)):
        cells = [
            shown(name, mean) + ("" if std is None else f" ±{shown(name, std)}")
            for name, (mean, std) in zip(names, means[method], strict=True)
        ]
        lines.append(f"| {method} | {len(numbers[method])} | {' | '.join(cells)} | {tested.get(method, '- | ref')} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("collect", "print"), default="print")
    parser.add_argument("folder", type=Path, nargs="?", help="of the runs; for collect")
    parser.add_argument("--kept", type=Path, default=HERE, help="folder of what is kept (default: this study's)")
    given = parser.parse_args()
    if given.what == "collect":
        collect(given.folder.resolve(), given.kept)
    hits = {method: (ranks == 1).astype(np.float64) for method, ranks in of_users(given.kept, "rank").items()}
    others = [(method, CONTROL) for method in hits if method != CONTROL]
    numbers = {
        method: [{name.replace("_of_20", ""): value for name, value in one.items()} for one in runs]
        for method, runs in json.loads((given.kept / NUMBERS).read_text()).items()
    }
    print(table(SHORT, numbers, dict(zip([a for a, _ in others], tests(hits, others), strict=True))), end="\n\n")
    print("| | HR@1 of 20 | p | ARP@1 of 20 | p |\n| --- | ---: | ---: | ---: | ---: |")
    for (a, b), *both in zip(measured_claims(hits), *claims(hits, of_users(given.kept, "interactions")), strict=True):
        print(f"| {a} minus {b} | {' | '.join(both)} |")
    full: dict[str, list[dict[str, Any]]] = {}
    gained: dict[str, list[NDArray[np.float64]]] = {}
    for run in runs_in(given.kept / RUNS) or []:
        place = run.relative_to(given.kept / RUNS).parts
        if place[0] not in ("trials", "rounds"):
            method = "start" if place[0] == "ce" else place[-2]
            full.setdefault(method, []).append(json.loads(text(run / "metrics.json"))["test"])
            gained.setdefault(method, []).append(gains("ndcg", read_ranks(run / "ranks.parquet").rank, 10))
    if not full:  # nothing is packed yet
        return
    found = tests({method: np.stack(each) for method, each in gained.items()}, others)
    print("\n" + table(FULL, full, dict(zip([a for a, _ in others], found, strict=True))))


if __name__ == "__main__":
    main()
