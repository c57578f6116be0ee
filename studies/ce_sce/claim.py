"""A conclusion of the paper, and how far runs bear it out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from studies.ce_sce.evidence import DATASETS


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
