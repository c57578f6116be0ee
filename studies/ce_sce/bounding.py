"""Figure 2: how likely a sampled loss bounds -log NDCG and -log MRR, by theory and by drawing."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from recsys_lt.results.plots import tidy
from studies.ce_sce.bounds import sce_mrr_bound, sce_ndcg_bound
from studies.ce_sce.evidence import Evidence
from studies.ce_sce.piece import Piece, Shown, Value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
                    axes.plot(_LINE, bounds, color=f"C{colour}", linewidth=1.3, label=f"rank {rank:,}")
                    dots = [row[-1] for row in rows if row[:3] == [metric, alpha, rank]]
                    axes.plot(KS, dots, color=f"C{colour}", linestyle="", marker=".", markersize=5)
                axes.set_title(f"{metric}: " + ("SSM" if alpha == 1 else f"SCE, alpha {alpha}"), fontsize=9)
                tidy(axes)
            line[0].set_ylabel(f"P(-log {metric} <= loss)")
        for axes in grid[-1]:
            axes.set_xlabel("negatives K")
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(RANKS), frameon=False, fontsize=8)

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
        (9.6, 5.6),
        shown=Shown(["metric", "alpha", "rank", *(f"K {k}" for k in KS)], shown),
    )
