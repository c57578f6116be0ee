"""Figure 3: how many negatives, and how heavy."""

from typing import TYPE_CHECKING, Any

from recsys_lt.analysis.cells import Cell
from recsys_lt.analysis.paper.evidence import GROUPS, Evidence, best_epochs, mean
from recsys_lt.analysis.paper.piece import Piece, Value
from recsys_lt.analysis.plots import BLUE, GREY, ORANGE, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

K_COMMAND = "python -m recsys_lt +experiment=paper/figure3_k_beauty"
ALPHA_COMMAND = "python -m recsys_lt +experiment=paper/figure3_alpha_beauty"
_COLOURS = {"all": BLUE, "head": ORANGE, "mid": "#3a923a", "tail": GREY}


def sampled(evidence: Evidence) -> dict[str, dict[float, Cell]]:
    """The three sweeps, alike in all but the loss: SSM by K, SCE by K at alpha 100, SCE by alpha at K 100."""
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
    return found


def negatives(evidence: Evidence) -> Piece:
    """NDCG@10 against K for SSM and SCE, and against alpha; SCE by groups of targets."""
    sweeps = {name: cells for name, cells in sampled(evidence).items() if len(cells) > 1}

    def draw(figure: "Figure") -> None:
        by_k, by_alpha, tail = figure.subplots(1, 3)
        for name, colour in (("ssm by K", ORANGE), ("sce by K", BLUE)):
            _line(by_k, sweeps.get(name, {}), "", colour, name.split()[0].upper())
        _line(by_alpha, sweeps.get("sce by alpha", {}), "", BLUE, "SCE, K 100")
        for group, prefix in list(GROUPS.items())[1:]:
            _line(tail, sweeps.get("sce by K", {}), prefix, _COLOURS[group], f"{group} targets")
        for each, label, title in (
            (by_k, "negatives K", "SSM; SCE with alpha 100"),
            (by_alpha, "alpha", "K 100"),
            (tail, "negatives K", "SCE, by group"),
        ):  # fmt: skip
            each.set_xscale("log")
            each.set_xlabel(label)
            each.set_title(title, fontsize=9)
            each.legend(frameon=False, fontsize=8)
            tidy(each)
        by_k.set_ylabel("test NDCG@10")

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
        draw if rows else None,
        (9.6, 3.0),
        lacking,
    )


def _line(axes: Any, cells: dict[float, Cell], prefix: str, colour: str, label: str) -> None:
    points = [(value, gain) for value, cell in cells.items() if (gain := mean(cell, f"{prefix}ndcg@10")) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=4, label=label)
