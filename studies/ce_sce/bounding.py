"""Figure 2: how likely a sampled loss bounds -log NDCG and -log MRR, by theory (arXiv 2402.06216) and by drawing.

The bounds speak of K negatives drawn independently and uniformly from N items (target and hits
included, as pool ``all`` does) for a target of fixed rank r, the number of items that score at least
as high as the target, itself included. They bound from below the probability that the loss is at
least -log NDCG(r) = log log2(1 + r), or -log MRR(r) = log r; a bound below 0 says nothing and is
returned as 0. Theorem numbers are those of version 3; the bounds of version 2 are looser in m, and
are kept because its claims on NCE and IS rest on them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from recsys_lt.results.field_terms import term
from recsys_lt.results.plots.drawing import CELLS, PAGE
from studies.ce_sce.evidence import Evidence
from studies.ce_sce.piece import Piece, Shown, Value
from studies.shared.pages import legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _chance(groups: int, rank: int, draws: int, n_items: int) -> float:
    """1 - groups * P(no draw of a group hits), the K draws cut into equal groups: a union bound."""
    if not 1 <= rank <= n_items:
        raise ValueError(f"a rank among {n_items} items lies in 1..{n_items}, not {rank}")
    if draws < 1:
        raise ValueError(f"K must be at least 1, not {draws}")
    return max(0.0, 1.0 - groups * (1.0 - rank / n_items) ** (draws // groups))


def _ceil_div(numerator: int, alpha: float) -> int:
    if alpha <= 0:
        raise ValueError(f"alpha must be positive, not {alpha}")
    return max(1, int(-(-numerator // alpha)))


def _levels(rank: int) -> int:
    """Smallest m with rank <= 2^m - 1, exactly: ceil(log2(rank + 1))."""
    return rank.bit_length()


def ssm_ndcg_bound(rank: int, k: int, n_items: int) -> float:
    """Sampled softmax bounds NDCG: arXiv 2402.06216v3, Theorem 1.

    1 - m (1 - r/N)^floor(K/m) with r <= 2^m - 1.

    Parameters
    ----------
    rank
        Rank r of the target, 1-based.
    k
        Sampled negatives K.
    n_items
        Size of the catalogue, N.

    Returns
    -------
    Lower bound of P(-log NDCG(r) <= loss), 0..1.
    """
    return sce_ndcg_bound(rank, k, n_items, alpha=1.0)


def sce_ndcg_bound(rank: int, k: int, n_items: int, alpha: float) -> float:
    """Scaled cross-entropy bounds NDCG: arXiv 2402.06216v3, Theorem 2.

    Theorem 1 with ceil(m / alpha) for m: each sampled item that outscores the target counts alpha
    times in the partition sum, so fewer hits suffice.

    Parameters
    ----------
    rank, k, n_items
        As for ``ssm_ndcg_bound``.
    alpha
        Weight of the negatives.
    """
    return _chance(_ceil_div(_levels(rank), alpha), rank, k, n_items)


def sce_mrr_bound(rank: int, k: int, n_items: int, alpha: float) -> float:
    """Scaled cross-entropy bounds MRR: arXiv 2402.06216v3, MRR version of Theorem 2.

    ceil(2^m / alpha) in place of ceil(m / alpha); ``alpha=1`` is the sampled softmax.

    Parameters
    ----------
    rank, k, n_items, alpha
        As for ``sce_ndcg_bound``.
    """
    return _chance(_ceil_div(1 << _levels(rank), alpha), rank, k, n_items)


N_ITEMS = 12_101  # Beauty's, as in the paper
ALPHAS, RANKS = (1, 5, 100), (10, 50, 100, 500, 1000, 5000)
KS = (1, 10, 50, 100, 300, 500)
_LINE = range(1, KS[-1] + 1)
_DRAWS = 200_000


class Form(NamedTuple):
    """A metric that is to be bounded: -log of it at a rank, and the theorem."""

    minus_log: Callable[[int], float]
    bound: Callable[[int, int, int, float], float]


FORMS = {
    "NDCG": Form(lambda rank: float(np.log(np.log2(1 + rank))), sce_ndcg_bound),
    "MRR": Form(lambda rank: float(np.log(rank)), sce_mrr_bound),
}


def drawn(metric: str, rank: int, k: int, alpha: float, n_items: int = N_ITEMS) -> float:
    """How often SCE is at least -log metric(rank), in the case where it is least: hits tie, the others score -inf.

    Parameters
    ----------
    metric
        A key of ``FORMS``.
    rank
        Of the target, 1-based.
    k
        Negatives K.
    alpha
        Their weight.
    n_items
        Size of the catalogue.
    """
    hits = np.random.default_rng([rank, k]).binomial(k, rank / n_items, _DRAWS)
    return float(np.mean(np.log1p(alpha * hits) + 1e-12 >= FORMS[metric].minus_log(rank)))


def bounding(_evidence: Evidence) -> Piece:
    """The bounds of Theorems 1 and 2 as lines, drawn frequencies as dots; no run is needed."""
    rows: list[list[Value]] = []
    shown: list[list[Value]] = []
    for metric, form in FORMS.items():
        for alpha in ALPHAS:
            for rank in RANKS:
                pairs = [(k, form.bound(rank, k, N_ITEMS, alpha), drawn(metric, rank, k, alpha)) for k in KS]
                rows += [[metric, alpha, rank, *pair] for pair in pairs]
                shown.append([metric, alpha, rank, *(f"{bound:.4f} / {found:.4f}" for _, bound, found in pairs)])

    def draw(figure: "Figure") -> None:
        grid = figure.subplots(len(FORMS), len(ALPHAS), sharey=True, sharex=True)
        for line, (metric, form) in zip(grid, FORMS.items(), strict=True):
            for axes, alpha in zip(line, ALPHAS, strict=True):
                for colour, rank in enumerate(RANKS):
                    bounds = [form.bound(rank, k, N_ITEMS, alpha) for k in _LINE]
                    axes.plot(_LINE, bounds, color=CELLS[colour].light, label=f"rank {rank:,}")
                    dots = [row[-1] for row in rows if row[:3] == [metric, alpha, rank]]
                    axes.plot(KS, dots, color=CELLS[colour].light, linestyle="", marker="o")
                axes.set_title(f"{metric}: " + ("SSM" if alpha == 1 else f"SCE, {term(f'alpha={alpha}')}"))
            line[0].set_ylabel(f"P(-log {metric} ≤ loss)")
        for axes in grid[-1]:
            axes.set_xlabel("negatives K")
        legend_below(figure)

    return Piece(
        "figure2",
        "Figure 2: probability that a sampled loss bounds -log NDCG, and -log MRR",
        ["metric", "alpha", "rank", "K", "bound", "drawn"],
        rows,
        f"{N_ITEMS:,} items; alpha 1 is SSM. Lines, and the first number of each entry: the lower bounds of Theorems 1 "
        "(alpha 1) and 2, and of their form for MRR. Dots, and the second number: frequencies in "
        f"{_DRAWS:,} draws of the hardest case. A dot below its line by more than sampling error (0.003) would "
        "disprove the bound.",
        f"a catalogue of {N_ITEMS:,} items (Beauty's); lines: bounds, dots: {_DRAWS:,} draws of the hardest case",
        draw,
        (PAGE, 4.2),
        shown=Shown(["metric", "alpha", "rank", *(f"K {k}" for k in KS)], shown),
    )
