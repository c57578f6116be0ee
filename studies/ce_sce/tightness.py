"""Figure 1b: tightness and coverage of the losses, measured in training."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_lt.results.cells import Cell, compared, once_a_seed
from recsys_lt.results.plots import tidy
from recsys_lt.runs.curve import FILE, read_curve
from studies.ce_sce.evidence import GROUPS, LOSSES, Evidence, mean
from studies.ce_sce.piece import Piece, Shown, Value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COMMAND = "python -m recsys_lt +experiment=paper/figure1b_beauty"
#: Losses -> what they need besides: CE and CE-eta are best earlier, and their fast setting has fewer epochs.
_RUN = {("bpr", "bce"): "", ("ce_eta", "ce"): " trainer.max_epochs=50", ("ssm", "sce"): " loss.k=100"}
COMMANDS = tuple(f"{_COMMAND} loss={','.join(losses)}{more}" for losses, more in _RUN.items())
_DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.5, 2)))
#: What is measured -> in words.
_SHARES = {"ndcg": "targets with -log NDCG <= loss", "met": "items met as negatives"}


def watched(folder: Path) -> list[dict[str, float]]:
    """The epochs of a run that measured how tight its loss is; empty where it did not."""
    return [row for row in read_curve(folder / FILE) if "bound/ndcg" in row]


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
                        look = {"linestyle": _DASHES[colour % len(_DASHES)], "color": f"C{colour}", "linewidth": 1.6}
                        axes.plot(*zip(*points, strict=True), **look, label=loss)
                axes.set_ylim(-0.03, 1.05)
                tidy(axes)
                if measure == "ndcg":
                    axes.set_title(f"{group} targets", fontsize=9)
                else:
                    axes.set_title(f"{group} items", fontsize=9)
                    axes.set_xlabel("epoch")
            line[0].set_ylabel(f"share of {label}".replace(" with ", " with\n").replace(" met ", "\nmet "), fontsize=9)
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=8)

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
        (9.6, 5.2),
        COMMANDS,
        _lacking({cell.identity[2] for cell in cells.values()}),
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


def _lacking(watched_losses: set[str]) -> list[str]:
    """The commands, narrowed to the losses that no run watched."""
    left = {tuple(loss for loss in losses if loss not in watched_losses): more for losses, more in _RUN.items()}
    return [f"{_COMMAND} loss={','.join(losses)}{more}" for losses, more in left.items() if losses]
