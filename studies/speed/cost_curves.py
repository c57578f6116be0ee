"""What a target costs as the catalogue, the negatives, the batch or the histories grow: ours, and the peers'.

``python studies/speed/cost_curves.py``. SASRec on made-up users, one value changed at a time; microseconds a target, so
that whoever trains one row a prefix compares with whoever trains one row a user. Peers (``--peers``) are those of
``peers/``, once installed; they train full cross-entropy only.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_lt.errors import UserError
from studies.shared.machine import QUIET, RESULTS, alone, here
from studies.shared.measurements import MEASUREMENTS
from studies.shared.timed import Asked, loaded, set_up
from studies.speed.peers import compare

#: Items are equally popular, so that nearly all occur: peers know no others.
DATA = ("dataset=synthetic", "dataset.source.n_users=8000", "dataset.source.exponent=0")
ITEMS, K, BATCH, LENGTH = (
    "items in the catalogue",
    "negatives of a target",
    "users in a batch",
    "events of a user, mean",
)
SHORT = {"items": ITEMS, "k": K, "batch": BATCH, "length": LENGTH}  # as the command line names them
#: Where an axis is not varied it stands here, and so it does on Amazon Beauty (but for its 12,101 items).
MIDDLE = {ITEMS: 12_000, K: 500, BATCH: 512, LENGTH: 9}
AXES: dict[str, tuple[int, ...]] = {
    ITEMS: (3_000, 12_000, 24_000, 96_000),
    K: (10, 30, 100, 300, 1_000),
    BATCH: (64, 128, 256, 512, 1_024),
    LENGTH: (9, 18, 36),
}
KEYS = {ITEMS: "dataset.source.n_items", K: "loss.k", BATCH: "trainer.batch_rows", LENGTH: "dataset.source.mean_length"}
CE, OWN, SHARED = "ce-float32", "sce-500-position", "sce-500-batch"
#: Peers' padded logits of a step must fit into memory, in GB.
LARGEST = 4.0


@dataclass(frozen=True)
class Point:
    """One place on one axis."""

    axis: str
    value: int

    @property
    def setting(self) -> dict[str, int]:
        """All four axes' values."""
        return MIDDLE | {self.axis: self.value}

    def overrides(self, negatives: bool) -> tuple[str, ...]:
        """Overrides of the configuration; those of the negatives only where the loss draws any."""
        return (*DATA, *(f"{KEYS[axis]}={value}" for axis, value in self.setting.items() if negatives or axis != K))


def ours(name: str, point: Point, steps: int) -> float:
    """Microseconds a target of one of ``bench.py``'s measurements: the median of three times so many steps."""
    asked = Asked(1, steps, None, point.overrides(name != CE))
    measurement = MEASUREMENTS[name]
    config, data, _ = loaded(measurement.choices, asked)
    _, work, floor = set_up(config, data, measurement, "cpu")
    work(2)
    return statistics.median(work(steps) for _ in range(3)) / floor.targets * 1e6


def theirs(name: str, point: Point, steps: int, environments: Path | None) -> float | None:
    """Microseconds a target of a peer; None where its padded logits would not fit."""
    if point.setting[BATCH] * 50 * point.setting[ITEMS] * 4 / 1e9 > LARGEST:
        return None
    peer = compare.COMPARISONS[name]
    asked = compare.Asked(steps, 1, environments, None, point.overrides(negatives=False))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.csv"
        compare.export(asked, data)
        found = compare.run_peer(peer, asked, data, _rows_in_a_batch(name, point))
    return float(found["seconds"] / found["targets"] * 1e6)


def _rows_in_a_batch(name: str, point: Point) -> int:
    """As many rows as the users' targets, where a row is a prefix with one."""
    targets = point.setting[LENGTH] - 3  # an event is for the test, one for validation, and the first is no target
    return point.setting[BATCH] * (targets if name == "recbole" else 1)


def measure(axes: Sequence[str], peers: Sequence[str], steps: int, environments: Path | None) -> dict[str, Any]:
    """Every curve's microseconds a target at each value; what the result file holds."""
    load = os.getloadavg()[0]
    curves: dict[str, dict[str, dict[str, float]]] = {}
    for axis in axes:
        curves[axis] = {}
        for value in AXES[axis]:
            point = Point(axis, value)
            found: dict[str, float | None] = {name: alone(ours, name, point, steps) for name in (CE, OWN, SHARED)}
            # Negatives are ours alone to vary; and peers' points are dear.
            chosen = peers if axis != K and value in AXES[axis][:: max(1, len(AXES[axis]) // 2)] else ()
            found |= {name: theirs(name, point, 5, environments) for name in chosen}
            for name, cost in found.items():
                if cost is not None:
                    curves[axis].setdefault(name, {})[str(value)] = cost
            print(_line(point, found), flush=True)
    return {
        "name": "cost-curves",
        "microseconds_a_target": curves,
        "middle": MIDDLE,
        "data": DATA,
        **here(load),
    }


def _line(point: Point, found: Mapping[str, float | None]) -> str:
    costs = (f"{name} {'does not fit' if cost is None else f'{cost:.1f}'}" for name, cost in found.items())
    return f"{point.axis:<24} {point.value:>7,}  us a target: {', '.join(costs)}"


def plot(result: Mapping[str, Any], path: Path) -> None:
    """One panel an axis, one line a curve, both scales logarithmic."""
    from recsys_lt.results.plots.drawing import PAGE, blank, save
    from studies.shared.pages import BLUE, GREY, ORANGE, legend_below

    looks = {
        CE: ("CE", BLUE, "o", "-"),
        OWN: ("SCE, own negatives", ORANGE, "s", "-"),
        SHARED: ("SCE, shared negatives", ORANGE, "D", "--"),
    }
    curves = result["microseconds_a_target"]
    marks = dict(zip(compare.COMPARISONS, "^v<>P", strict=True))
    with blank(PAGE, 0.8 + 1.8 * -(-len(curves) // 2)) as figure:
        panels = figure.subplots(-(-len(curves) // 2), 2, sharey=True, squeeze=False).flatten()
        for panel, (axis, by_name) in zip(panels, curves.items(), strict=False):
            for name, by_value in by_name.items():
                label, colour, mark, dashes = looks.get(name, (f"{name}, CE", GREY, marks.get(name, "x"), ":"))
                label = label if name not in (CE, OWN, SHARED) else f"{label} (ours)"
                values = sorted(map(int, by_value))
                costs = [by_value[str(value)] for value in values]
                panel.plot(values, costs, color=colour, marker=mark, linestyle=dashes, label=label)
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_xticks(AXES[axis], [f"{value:,}" for value in AXES[axis]])
            panel.minorticks_off()
            panel.set_xlabel(axis)
        for panel in panels[len(curves) :]:
            panel.set_visible(False)
        figure.supylabel("microseconds a target", fontsize=8)
        legend_below(figure, 4)
        save(figure, path, path.with_suffix(".pdf"))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, save; 0, or 2 with one line on standard error for what the user can mend."""
    from recsys_lt.system.atomic import write_json

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--axes", nargs="+", choices=SHORT, help="default: all four")
    parser.add_argument("--peers", nargs="*", default=[], metavar="NAME", help="peers too, such as recbole replay")
    parser.add_argument("--environments", type=Path, help="where install.py made theirs, if elsewhere")
    parser.add_argument("--steps", type=int, default=10, help="our steps timed, three times (default: 10)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON and the plot")
    given = parser.parse_args(argv)
    try:
        if given.steps < 1:
            raise UserError(f"it is {given.steps}", where="--steps", remedy="Give 1 or more")
        for name in given.peers:
            compare.installed(name, given.environments, "--peers")
        if os.getloadavg()[0] > QUIET:
            print(f"the machine was not quiet (load {os.getloadavg()[0]:.1f}): do not keep these results", flush=True)
        axes = [SHORT[axis] for axis in given.axes or SHORT]
        result = measure(axes, given.peers, given.steps, given.environments)
        write_json(given.results / "cost-curves.json", result)
        plot(result, given.results / "cost-curves.png")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
