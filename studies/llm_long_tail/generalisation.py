"""The gap between test and training loss by the items' training interactions: measured in a run, drawn over runs.

As a callback of a run: ``+callbacks.gap._target_=studies.llm_long_tail.generalisation.Gap``. Of finished runs, each
optimizer's with several seeds: ``python -m studies.llm_long_tail.generalisation <folder of runs> --out <file.json>``.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from scipy import stats

from recsys_lt.data.batch import Batch
from recsys_lt.data.loader import RankBatches, Share, TrainBatches, users_with_target
from recsys_lt.errors import UserError
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.metrics.groups import GROUPS, ItemGroups
from recsys_lt.recommenders.sequential import SequentialRecommender, draw_of
from recsys_lt.results.plots.drawing import CELLS, PAGE, canvas, save
from recsys_lt.runs.listing import find_runs
from recsys_lt.system.atomic import write_json, write_text

FILE = "generalisation.csv"
_WHERE = "callbacks.gap"


@torch.no_grad()
def held_out_losses(module: SequentialRecommender, batch: Batch) -> torch.Tensor:
    """Loss of each user's target after the last event of the history, [B]: of a batch as it is ranked."""
    table = module.backbone.scorer()
    if not isinstance(table, OutputTable):
        raise UserError("the model scores items without vectors", where=_WHERE, remedy="Leave it out")
    with module.autocast(module.precision.backbone):
        states = module.backbone.user_states(batch)
    with module.autocast(module.precision.loss):
        return module.loss(states.float(), batch.targets, table, None, draw_of(batch))[1]


class Gap(pl.Callback):
    """Mean losses of training and of held-out targets at each validation, by group and by number of interactions.

    Losses are those of the run's loss, in eval mode: without dropout, negatives from the same streams each time. They
    go to ``generalisation.csv`` of the run folder: of ``head``, ``mid`` and ``tail`` (the usual shares), and of items
    whose training interactions lie between two powers of two (``4-7``). The learning curve gets ``train_loss/tail``
    and ``test_loss/tail``, and those of the other groups. Nothing of the run changes. One process.

    Parameters
    ----------
    stage
        Whose targets are held out: ``test`` (a model reads the validation target before it) or ``valid``.
    users
        Users whose training and held-out targets are measured, at the most; the same ones at each validation.
    batch_rows
        Users a batch; results do not depend on it.
    """

    def __init__(self, stage: str = "test", users: int = 4096, batch_rows: int = 64) -> None:
        if stage not in ("valid", "test"):
            raise UserError(f"it is {stage!r}", where=f"{_WHERE}.stage", remedy="Give valid or test")
        if users < 1 or batch_rows < 1:
            what = f"they are {users} and {batch_rows}"
            raise UserError(what, where=f"{_WHERE}.users, {_WHERE}.batch_rows", remedy="Give positive numbers")
        self.stage, self.users, self.batch_rows = stage, users, batch_rows

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(pl_module, SequentialRecommender):
            what = "this model's objective is its own, and its targets are not those of a backbone"
            raise UserError(what, where=_WHERE, remedy="Leave it out")
        module, loaders = pl_module, trainer.val_dataloaders
        data = loaders.dataset.data
        users = users_with_target(data, self.stage, self.users)
        held = RankBatches(data, users, self.stage, module.max_length, self.batch_rows, module.needs_seen)
        # The first rows of the first epoch's order: a random sample of the training examples.
        seen = TrainBatches(data, module.task, self.batch_rows, 0, Share(), module.needs_seen, max_rows=self.users)
        module.begin_step()
        trained = [seen[0, step].to(module.device) for step in range(len(seen))]
        with torch.no_grad():
            losses = torch.cat([module.batch_losses(batch)[1] for batch in trained]).double().cpu().numpy()
        items = torch.cat([batch.targets for batch in trained]).cpu().numpy()
        asked = [held[step].to(module.device) for step in range(len(held))]
        test = torch.cat([held_out_losses(module, batch) for batch in asked]).double().cpu().numpy()
        table = by_items(data.popularity, (items, losses), (torch.cat([b.targets for b in asked]).cpu().numpy(), test))
        for row in table[table["items"].isin(GROUPS)].to_dict("records"):
            for part in ("train", "test"):
                if row[f"{part}_targets"]:
                    module.log(f"{part}_loss/{row['items']}", row[f"{part}_loss"], batch_size=1)
        epoch = trainer.current_epoch + 1 if trainer.state.fn == "fit" else 0
        path = Path(trainer.default_root_dir) / FILE
        table.insert(0, "epoch", epoch)
        if epoch and path.exists():  # a run that goes on measures the epochs after its checkpoint again
            before = pd.read_csv(path, dtype={"items": str})
            table = pd.concat([before[before["epoch"] < epoch], table])
        write_text(path, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


Losses = tuple[np.ndarray, np.ndarray]


def by_items(popularity: np.ndarray, train: Losses, test: Losses) -> pd.DataFrame:
    """Mean losses of targets, given as (items, losses), by group and by the items' training interactions [I].

    A row has ``items`` (``head``, or ``4-7``), ``interactions`` (geometric mean over the test targets; empty for a
    group), and for ``train`` and ``test`` the number of targets and their mean loss (empty without any).
    """
    counts, of = np.asarray(popularity), ItemGroups(np.asarray(popularity)).of
    parts: list[tuple[str, Any, bool]] = [(name, of == number, False) for number, name in enumerate(GROUPS)]
    for power in range(int(counts.max()).bit_length()):
        low, high = 2**power, 2 ** (power + 1) - 1
        parts.append((f"{low}-{high}" if low < high else str(low), (counts >= low) & (counts <= high), True))
    rows = []
    for name, those, numbered in parts:
        row: dict[str, Any] = {"items": name, "interactions": np.nan}
        for part, (items, losses) in (("train", train), ("test", test)):
            mine = those[items]
            row |= {f"{part}_targets": int(mine.sum()), f"{part}_loss": losses[mine].mean() if mine.any() else np.nan}
        mine = those[test[0]]
        if numbered and mine.any():
            row["interactions"] = float(np.exp(np.log(counts[test[0][mine]]).mean()))
        rows.append(row)
    return pd.DataFrame(rows)


def slope(table: pd.DataFrame, least: int = 10) -> tuple[float, int]:
    """Slope of log gap against log interactions, weighted by test targets, of one epoch's rows; what was left out.

    Bins with fewer than ``least`` test targets do not count. The second number is that of the bins left out because
    their gap is not positive.
    """
    bins = table[table["interactions"].notna() & (table["test_targets"] >= least) & (table["train_targets"] > 0)]
    gap = bins["test_loss"] - bins["train_loss"]
    kept = gap > 0
    if kept.sum() < 2:
        return float("nan"), int((~kept).sum())
    x, y = np.log(bins["interactions"][kept]), np.log(gap[kept])
    weights = bins["test_targets"][kept]
    x = x - np.average(x, weights=weights)
    return float((weights * x * y).sum() / (weights * x * x).sum()), int((~kept).sum())


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of several seeds and its 95 % interval by Student's t; without an interval for one."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def measured(runs: Path) -> dict[str, Any]:
    """Slopes and gaps of each cell under a folder, at the best and at the last epoch of each seed."""
    cells: dict[str, dict[int, pd.DataFrame]] = {}
    best: dict[tuple[str, int], int] = {}
    for run in find_runs(runs):
        if run.metrics is None or not (run.folder / FILE).exists():
            continue
        name = f"{run.metrics['model']}, {run.metrics['optimizer']}"
        seed = int(run.metrics["seed"])
        if seed in cells.setdefault(name, {}):
            what, remedy = f"there is another run of {name} with seed {seed}", "Measure runs of other settings apart"
            raise UserError(what, where=run.folder, remedy=remedy)
        cells[name][seed] = pd.read_csv(run.folder / FILE, dtype={"items": str})
        best[name, seed] = int(run.metrics["best_epoch"])
    if not cells:
        remedy = f"Train with +callbacks.gap._target_=studies.llm_long_tail.generalisation.Gap, which writes {FILE}"
        raise UserError(f"no finished run there has {FILE}", where=runs, remedy=remedy)
    found: dict[str, Any] = {}
    for name, seeds in sorted(cells.items()):
        of: dict[str, Any] = {"seeds": sorted(seeds)}
        for when in ("best", "last"):
            at = {s: t[t["epoch"] == (best[name, s] if when == "best" else t["epoch"].max())] for s, t in seeds.items()}
            slopes = {seed: slope(table) for seed, table in at.items()}
            mean, low, high = interval([value for value, _ in slopes.values()])
            bins = pd.concat(at.values()).assign(gap=lambda t: t["test_loss"] - t["train_loss"])
            bins = bins.groupby("items", sort=False).mean(numeric_only=True).drop(columns="epoch").reset_index()
            of[when] = {
                "slope": {"mean": mean, "low": low, "high": high, "of_seeds": [slopes[s][0] for s in sorted(slopes)]},
                "bins_left_out": sum(left for _, left in slopes.values()),
                "epochs": [int(at[s]["epoch"].iloc[0]) for s in sorted(at)],
                "bins": bins.to_dict("records"),
            }
        curves = pd.concat(seeds.values()).assign(gap=lambda t: t["test_loss"] - t["train_loss"])
        along = curves[curves["items"].isin(GROUPS)].groupby(["items", "epoch"])["gap"].mean()
        of["along"] = {g: {str(e): float(v) for e, v in along[g].items()} for g in GROUPS if g in along.index}
        found[name] = of
    return found


def _without_nan(tree: Any) -> Any:
    """The same for JSON, which has no NaN."""
    if isinstance(tree, dict):
        return {key: _without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_without_nan(value) for value in tree]
    return None if isinstance(tree, float) and np.isnan(tree) else tree


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw the gap of each group along training, and at the best epoch against interactions."""
    dashes = dict(zip(GROUPS, ("-", "--", ":"), strict=True))
    with canvas(PAGE, 3.0, columns=2) as (figure, (along, against)):
        for colour, (name, of) in zip(CELLS, found.items(), strict=False):
            for group, by_epoch in of["along"].items():
                epochs = [int(epoch) for epoch in by_epoch]
                along.plot(epochs, list(by_epoch.values()), dashes[group], color=colour.light, label=f"{name}, {group}")
            bins = [
                b
                for b in of["best"]["bins"]
                if (b["interactions"] or 0) > 0 and b["test_targets"] >= 10 and b["gap"] > 0
            ]
            fit = of["best"]["slope"]
            label = f"{name}: slope {fit['mean']:.2f} ({fit['low']:.2f} to {fit['high']:.2f})"
            x, y = [b["interactions"] for b in bins], [b["gap"] for b in bins]
            against.plot(x, y, "o-", color=colour.light, label=label)
        along.set_xlabel("epoch")
        along.set_ylabel("test loss - training loss")
        against.set_xscale("log")
        against.set_yscale("log")
        for axis in (against.xaxis, against.yaxis):  # plain numbers: a figure has no formulas
            axis.set_major_formatter("{x:g}")
        against.yaxis.set_minor_formatter("{x:g}")
        against.set_xlabel("training interactions of the item")
        against.set_ylabel("gap at the best epoch")
        for axes in (along, against):
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1 if axes is against else 2)
        save(figure, path)


def main(arguments: Sequence[str]) -> int:
    """Measure the runs under a folder, and write the JSON and the figure."""
    parser = argparse.ArgumentParser(prog="python -m studies.llm_long_tail.generalisation", description=__doc__)
    parser.add_argument("runs", type=Path, help="folder of runs trained with the callback Gap")
    parser.add_argument("--out", type=Path, required=True, help="the JSON to write; the figure is beside it (.png)")
    given = parser.parse_args(arguments)
    try:
        found = measured(given.runs)
        write_json(given.out, _without_nan(found))
        draw(found, given.out.with_suffix(".png"))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, of in found.items():
        for when in ("best", "last"):
            fit = of[when]["slope"]
            line = f"{name}, {when} epoch: slope {fit['mean']:.3f} ({fit['low']:.3f} to {fit['high']:.3f})"
            print(line, f"seeds {fit['of_seeds']}, bins left out {of[when]['bins_left_out']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
