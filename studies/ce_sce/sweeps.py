"""Figures 1a, 1b and 3: runs of SASRec on Beauty that differ in one key of their loss, or were watched in training."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_lt.results.cells import Cell, compared, once_a_seed
from recsys_lt.results.field_terms import GREEK
from recsys_lt.results.plots.drawing import CELLS, PAGE
from recsys_lt.runs.reading import CURVE, read_curve
from studies.ce_sce.evidence import GROUPS, LOSSES, Evidence, best_epochs, largest, mean
from studies.ce_sce.piece import Piece, Shown, Value
from studies.shared.pages import BLUE, GREY, LIGHT_BLUE, ORANGE, legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: With the choices of this study.
_OURS = "python -m recsys_lt --config-dir studies/ce_sce/conf"
ETA_COMMANDS = (
    f"{_OURS} +experiment=paper/figure1a_beauty",
    "python -m recsys_lt +experiment=beauty_ce_fast hydra.run.dir=multirun/figure1a_beauty/ce",
)

#: Those of experiment/paper/figure1a_beauty.yaml.
ETAS = (0.1, 0.3, 0.5, 0.7, 1, 2, 5)


def of_common_seeds(cells: Sequence[Cell]) -> list[Cell]:
    """Cells with the runs of the seeds that all of them have; unchanged where there is no such seed."""
    common = set.intersection(*(set(cell.seeds) for cell in cells)) if cells else set()
    if not common:
        return list(cells)
    return [replace(cell, finished=tuple(run for run in cell.finished if run.seed in common)) for cell in cells]


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
            each.plot(*zip(*points, strict=True), color=BLUE, marker="o", label="CE-eta")
            if (line := mean(whole, f"{prefix}ndcg@10")) is not None:
                each.axhline(line, color=GREY, linewidth=1, linestyle="--", label="CE")
            each.set_xscale("log")
            each.set_xticks(list(swept), [f"{eta:g}" for eta in swept], rotation=90, fontsize=6)
            each.minorticks_off()
            each.set_title(f"{group} targets")
            each.set_xlabel("eta")
        axes[0].set_ylabel("test NDCG@10")
        legend_below(figure)

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
        (PAGE, 2.5),
        ETA_COMMANDS,
        _lacking_etas(swept) + (() if whole is not None else ETA_COMMANDS[1:]),
    )


def _lacking_etas(swept: dict[float, Cell]) -> tuple[str, ...]:
    left = [f"{eta:g}" for eta in ETAS if eta not in swept]
    return (f"{ETA_COMMANDS[0]} loss.eta={','.join(left)}",) if left else ()


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
            _line(by_k, sweeps.get("sce by K", {}), prefix, BLUE, f"SCE, {GREEK['alpha']}=100")
            _line(by_alpha, sweeps.get("sce by alpha", {}), prefix, LIGHT_BLUE, "SCE, K=100")
            by_k.set_title(f"{group} targets")
            for axes, label in ((by_k, "negatives K"), (by_alpha, f"weight {GREEK['alpha']} of the negatives")):
                axes.set_xscale("log")
                axes.set_xlabel(label)
                axes.xaxis.set_major_formatter("{x:g}")
                axes.minorticks_off()
                if axes.lines:  # panels differ in height: each begins at nothing
                    axes.set_ylim(0, 1.1 * axes.dataLim.y1)
        for axes in grid[:, 0]:
            axes.set_ylabel("test NDCG@10")
        legend_below(figure)

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
        (PAGE, 3.6),
        (K_COMMAND, ALPHA_COMMAND),
        lacking,
    )


def _line(axes: Any, cells: dict[float, Cell], prefix: str, colour: str, label: str) -> None:
    points = [(value, gain) for value, cell in cells.items() if (gain := mean(cell, f"{prefix}ndcg@10")) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, marker="o", label=label)


_WATCHED = f"{_OURS} +experiment=paper/figure1b_beauty"
#: Losses -> what they need besides: CE and CE-eta are best earlier, and their fast setting has fewer epochs.
_RUN = {("bpr", "bce"): "", ("ce_eta", "ce"): " trainer.max_epochs=50", ("ssm", "sce"): " loss.k=100"}
WATCHED_COMMANDS = tuple(f"{_WATCHED} loss={','.join(losses)}{more}" for losses, more in _RUN.items())
_DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.5, 2)))
#: What is measured -> in words.
_SHARES = {"ndcg": "targets with -log NDCG <= loss", "met": "items met as negatives"}


def watched(folder: Path) -> list[dict[str, float]]:
    """The epochs of a run that measured how tight its loss is; empty where it did not."""
    return [row for row in read_curve(folder / CURVE) if "bound/ndcg" in row]


def watched_cells(evidence: Evidence) -> dict[str, tuple[Cell, list[dict[str, float]]]]:
    """By its loss, the run of SASRec on Beauty that was watched for longest, and its epochs."""
    found: dict[str, tuple[Cell, list[dict[str, float]]]] = {}
    for cell in evidence.cells:
        if cell.identity[:2] != ("beauty", "sasrec") or cell.identity[3] != "adam":
            continue
        for run in cell.finished:
            rows = watched(run.folder)
            k = compared(run).get("loss.k", "1")
            loss = LOSSES.get(cell.identity[2], cell.identity[2]) + ("" if k == "1" else f", K {k}")
            if rows and (loss not in found or len(rows) > len(found[loss][1])):
                found[loss] = replace(cell, finished=(run,)), rows
    return found


def last_shares(evidence: Evidence, loss: str) -> list[float]:
    """Share of targets with -log NDCG <= loss at the last epoch, one number a seed; empty where none was watched."""
    found = watched_cells(evidence).get(loss)
    if found is None:
        return []
    (run,) = found[0].finished
    cell = next(cell for cell in evidence.cells if run in cell.finished)
    return [rows[-1]["bound/ndcg"] for each in once_a_seed(cell).finished if (rows := watched(each.folder))]


def tightness(evidence: Evidence) -> Piece:
    """How often -log NDCG <= loss, and the share of items that a batch meets, by epoch and group of targets."""
    watching = watched_cells(evidence)
    curves = {loss: rows for loss, (_, rows) in watching.items()}
    cells = {loss: cell for loss, (cell, _) in watching.items()}

    def draw(figure: "Figure") -> None:
        grid = figure.subplots(len(_SHARES), len(GROUPS), sharex=True, sharey=True)
        for line, (measure, label) in zip(grid, _SHARES.items(), strict=True):
            for axes, (group, prefix) in zip(line, GROUPS.items(), strict=True):
                key = f"bound/{prefix}{measure}"
                for colour, (loss, rows) in enumerate(curves.items()):
                    points = [(row["epoch"], row[key]) for row in rows if key in row]
                    if points:
                        # Where several are 1, the gaps of the upper ones show those below them.
                        look = {"linestyle": _DASHES[colour % len(_DASHES)], "color": CELLS[colour].light}
                        axes.plot(*zip(*points, strict=True), **look, label=loss)
                axes.set_ylim(-0.03, 1.05)
                if measure == "ndcg":
                    axes.set_title(f"{group} targets")
                else:
                    axes.set_title(f"{group} items")
                    axes.set_xlabel("epoch")
            line[0].set_ylabel(f"share of {label}".replace(" with ", " with\n").replace(" met ", "\nmet "))
        legend_below(figure)

    table: dict[str, list[list[Value]]] = {}
    for loss, rows in curves.items():
        for row in rows:
            for measure, words in _SHARES.items():
                shares = (row.get(f"bound/{prefix}{measure}") for prefix in GROUPS.values())
                setting = evidence.in_words(cells[loss])
                table.setdefault(loss, []).append([loss, setting, int(row["epoch"]), words, *shares])
    header = ["loss", "setting", "epoch", "share of", *GROUPS]
    n = len(_SHARES)
    ends = [row for rows in table.values() for row in rows[:n] + rows[n:][-n:]]
    settings = list(dict.fromkeys(evidence.named_setting(cell) for cell in cells.values()))
    if len(settings) > 1:  # the table says which
        settings = list(dict.fromkeys(f"{setting.split(' (')[0]}s" for setting in settings))
    return Piece(
        "figure1b",
        "Figure 1b: tightness and coverage in training, SASRec on Beauty",
        header,
        [row for rows in table.values() for row in rows],
        "Measured in training, each epoch on its first batches (of random users). "
        f"Share of {_SHARES['ndcg']}: those whose loss is at least -log NDCG of their rank among all items, so that a "
        f"small loss means a good rank. Share of {_SHARES['met']}: how much of the catalogue the targets of one batch "
        "are compared with (their negatives; CE: all items; CE-eta: those in its band), a mean over the batches looked "
        "at; head, mid and tail are then groups of these items. With a hundred negatives a target a batch meets all "
        "there is, so this tells one negative from many and no more. Below stand the first and the last epoch; "
        f"figure1b.csv has every one.{_reached(evidence, cells)}",
        " and ".join(settings),
        draw if curves else None,
        (PAGE, 4.0),
        WATCHED_COMMANDS,
        _lacking_losses({cell.identity[2] for cell in cells.values()}),
        Shown(header, ends),
    )


def _reached(evidence: Evidence, cells: Mapping[str, Cell]) -> str:
    """What the watched runs reached, beside what was published: a fast setting may be a poor one for a loss."""
    said = []
    for name, cell in cells.items():
        gain, number = mean(cell, "ndcg@10"), evidence.facts.test(*cell.identity[:3])
        if gain is not None:
            beside = "" if number is None or "," in name else f" (published {number.mean:.4f})"
            said.append(f"{name} {gain:.4f}{beside}")
    return f" Test NDCG@10 of these runs: {'; '.join(said)}." if said else ""


def _lacking_losses(watched_losses: set[str]) -> list[str]:
    """The commands, narrowed to the losses that no run watched."""
    left = {tuple(loss for loss in losses if loss not in watched_losses): more for losses, more in _RUN.items()}
    return [f"{_WATCHED} loss={','.join(losses)}{more}" for losses, more in left.items() if losses]
