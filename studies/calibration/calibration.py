"""How often the tables' test is wrong, and what it finds: measured on kept runs and on simulated methods.

``python studies/calibration/calibration.py`` (or ``make page``) writes docs/statistics.md and its figure.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from recsys_lt.results.cells import Cell, cells_of, once_a_seed
from recsys_lt.results.field_terms import term
from recsys_lt.results.plots.drawing import PAGE, blank, save
from recsys_lt.results.significance import LEVEL, difference, spread, users_of
from recsys_lt.runs.listing import find_runs
from recsys_lt.system.atomic import write_text
from studies.shared.kept import PACKS
from studies.shared.pages import BLUE, GREY, LIGHT_BLUE, ORANGE, legend_below, table_lines

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "python studies/calibration/calibration.py"
GROUPS = ("", "nonhead")
SEEDS = (2, 3, 5, 10)
#: Relative differences between two methods that are simulated.
EFFECTS = (0.0, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1)
_USERS = 400  # of a simulated dataset; only the variances of means matter
_COLOURS = (GREY, LIGHT_BLUE, BLUE, ORANGE)
Array = NDArray[np.float64]


class Kind(NamedTuple):
    """What methods of a dataset are like.

    Mean of a gain, variance of a seed's mean, the part of that which comes from users, and the variance between users
    of what one method has over another.
    """

    mean: float
    seeds: float
    residual: float
    methods: float


def kept(packs: Sequence[Path]) -> list[tuple[Cell, dict[str, Array]]]:
    """Cells with several seeds, and the gains [n, U] of their users, by group of the target."""
    found = []
    for cell in map(once_a_seed, cells_of([run for pack in packs for run in find_runs(pack)])):
        users = {group: users_of(cell, "ndcg", 10, group) for group in GROUPS} if len(cell.finished) > 1 else {}
        if users and all(each is not None for each in users.values()):
            found.append((cell, {group: each.value for group, each in users.items() if each is not None}))
    return found


def splits(n: int, first: int, second: int) -> Iterator[tuple[list[int], list[int]]]:
    """Every two disjoint sets of so many of n seeds; a pair once."""
    for ours in itertools.combinations(range(n), first):
        for theirs in itertools.combinations([seed for seed in range(n) if seed not in ours], second):
            if first != second or ours < theirs:
                yield list(ours), list(theirs)


def rejections(cells: Sequence[dict[str, Array]], first: int, second: int) -> list[str]:
    """A row: how many seeds are compared with how many of the same cell, and how often the test rejects."""
    able = [gains for gains in cells if len(gains[""]) >= first + second]
    row = [f"{first} against {second}", str(len(able))]
    for group in GROUPS:
        p = [
            difference(gains[group][ours], gains[group][theirs]).p
            for gains in able
            for ours, theirs in splits(len(gains[group]), first, second)
        ]
        row += [str(len(p))] if group == "" else []
        row.append(f"{np.mean(np.array(p) < LEVEL):.1%}" if p else "-")
    return row


def kind(cells: Sequence[Array]) -> Kind:
    """What the cells of a dataset have in common: medians of mean and relative variances, over cells or their pairs."""
    spreads = [(gains.mean(), each) for gains in cells if (each := spread(gains)) is not None]
    mean = float(np.median([mean for mean, _ in spreads]))
    seeds = float(np.median([each.seeds / own**2 for own, each in spreads])) * mean**2
    residual = float(np.median([each.residual / own**2 for own, each in spreads])) * mean**2
    pairs = [difference(a, b).variances for a, b in itertools.combinations(cells, 2) if a.shape[1] == b.shape[1]]
    methods = float(np.median([each.beyond for each in pairs if each is not None])) if pairs else 0.0
    return Kind(mean, seeds, residual, methods)


def drawn(random: np.random.Generator, of: Kind, seeds: int, mean: float, wider: float = 1.0) -> Array:
    """Gains of a simulated method, whose seeds spread ``wider`` times as much as usual."""
    of_seeds = wider * max(of.seeds - of.residual, 0.0) ** 0.5 * random.normal(size=(seeds, 1))
    of_users = (of.methods / 2 * _USERS) ** 0.5 * random.normal(size=_USERS)
    return mean + of_seeds + of_users + (of.residual * _USERS) ** 0.5 * random.normal(size=(seeds, _USERS))


def power(of: Kind, n: int, effect: float, times: int) -> float:
    """Share of tests with p < 0.05 where one method is better by a share of the mean; n seeds of each."""
    random = np.random.default_rng([n, round(effect * 1000)])
    pairs = ((drawn(random, of, n, of.mean * (1 + effect)), drawn(random, of, n, of.mean)) for _ in range(times))
    return float(np.mean([difference(ours, theirs).p < LEVEL for ours, theirs in pairs]))


def best_power(of: Kind, n: int, effect: float) -> float:
    """Power of a test that knows the variances: no test can do better."""
    error = (2 * of.seeds / n + of.methods) ** 0.5
    shift, edge = of.mean * effect / error, stats.norm.ppf(1 - LEVEL / 2)
    return float(stats.norm.sf(edge - shift) + stats.norm.cdf(-edge - shift))


def unequal(of: Kind, n: int, m: int, wider: float, times: int) -> float:
    """Share of tests with p < 0.05 of equal methods; the seeds of the first spread ``wider`` times as much."""
    random = np.random.default_rng([n, m, round(wider)])
    pairs = ((drawn(random, of, n, of.mean, wider), drawn(random, of, m, of.mean)) for _ in range(times))
    return float(np.mean([difference(ours, theirs).p < LEVEL for ours, theirs in pairs]))


def shared_luck(cells: Sequence[tuple[Cell, dict[str, Array]]], group: str) -> tuple[float, int]:
    """Correlation of seeds of the same number over pairs of cells, and the number of pairs."""
    sums = np.zeros(3)
    pairs = 0
    for (one, ours), (other, theirs) in itertools.combinations(cells, 2):
        common = [seed for seed in one.seeds if seed in other.seeds]
        if len(common) < 3:
            continue
        a, b = (
            np.array([gains[group][cell.seeds.index(seed)].mean() for seed in common])
            for cell, gains in ((one, ours), (other, theirs))
        )
        a, b = a / a.mean() - 1, b / b.mean() - 1
        sums += (a @ b, a @ a, b @ b)
        pairs += 1
    return float(sums[0] / (sums[1] * sums[2]) ** 0.5) if pairs else 0.0, pairs


def draw(curves: dict[tuple[str, str], dict[int, list[float]]], kinds: dict[tuple[str, str], Kind], path: Path) -> None:
    """Draw power against the true difference, a panel a dataset and group, a line a number of seeds."""
    with blank(PAGE, 2.1) as figure:
        panels: Any = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
        for axes, ((dataset, group), of_seeds) in zip(panels, curves.items(), strict=True):
            of = kinds[dataset, group]
            for (n, line), colour in zip(of_seeds.items(), _COLOURS, strict=True):
                percent = [100 * effect for effect in EFFECTS]
                axes.plot(percent, line, color=colour, marker="o", label=f"{n} seeds each")
                axes.plot(percent, [best_power(of, n, effect) for effect in EFFECTS], color=colour, linestyle=":")
            axes.axhline(LEVEL, color=GREY, linewidth=0.8, linestyle=":")
            axes.set_title(f"{term(dataset)}, {group or 'all'} targets")
            axes.set_xlabel("true difference [%]")
        panels[0].set_ylabel("share of tests with p < 0.05")
        legend_below(figure)
        save(figure, path, path.with_suffix(".pdf"))


_TEXT = f"""# How differences are tested

Made by `{COMMAND}` from the runs in studies/; not written by hand.

## The test

Tables, reports and the claim check use one test (`recsys_lt/results/significance.py`). It compares the mean gain
(such as NDCG@10) of two cells over their users and seeds.

- **Users are paired.** Both cells rank the same targets for the same users. The test is on each user's difference.
- **Seeds are not paired** (Welch). Seeds of the same number share initial weights and the order of examples; the
  correlation that remains after training is measured below. The two cells may have different numbers of seeds.
- **The variance of the difference** is a²/n_a + b²/n_b + u²/U. a² is the variance between the seeds of one cell and n_a
  their number, b² and n_b are those of the other cell, and U is the number of users. u² is the variance of the
  difference between users. Its seed noise is subtracted, because the first two terms already count it.
- **Degrees of freedom** are Satterthwaite's.
- **Source.** This adapts the analysis of multi-reader multi-case studies (Obuchowski and Rockette 1995, Hillis 2007):
  seeds are readers, of whom each method has its own, and users are cases.
- **Two or three seeds may agree by luck.** Each seed ranks some users better and others worse. This part of the
  variance between seeds is estimated from all users, and the variance between seeds is never taken to be less.
- **With one seed on a side**, the test is over users only, and the table says "users only". Its p says whether these
  trained models differ, not whether one method is better.
- **A published number of one run** counts as one seed. We assume that it varies as our seeds do.

P-values are corrected by Holm for the cells of a table; intervals are not. *Detectable* is the true difference that
these users and seeds find with a power of about 80 %, or less with two or three seeds. The claim check names the
number of seeds that would find a true difference as large as the observed one. Both take the correction into account.
"""


def of_one_method(cells: Sequence[tuple[Cell, dict[str, Array]]]) -> list[str]:
    """The section on runs of one method."""
    gains = [each for _, each in cells]
    alone = rejections(gains, 1, 1)
    beauty = [pair for pair in cells if pair[0].identity[:2] == ("beauty", "sasrec")]
    (everybody, pairs), (nonhead, _) = (shared_luck(beauty, group) for group in GROUPS)
    return [
        "## Runs that differ in nothing but the seed", "",
        "Both runs of such a pair are of one method, so a test that finds a difference between methods is wrong.",
        "A test at level 0.05 may be wrong in 5 % of the pairs.", "",
        f"One run against one other, {alone[2]} pairs: a test over users alone rejects {alone[3]} on all users and",
        f"{alone[4]} on those with a nonhead target. This is why one seed on a side gives no verdict: none of these",
        "pairs is called a difference between methods. Several seeds against several others of the same cell:", "",
        *table_lines(
            ["seeds", "cells", "comparisons", "rejected, all", "rejected, nonhead"],
            [rejections(gains, *sizes) for sizes in ((2, 2), (2, 3))],
        ), "",
        "The comparisons of a cell share runs, so these rates are less precise than their number suggests.", "",
        f"Seeds of the same number in two SASRec cells on Beauty have a correlation of {everybody:.2f} on all users",
        f"and {nonhead:.2f} on nonhead ({pairs} pairs of cells). The test ignores it; a positive one makes p too",
        "large, never too small.", "",
    ]  # fmt: skip


def simulated(cells: Sequence[tuple[Cell, dict[str, Array]]], figure: Path, times: int) -> list[str]:
    """The section on simulated methods; its figure is written."""
    curves: dict[tuple[str, str], dict[int, list[float]]] = {}
    kinds: dict[tuple[str, str], Kind] = {}
    rows = []
    for dataset, group in itertools.product(("beauty", "ml-100k"), GROUPS):
        alike = [each[group] for cell, each in cells if cell.identity[:2] == (dataset, "sasrec")]
        if not alike:
            continue
        of = kinds[dataset, group] = kind(alike)
        curves[dataset, group] = {n: [power(of, n, effect, times) for effect in EFFECTS] for n in SEEDS}
        for n, line in curves[dataset, group].items():
            random = np.random.default_rng(0)
            pairs = ((drawn(random, of, n, of.mean), drawn(random, of, n, of.mean)) for _ in range(100))
            size = float(np.median([difference(ours, theirs).detectable or 0.0 for ours, theirs in pairs]))
            rows.append([dataset, group or "all", str(n), f"{line[0]:.1%}", f"{size:.4f}", f"{size / of.mean:.1%}"])
    if not curves:
        return []
    draw(curves, kinds, figure)
    widest = next(iter(kinds.values()))
    return [
        "## Simulated methods", "",
        "The simulated methods have the variances over seeds and users of the kept SASRec runs (medians over cells and",
        f"pairs of cells), and differ by a share of the mean; {times:,} experiments per point. "
        "Detectable is a median over the",
        "experiments, before any correction. With two or three seeds its power is below 80 %, because so few seeds",
        "estimate their own spread poorly.", "",
        *table_lines(
            ["dataset", "targets", "seeds each", "rejected, no difference", "detectable", "of the mean"], rows
        ), "",
        f"![share of tests that find a difference]({figure.parent.name}/{figure.name})", "",
        "Dotted: a test that knows the variances, which no test can beat.", "",
        "If one method varies much more between seeds than the other and has only two seeds, Welch's test rejects too",
        "often. Beauty, all targets, no difference, standard deviation of the first method ten times as large:", "",
        *table_lines(
            ["seeds of the wider", "seeds of the other", "rejected"],
            [
                [str(n), str(m), f"{unequal(widest, n, m, 10, 4 * times):.1%}"]
                for n, m in ((2, 2), (2, 5), (3, 5), (5, 5))
            ],
        ), "",
        "With three or more seeds the excess is small. Tables warn where a cell has two.", "",
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, nargs="+", default=PACKS, help="packs or folders of finished runs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "statistics.md", help="the page")
    parser.add_argument("--times", type=int, default=500, help="simulated experiments a point")
    asked = parser.parse_args(argv)
    cells = kept(asked.runs)
    lines = [_TEXT, *of_one_method(cells), *simulated(cells, asked.out.with_suffix("") / "power.png", asked.times)]
    write_text(asked.out, "\n".join(lines).rstrip() + "\n")
    print(f"{asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
