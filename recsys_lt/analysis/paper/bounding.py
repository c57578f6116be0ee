"""Figure 2: how likely a sampled loss bounds -log NDCG, by theory and by drawing."""

from typing import TYPE_CHECKING

import numpy as np

from recsys_lt.analysis.bounds import sce_ndcg_bound
from recsys_lt.analysis.paper.evidence import Evidence
from recsys_lt.analysis.paper.piece import Piece, Value
from recsys_lt.analysis.plots import tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_ITEMS = 12_101  # Beauty's, as in the paper
ALPHAS, RANKS = (1, 5, 100), (10, 50, 100, 500, 1000, 5000)
KS = (1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500)
_DRAWS = 200_000


def drawn(rank: int, k: int, alpha: float, n_items: int = N_ITEMS) -> float:
    """How often SCE is at least -log NDCG(rank), in the case where it is least: hits tie, the others score -inf.

    Parameters
    ----------
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
    return float(np.mean(np.log1p(alpha * hits) + 1e-12 >= np.log(np.log2(1 + rank))))


def bounding(_evidence: Evidence) -> Piece:
    """The bounds of Theorems 1 and 2 as lines, drawn frequencies as dots; no run is needed."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots(1, len(ALPHAS), sharey=True)
        for each, alpha in zip(axes, ALPHAS, strict=True):
            for colour, rank in enumerate(RANKS):
                line = [sce_ndcg_bound(rank, k, N_ITEMS, alpha) for k in KS]
                each.plot(KS, line, color=f"C{colour}", linewidth=1.3, label=f"rank {rank:,}")
                dots = [drawn(rank, k, alpha) for k in KS]
                each.plot(KS, dots, color=f"C{colour}", linestyle="", marker=".", markersize=4)
            each.set_title("SSM" if alpha == 1 else f"SCE, alpha {alpha}", fontsize=9)
            each.set_xlabel("negatives K")
            tidy(each)
        axes[0].set_ylabel("P(-log NDCG <= loss)")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(RANKS), frameon=False, fontsize=8)

    rows: list[list[Value]] = []
    for alpha in ALPHAS:
        for rank in RANKS:
            for k in (10, 100, 500):
                rows.append([alpha, rank, k, sce_ndcg_bound(rank, k, N_ITEMS, alpha), drawn(rank, k, alpha)])
    return Piece(
        "figure2",
        "Figure 2: probability that a sampled loss bounds -log NDCG",
        ["alpha", "rank", "K", "bound", "drawn"],
        rows,
        f"{N_ITEMS:,} items. Lines: the lower bounds of Theorems 1 (alpha 1) and 2; dots: frequencies in {_DRAWS:,} "
        "draws of the hardest case. A dot below its line by more than sampling error (0.003) would disprove the bound.",
        draw,
        (9.6, 3.4),
    )
