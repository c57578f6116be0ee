"""Figure 1a: how wide a band below the target CE-eta keeps, and what that is worth."""

from typing import TYPE_CHECKING

from recsys_lt.results.cells import Cell, of_common_seeds
from recsys_lt.results.plots import BLUE, GREY, tidy
from studies.ce_sce.evidence import GROUPS, Evidence, best_epochs, largest, mean
from studies.ce_sce.piece import Piece

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMMANDS = (
    "python -m recsys_lt +experiment=paper/figure1a_beauty",
    "python -m recsys_lt +experiment=beauty_ce_fast hydra.run.dir=multirun/figure1a_beauty/ce",
)

#: Those of conf/experiment/paper/figure1a_beauty.yaml.
ETAS = (0.1, 0.3, 0.5, 0.7, 1, 2, 5)


def swept_and_whole(evidence: Evidence) -> tuple[dict[float, Cell], Cell | None]:
    """CE-eta by its eta, and CE beside it, of the seeds that all have."""
    swept = largest(evidence.families("beauty", "sasrec", "ce_eta", "eta"))
    whole = evidence.beside(next(iter(swept.values())), "ce") if swept else None
    alike = of_common_seeds([*swept.values(), *([] if whole is None else [whole])])
    return dict(zip(swept, alike, strict=False)), None if whole is None else alike[-1]


def truncation(evidence: Evidence) -> Piece:
    """NDCG@10 against eta, for all, head, mid and tail targets, with CE as a line."""
    swept, whole = swept_and_whole(evidence)

    def draw(figure: "Figure") -> None:
        axes = figure.subplots(1, len(GROUPS))
        for each, (group, prefix) in zip(axes, GROUPS.items(), strict=True):
            points = [
                (eta, value) for eta, cell in swept.items() if (value := mean(cell, f"{prefix}ndcg@10")) is not None
            ]
            each.plot(*zip(*points, strict=True), color=BLUE, marker="o", markersize=4)
            if (line := mean(whole, f"{prefix}ndcg@10")) is not None:
                each.axhline(line, color=GREY, linewidth=1, linestyle="--", label="CE")
                each.legend(frameon=False, fontsize=8)
            each.set_xscale("log")
            each.set_xticks(list(swept), [f"{eta:g}" for eta in swept], fontsize=7, rotation=45)
            each.minorticks_off()
            each.set_title(f"{group} targets", fontsize=9)
            each.set_xlabel("eta")
            tidy(each)
        axes[0].set_ylabel("test NDCG@10")

    cells = {**{str(eta): cell for eta, cell in swept.items()}, **({"CE": whole} if whole is not None else {})}
    return Piece(
        "figure1a",
        "Figure 1a: CE-eta, SASRec on Beauty, test NDCG@10",
        ["eta", "seeds", "best epoch", *GROUPS],
        [
            [
                eta,
                " ".join(map(str, cell.seeds)),
                best_epochs(cell),
                *(mean(cell, f"{prefix}ndcg@10") for prefix in GROUPS.values()),
            ]
            for eta, cell in cells.items()
        ],
        "A small eta keeps only what is scored near the target (tight), a large one all items (CE)."
        + evidence.common_setting(swept.values()),
        evidence.setting_of_all(swept.values()),
        draw if swept else None,
        (9.6, 3.2),
        COMMANDS,
        _lacking(swept) + (() if whole is not None else COMMANDS[1:]),
    )


def _lacking(swept: dict[float, Cell]) -> tuple[str, ...]:
    left = [f"{eta:g}" for eta in ETAS if eta not in swept]
    return (f"{COMMANDS[0]} loss.eta={','.join(left)}",) if left else ()
