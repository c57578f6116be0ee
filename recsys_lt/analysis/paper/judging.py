"""Two cells against each other, as a finding: significantly higher, significantly lower, or undecided."""

from collections.abc import Sequence
from typing import NamedTuple

from recsys_lt.analysis.cells import Cell, of_common_seeds
from recsys_lt.analysis.paper.claim import Finding
from recsys_lt.analysis.paper.evidence import LOSSES, Evidence, mean
from recsys_lt.analysis.significance import LEAST, holm, paired_p_value

METRIC = "ndcg@10"
LEVEL = 0.05


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

    Means and tests are over the seeds both have. Undecided are a pair whose difference may be the luck of which users
    were drawn, and one whose loser is in a setting of ours that may be to blame: it was best at its very last epoch,
    so it may not have been done; or, of Table 3's cells, it falls short of the published number over all its seeds.
    """
    common = [of_common_seeds([pair.higher, pair.lower]) for pair in pairs]
    p_values = holm(
        [paired_p_value(a, b, "ndcg", 10, share=pair.share) for pair, (a, b) in zip(pairs, common, strict=True)]
    )
    findings = []
    for pair, cells, p in zip(pairs, common, p_values, strict=True):
        a, b = (mean(cell, METRIC) for cell in cells)
        if a is None or b is None:
            continue
        holds = None if p is None or p >= LEVEL else a > pair.share * b
        names = pair.names or tuple(LOSSES[cell.identity[2]] for cell in cells)
        doubts = []
        if holds is not None:
            name, loser, ran = (names[1], pair.lower, cells[1]) if holds else (names[0], pair.higher, cells[0])
            if of_table_3 and (short := evidence.falls_short(loser)):
                doubts.append(f"{name} is short of the published {short:.4f}")
            elif evidence.may_not_be_done(ran):
                doubts.append(f"{name} is best at its last epoch, so it may not be done")
        # A sweep's cells differ in their loss's keys, which are named already.
        words = [evidence.in_words(cell, besides="" if of_table_3 else "loss") for cell in cells]
        if len(set(words)) == 1:
            said = [f"both: {words[0]}"]
        else:
            said = [f"{name}: {setting}" for name, setting in zip(names, words, strict=True)]
        said = [] if set(words) == {"published"} else said
        what = f"{pair.what}: {a:.4f}, {b:.4f} ({'; '.join([said_p(p), *said, *doubts])})"
        findings.append(Finding(pair.higher.dataset, what, None if doubts else holds))
    return findings


def said_p(p: float | None) -> str:
    """A p-value in words."""
    return "no seed with ranks in common" if p is None else f"p {p:.4f}" if p > LEAST else f"p <= {LEAST:g}"
