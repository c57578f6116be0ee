"""What a difference from a published mean over seeds shows."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from studies.ce_sce.published import Published

SEEDS = 5  # of every published mean with a standard deviation
LEVEL = 0.95

COLUMNS = ("published", "difference", "at most 3 %?", "95 % interval")
RULES = (
    "Each difference is judged by two rules. The first is ours: at most 3 % from the published mean. The second",
    "asks whether seeds alone could explain the difference. A single seed of ours is compared with the 95 %",
    "prediction interval for one more published seed: mean ± t(4) s sqrt(1 + 1/5). Several seeds are compared by",
    "Welch's 95 % interval and p for the difference of the two means. A value inside an interval is not shown to be",
    "equal, because the interval is wide if seeds vary much. If there were no true difference, about one comparison",
    "in twenty would still be outside. The points of a learning curve are not independent.",
)
UNDECIDED = (
    "Inside the 95 % interval, and yet more than 3 % away. The seeds at hand can neither show a difference of this",
    "size nor exclude one:",
)


@dataclass(frozen=True)
class Agreement:
    """Measured seeds beside a published mean.

    Parameters
    ----------
    published
        Mean and standard deviation over ``SEEDS`` seeds.
    measured
        A value a seed, at least one.
    """

    published: Published
    measured: Sequence[float]

    @property
    def difference(self) -> float:
        """Measured mean minus published mean."""
        return math.fsum(self.measured) / len(self.measured) - self.published.mean

    @property
    def share(self) -> float:
        """The difference as a share of the published mean."""
        return self.difference / self.published.mean

    @property
    def near(self) -> bool:
        """Whether the difference is at most 3 % of the published mean, however much seeds vary."""
        return self.published.agrees(self.published.mean + self.difference)

    @property
    def half_width(self) -> float | None:
        """Half the width of the 95 % interval around no difference; None for a published mean without a deviation.

        For one seed it is the prediction interval of one more draw, t(4) s sqrt(1 + 1/5). For several it is Welch's
        interval of a difference of two means.
        """
        from scipy import stats

        if self.published.std is None:
            return None
        theirs = self.published.std**2 / SEEDS
        if len(self.measured) == 1:
            return float(stats.t.ppf((1 + LEVEL) / 2, SEEDS - 1)) * math.sqrt(self.published.std**2 + theirs)
        ours = statistics.variance(self.measured) / len(self.measured)
        return float(stats.t.ppf((1 + LEVEL) / 2, self._freedom(ours, theirs))) * math.sqrt(ours + theirs)

    @property
    def p(self) -> float | None:
        """Welch's two-sided p over seeds; None for one seed, or without a published deviation."""
        from scipy import stats

        if self.published.std is None or len(self.measured) == 1:
            return None
        ours, theirs = statistics.variance(self.measured) / len(self.measured), self.published.std**2 / SEEDS
        return float(2 * stats.t.sf(abs(self.difference) / math.sqrt(ours + theirs), self._freedom(ours, theirs)))

    @property
    def inside(self) -> bool | None:
        """Whether the difference lies inside the 95 % interval; None without one."""
        half = self.half_width
        return None if half is None else abs(self.difference) <= half

    @property
    def undecided(self) -> str | None:
        """What is said of a difference of more than 3 % that its interval holds; None for any other."""
        half = self.half_width
        if half is None or self.near or not self.inside:
            return None
        return f"{self.share:+.1%}, the interval is ±{half / self.published.mean:.1%}"

    def _freedom(self, ours: float, theirs: float) -> float:
        """Welch's degrees of freedom, from the squared standard errors of both means."""
        return (ours + theirs) ** 2 / (ours**2 / (len(self.measured) - 1) + theirs**2 / (SEEDS - 1))

    def cells(self) -> list[str]:
        """What stands below ``COLUMNS``."""
        difference = f"{self.difference:+.5f}, {self.share:+.1%}"
        return [str(self.published), difference, "yes" if self.near else "**no**", self._interval()]

    def _interval(self) -> str:
        half, p = self.half_width, self.p
        if half is None:
            return "one published run"
        if p is None:
            low, high = self.published.mean - half, self.published.mean + half
            return f"one more seed: {'inside' if self.inside else '**outside**'} {low:.5f} to {high:.5f}"
        said = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
        low, high = self.difference - half, self.difference + half
        return f"difference {low:+.5f} to {high:+.5f}, {said if self.inside else f'**{said}**'}"
