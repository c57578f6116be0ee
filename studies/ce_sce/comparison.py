"""Figure 4: small models with CE and SCE beside recommenders made of language models."""

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple

from recsys_lt.results.cells import Cell
from recsys_lt.results.plots.drawing import PAGE
from recsys_lt.results.written_tables import MISSING
from studies.ce_sce.evidence import BACKBONES, DATASETS, GROUPS, LOSSES, Evidence, mean
from studies.ce_sce.piece import Piece, Value
from studies.ce_sce.tables import COMMANDS as TABLE_3
from studies.ce_sce.tables import OF_UNMASKED, UNMASKED, made_of, names, rows_of, unmasked, users_of
from studies.shared.pages import BLUE, GREY, LIGHT_BLUE, ORANGE, legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Bar(NamedTuple):
    """One recommender on one dataset.

    Parameters
    ----------
    name, kind, ours
        What it is called, its colour, and whether we ran it.
    gains
        NDCG@10 of all targets and by group; None where it was not measured.
    part
        Which part of the users it was ranked for, where it was not all, and whether seen items were ranked too.
    counts
        How many targets each of the gains is of; None where that is not known.
    """

    name: str
    kind: str
    ours: bool
    gains: tuple[float | None, ...]
    part: str = ""
    counts: tuple[float | None, ...] = (None,) * len(GROUPS)


COMMANDS = (*TABLE_3, "python -m recsys_lt +experiment=llm_vs_small_ml100k")
_COLOURS = {"LLM": ORANGE, "CE": BLUE, "SCE": LIGHT_BLUE}
_INK = "#222222"
_COLUMNS = 2
_FEW = 50  # targets: of fewer a group has no mark
_MARKS = {"head": "^", "mid": "o", "tail": "v"}


def bars(evidence: Evidence, dataset: str) -> list[Bar]:
    """What there is to compare on a dataset; a published value stands where we have no run."""
    found = []
    for each in evidence.facts.language_models:
        number = evidence.facts.of_language_model(each.model, dataset)
        if number is not None:
            part = "" if each.masked else UNMASKED
            found.append(Bar(each.name, "LLM", False, (number.mean, None, None, None), part))
    known, apart = names(evidence), unmasked(evidence)
    for model, name in known.items():
        cells = evidence.any_of(dataset, model)
        for cell in cells:
            words = [word for word in (made_of(cell), rows_of(cell), *_apart(cell, cells)) if word]
            called, users = f"{name} ({', '.join(words)})", users_of(cell)
            found.append(_own(called, "LLM", cell, users))
            if model in apart:
                found.append(_own(called, "LLM", cell, ", ".join(filter(None, (users, UNMASKED))), OF_UNMASKED))
    parts = {bar.part for bar in found} - {""}
    for model, name in BACKBONES.items():
        # Those ranked for the same part of the users stand beside them.
        for cell in evidence.any_of(dataset, model):
            loss, users = cell.identity[2], users_of(cell)
            if users in parts and loss in ("ce", "sce") and cell.identity[3] == "adam":
                found.append(_own(f"{name}, {LOSSES[loss]}", LOSSES[loss], cell, users))
        for loss in ("ce", "sce"):
            own = evidence.closest(dataset, model, loss)
            number = evidence.facts.test(dataset, model, loss)
            if own is not None:
                setting = evidence.named_setting(own).split(" (")[0].removeprefix("published setting, ")
                other = "" if setting in ("published setting", "default setting") else f" ({setting})"
                found.append(_own(f"{name}, {LOSSES[loss]}{other}", LOSSES[loss], own))
                if UNMASKED in parts and mean(own, f"{OF_UNMASKED}ndcg@10") is not None:
                    found.append(_own(f"{name}, {LOSSES[loss]}{other}", LOSSES[loss], own, UNMASKED, OF_UNMASKED))
            elif number is not None:
                found.append(Bar(f"{name}, {LOSSES[loss]}", LOSSES[loss], False, (number.mean, None, None, None)))
    return found


def _apart(cell: Cell, cells: Sequence[Cell]) -> list[str]:
    """The setting that tells a cell from others of the same name, one where one is enough."""

    def name(each: Cell) -> tuple[str, ...]:
        return made_of(each), users_of(each), rows_of(each)

    named = [other for other in cells if name(other) == name(cell)]
    values = {key: [other.settings.get(key, MISSING) for other in named] for key in cell.settings}
    differing = [key for key in values if len(set(values[key])) > 1]
    enough = [key for key in differing if len(set(values[key])) == len(named)][:1]
    return [f"{key} {cell.settings[key]}" for key in enough or differing]


def _own(name: str, kind: str, cell: Cell, part: str = "", ranking: str = "") -> Bar:
    gains = [mean(cell, f"{ranking}{prefix}ndcg@10") for prefix in GROUPS.values()]  # unmasked, of all targets alone
    counts = [mean(cell, f"{prefix}users") for prefix in GROUPS.values()]
    return Bar(name, kind, True, tuple(gains), part, tuple(counts))


def _whole(count: float | None) -> int | None:
    return None if count is None else int(count)


def comparison(evidence: Evidence) -> Piece:
    """NDCG@10 as bars, a panel a dataset, part of its users and protocol; hollow where a published value stands in."""
    panels: dict[str, list[Bar]] = {}
    for dataset, title in DATASETS.items():
        found = bars(evidence, dataset)
        if any(bar.ours for bar in found):
            for bar in sorted(found, key=lambda bar: bar.part):
                panels.setdefault(f"{title}, {bar.part}" if bar.part else title, []).append(bar)
    # Alone with its part a recommender is beside nothing.
    panels = {title: found for title, found in panels.items() if len(found) > 1 or title in DATASETS.values()}
    longest = [len(found) for found in panels.values()]
    heights = [max(longest[first : first + _COLUMNS]) for first in range(0, len(longest), _COLUMNS)]

    def draw(figure: "Figure") -> None:
        grid = figure.add_gridspec(len(heights), min(_COLUMNS, len(panels)), height_ratios=[n + 2 for n in heights])
        axes = [figure.add_subplot(grid[divmod(place, _COLUMNS)]) for place in range(len(panels))]
        for number, (each, (title, found)) in enumerate(zip(axes, panels.items(), strict=True)):
            for place, bar in enumerate(found):
                colour = _COLOURS[bar.kind]
                each.barh(
                    place, bar.gains[0] or 0.0, color=colour if bar.ours else "white", edgecolor=colour,
                    hatch=None if bar.ours else "////", linewidth=1.0,
                )  # fmt: skip
                for (group, mark), gain, n in zip(_MARKS.items(), bar.gains[1:], bar.counts[1:], strict=True):
                    if gain is not None and (n is None or n >= _FEW):
                        each.plot(
                            gain, place, mark, color=_INK, markersize=4,
                            label=f"{group} targets",
                        )  # fmt: skip
            best = max((bar.gains[0] or 0.0 for bar in found if bar.kind == "LLM"), default=None)
            if best is not None:
                each.axvline(best, color=GREY, linewidth=0.9, linestyle="--")
            words = [fill(bar.name.replace("max_epochs", "epochs"), 38) for bar in found]
            each.set_yticks(range(len(found)), words, fontsize=6.5)
            each.set_ylim(heights[number // _COLUMNS] - 0.4, -0.6)  # bars as thick in every panel
            each.set_title(fill(title, 24))
            each.set_xlabel("test NDCG@10")
            each.grid(axis="y", visible=False)
        legend_below(figure)

    rows: list[list[Value]] = [
        [title, bar.name, "ours" if bar.ours else "published", *bar.gains, *map(_whole, bar.counts[1:])]
        for title, found in panels.items()
        for bar in found
    ]
    return Piece(
        "figure4",
        "Figure 4: CE and SCE of each backbone beside recommenders made of language models, test NDCG@10",
        ["dataset", "recommender", "whose number", *GROUPS, *(f"{group} targets" for group in _MARKS)],
        rows,
        "The dashed line is the best language model. P5 and POD were published with seen items in the ranking: they "
        "are in panels of their own, beside runs ranked so. P5, POD and TIGER of ours start from random weights. "
        "Published ones are single runs, of 60 M to 7 B parameters. Bars "
        f"are of all targets; the marks on ours are of head, mid and tail targets, where there are at least {_FEW}.",
        "published setting (ML-100K: default) unless a bar says otherwise; hatched: published numbers",
        draw if panels else None,
        (PAGE, 0.8 + 0.22 * sum(n + 2.5 for n in heights)),
        COMMANDS,
        () if any(b.ours and b.kind == "LLM" for found in panels.values() for b in found)
        else COMMANDS[-1:],
    )  # fmt: skip
