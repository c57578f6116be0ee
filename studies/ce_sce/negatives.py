"""Figure 3: how many negatives, and how heavy."""

from typing import TYPE_CHECKING, Any

from recsys_lt.results.cells import Cell, of_common_seeds
from recsys_lt.results.plots import BLUE, ORANGE, tidy
from studies.ce_sce.evidence import GROUPS, Evidence, best_epochs, mean
from studies.ce_sce.piece import Piece, Value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

K_COMMAND = "python -m recsys_lt +experiment=paper/figure3_k_beauty"
ALPHA_COMMAND = "python -m recsys_lt +experiment=paper/figure3_alpha_beauty"


#: Those of conf/experiment/paper/figure3_k_beauty.yaml and figure3_alpha_beauty.yaml; alpha 1 is SSM.
KS, ALPHAS = (1, 10, 50, 100, 500), (1, 10, 100, 1000, 10000)


def sampled(evidence: Evidence) -> dict[str, dict[float, Cell]]:
    """The three sweeps, alike in all but the loss: SSM by K, SCE by K at alpha 100, SCE by alpha at K 100.

    Of the seeds that all points have, so that no step between two points is one of seeds.
    """
    families = {
        "ssm by K": evidence.families("beauty", "sasrec", "ssm", "k"),
        "sce by K": evidence.families("beauty", "sasrec", "sce", "k", alpha=100),
        "sce by alpha": evidence.families("beauty", "sasrec", "sce", "alpha", k=100),
    }
    settings = dict.fromkeys(rest for each in families.values() for rest in each)
    chosen = max(settings, key=lambda rest: sum(len(each.get(rest, {})) for each in families.values()), default=())
    found = {name: each.get(chosen, {}) for name, each in families.items()}
    if found["sce by alpha"] and 100.0 in found["ssm by K"]:  # SCE with alpha 1
        found["sce by alpha"] = {1.0: found["ssm by K"][100.0]} | found["sce by alpha"]
    asked = {"ssm by K": KS, "sce by K": KS, "sce by alpha": ALPHAS}
    found = {name: {x: cell for x, cell in cells.items() if x in asked[name]} for name, cells in found.items()}
    alike = iter(of_common_seeds([cell for cells in found.values() for cell in cells.values()]))
    return {name: {x: next(alike) for x in cells} for name, cells in found.items()}


def negatives(evidence: Evidence) -> Piece:
    """NDCG@10 against K for SSM and SCE, and against alpha for SCE; all, head, mid and tail targets."""
    sweeps = {name: cells for name, cells in sampled(evidence).items() if len(cells) > 1}

    def draw(figure: "Figure") -> None:
        grid = figure.subplots(2, len(GROUPS))
        for (by_k, by_alpha), (group, prefix) in zip(grid.T, GROUPS.items(), strict=True):
            _line(by_k, sweeps.get("ssm by K", {}), prefix, ORANGE, "SSM")
            _line(by_k, sweeps.get("sce by K", {}), prefix, BLUE, "SCE, alpha 100")
            _line(by_alpha, sweeps.get("sce by alpha", {}), prefix, BLUE, "SCE, K 100")
            by_k.set_title(f"{group} targets", fontsize=9)
            for axes, label in ((by_k, "negatives K"), (by_alpha, "alpha")):
                axes.set_xscale("log")
                axes.set_xlabel(label)
                axes.xaxis.set_major_formatter("{x:g}")
                axes.minorticks_off()
                if axes.lines:  # panels differ in height: each begins at nothing
                    axes.set_ylim(0, 1.1 * axes.dataLim.y1)
                tidy(axes)
        for axes in grid[:, 0]:
            axes.set_ylabel("test NDCG@10")
            axes.legend(frameon=False, fontsize=8, loc="lower right")

    rows: list[list[Value]] = [
        [
            name, int(value) if value == int(value) else value, " ".join(map(str, cell.seeds)), best_epochs(cell),
            *(mean(cell, f"{prefix}ndcg@10") for prefix in GROUPS.values()),
        ]
        for name, cells in sweeps.items()
        for value, cell in cells.items()
    ]  # fmt: skip
    lacking = [] if {"ssm by K", "sce by K"} <= set(sweeps) else [K_COMMAND]
    lacking += [] if "sce by alpha" in sweeps else [ALPHA_COMMAND]
    return Piece(
        "figure3",
        "Figure 3: negatives K and their weight alpha, SASRec on Beauty, test NDCG@10",
        ["sweep", "value", "seeds", "best epoch", *GROUPS],
        rows,
        "SSM is SCE with alpha 1."
        + evidence.common_setting(cell for cells in sweeps.values() for cell in cells.values()),
        evidence.setting_of_all(cell for cells in sweeps.values() for cell in cells.values()),
        draw if rows else None,
        (9.6, 5.0),
        (K_COMMAND, ALPHA_COMMAND),
        lacking,
    )


def _line(axes: Any, cells: dict[float, Cell], prefix: str, colour: str, label: str) -> None:
    points = [(value, gain) for value, cell in cells.items() if (gain := mean(cell, f"{prefix}ndcg@10")) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=4, label=label)
