"""Conclusions of the paper, and two cells compared: significantly higher, significantly lower, or undecided."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from recsys_lt.results.cells import Cell
from recsys_lt.results.significance import (
    LEVEL,
    Difference,
    Variances,
    compare_cells,
    corrected,
    spread,
    tested,
    users_of,
    why_untested,
)
from recsys_lt.results.written_tables import shown_p
from studies.ce_sce.evidence import DATASETS, LOSSES, Evidence, mean


class Finding(NamedTuple):
    """One comparison that a claim makes.

    Parameters
    ----------
    dataset
        On which dataset.
    what
        What was compared, with the numbers.
    holds
        Whether it came out as claimed; None where the runs settle it neither way.
    """

    dataset: str
    what: str
    holds: bool | None


class Claim(NamedTuple):
    """A conclusion of the paper.

    Parameters
    ----------
    statement
        What it says.
    test
        How we ask the runs.
    wanted
        Comparisons it makes when all is run, by dataset.
    findings
        Those the runs allow.
    """

    statement: str
    test: str
    wanted: Mapping[str, int]
    findings: Sequence[Finding]

    @property
    def verdict(self) -> str:
        """``holds``, ``does not hold``, ``undecided``, ``not yet run``, or of how many comparisons each is true."""
        said = Counter(finding.holds for finding in self.findings)
        wanted = sum(self.wanted.values())
        counts = {
            "holds": said[True],
            "does not hold": said[False],
            "undecided": said[None],
            "not yet run": wanted - len(self.findings),
        }
        if wanted in counts.values():
            return next(words for words, n in counts.items() if n == wanted)
        return ", ".join(f"{words} in {n}" for words, n in counts.items() if n) + f" (of {wanted})"

    @property
    def judged(self) -> str:
        """How many comparisons are settled on each dataset: ``Beauty 1 of 4, Yelp none of 3``."""
        settled = Counter(finding.dataset for finding in self.findings if finding.holds is not None)
        return ", ".join(f"{DATASETS[name]} {settled[name] or 'none'} of {n}" for name, n in self.wanted.items())


METRIC = "ndcg@10"


class Pair(NamedTuple):
    """A cell that is claimed to have the higher NDCG@10 than another.

    Parameters
    ----------
    what
        What is compared.
    higher, lower
        As it is claimed.
    share
        Of the other's NDCG@10 that it must exceed: below 1 to be no worse than by so much.
    names
        What the two are called; None for their losses.
    """

    what: str
    higher: Cell
    lower: Cell
    share: float = 1.0
    names: tuple[str, str] | None = None


def judged(evidence: Evidence, pairs: Sequence[Pair], of_table_3: bool = False) -> list[Finding]:
    """What each pair's cells say of the claim.

    Means and tests are of all runs of both cells. A pair is decided by the test over users and seeds, at p < 0.05 after
    Holm's correction over the pairs; with one seed on a side it is undecided. Undecided, too, is a pair whose loser is
    in a setting of ours that may be to blame: it was best at its very last epoch, so it may not have been done; or, of
    Table 3's cells, it falls short of the published number.
    """
    found = corrected([compare_cells(p.higher, p.lower, "ndcg", 10, share=p.share) for p in pairs])
    findings = []
    for pair, outcome in zip(pairs, found, strict=True):
        cells = (pair.higher, pair.lower)
        a, b = (mean(cell, METRIC) for cell in cells)
        if a is None or b is None:
            continue
        holds = settled(outcome)
        names = pair.names or tuple(LOSSES[cell.identity[2]] for cell in cells)
        doubts = []
        if holds is not None:
            name, loser = (names[1], pair.lower) if holds else (names[0], pair.higher)
            if of_table_3 and (short := evidence.falls_short(loser)):
                doubts.append(f"{name} is short of the published {short:.4f}")
            elif evidence.may_not_be_done(loser):
                doubts.append(f"{name} is best at its last epoch, so it may not be done")
        # A sweep's cells differ in their loss's keys, which are named already.
        words = [evidence.in_words(cell, besides="" if of_table_3 else "loss") for cell in cells]
        if len(set(words)) == 1:
            said = [f"both: {words[0]}"]
        else:
            said = [f"{name}: {setting}" for name, setting in zip(names, words, strict=True)]
        said = [] if set(words) == {"published"} else said
        result = said_of(outcome, pair.share) if outcome is not None else f"undecided: {why_untested(*cells)}"
        what = f"{pair.what}: {a:.4f}, {b:.4f} ({'; '.join([result, *said, *doubts])})"
        findings.append(Finding(pair.higher.dataset, what, None if doubts else holds))
    return findings


def compare_with(cell: Cell, number: float, metric: str, k: int) -> Difference | None:
    """Test a cell's mean against a published one of a single run.

    The run is assumed to be one more seed that varies as the cell's do. Its users are not known, so users are not
    paired. ``number`` is the published mean; ``metric`` and ``k`` name the gain.
    """
    found = users_of(cell, metric, k, "")
    if found is None or len(found.user) < 2:
        return None
    (n, users), means = found.value.shape, found.value.mean(0)
    value, of_users = float(means.mean()) - number, float(means.var(ddof=1)) / users
    own = spread(found.value)
    if own is None:
        return replace(tested(value, of_users, users - 1, (n, 1), False, None), published=True)
    variances = Variances(own.seeds, own.seeds, (n - 1, 0), max(of_users - own.residual / n, 0.0), users)
    return replace(tested(value, *variances.of(n, 1), (n, 1), True, variances), published=True)


def settled(found: Difference | None) -> bool | None:
    """Whether the first is higher; None where the test does not decide it, or is over users only."""
    return None if found is None or not found.over_seeds or found.p >= LEVEL else found.value > 0


def said_of(found: Difference, share: float = 1.0) -> str:
    """A difference (from a share of the other) in words: interval, p, and the seeds needed where it is undecided."""
    low, high = (f"{end:.4f}".replace("-0.0000", "0.0000") for end in (found.low, found.high))
    one, other = found.seeds
    seeds = _counted(one) if found.published or one == other else f"{one} and {other} seeds"
    said = f"difference{'' if share == 1 else f' from {share:.0%}'} {found.value:+.4f} [{low}, {high}], {seeds}"
    said += f"{'' if found.over_seeds else ': users only'}, p {shown_p(found.p)}"
    return said if settled(found) is not None else f"{said}; undecided: {_needed(found)}"


def _needed(found: Difference) -> str:
    """How many more seeds would decide it, if the true difference is as large."""
    seeds = found.seeds[:1] if found.published else found.seeds
    if found.variances is None:
        return f"at least 1 more seed {'' if found.published else 'of each '}would be needed"
    if found.seeds_needed is None:
        return "100 seeds would not settle it"
    wanted = [max(found.seeds_needed, n) for n in seeds]
    more = [n - now for n, now in zip(wanted, seeds, strict=True)]
    if len(set(more)) == 1:
        return f"{_counted(more[0], 'more ')}{' of each' * (len(more) > 1)} would be needed"
    return f"{_counted(sum(more), 'more ')} would be needed ({wanted[0]} and {wanted[1]})"


def _counted(n: int, more: str = "") -> str:
    return f"{n} {more}seed{'s' * (n > 1)}"
