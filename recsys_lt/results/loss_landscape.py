"""The loss landscape around a trained model: how much the loss of head, mid and tail items rises."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_lt.data.batch import Batch
from recsys_lt.metrics.groups import GROUPS
from recsys_lt.optim.perturbations import Joint, perturbed
from recsys_lt.optim.sam import SharpnessAware
from recsys_lt.recommenders.recommender import Recommender
from recsys_lt.results.plots.drawing import CELLS, INK, MUTED, canvas, save


class LossLandscape:
    """The loss of a model in eval mode on a fixed sample of training batches, without dropout.

    Negatives are drawn by the batches' keys, so they are the same for all parameters. Every call restores the
    parameters. ``groups`` are those of the items (0 head, 1 mid, 2 tail), [I].
    """

    def __init__(self, module: Recommender, batches: Sequence[Batch], groups: NDArray[np.int8]) -> None:
        self.module, self.batches = module, batches
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.groups = torch.from_numpy(groups).long()
        self.n_targets = sum(len(batch.targets) for batch in batches)

    def losses(self) -> tuple[Tensor, Tensor]:
        """Loss of each target and its item, [N] and [N]."""
        with torch.no_grad():
            self.module.begin_step()
            parts = [self.module.batch_losses(batch)[1:] for batch in self.batches]
        return torch.cat([losses for losses, _ in parts]), torch.cat([items for _, items in parts])

    def means(self) -> dict[str, float]:
        """Mean loss ``all``, and of the targets in each group that has any."""
        losses, items = self.losses()
        of = self.groups[items]
        found = {"all": float(losses.mean())}
        return found | {name: float(losses[of == g].mean()) for g, name in enumerate(GROUPS) if (of == g).any()}

    def gradient(self, item_weights: Tensor) -> list[Tensor]:
        """Gradient of the weighted mean loss by every parameter; weights [I]."""
        total = [torch.zeros_like(p) for p in self.parameters]
        for batch in self.batches:
            self.module.begin_step()
            loss = self.module.batch_losses(batch, item_weights.unsqueeze(0).to(self.module.device))[0][0]
            share = len(batch.targets) / self.n_targets
            for sum_, part in zip(
                total, torch.autograd.grad(loss * share, self.parameters, allow_unused=True), strict=True
            ):
                if part is not None:
                    sum_ += part.to_dense() if part.is_sparse else part
        return total

    def moved(self, steps: Sequence[Tensor], times: float) -> AbstractContextManager[None]:
        """Context in which the parameters are moved by the steps, times a factor."""
        return perturbed(self.parameters, [step * times for step in steps])

    def step_along(self, item_weights: Tensor) -> list[Tensor]:
        """Step of length 1 along the gradient of the weighted loss."""
        return Joint(1.0).steps(self.parameters, self.gradient(item_weights), Tensor)

    def neighbourhood(self, rule: SharpnessAware) -> list[Tensor]:
        """Perturbation that an update rule, prepared with these parameters, would choose on the sample."""
        weights = rule.ascent_weights
        along = self.gradient(torch.ones(len(self.groups)) if weights is None else weights)
        by_parameter = dict(zip(self.parameters, along, strict=True))
        ascents = [by_parameter[p] for p in rule.perturbed_parameters]
        with torch.no_grad():
            steps = rule.perturbation.steps(rule.perturbed_parameters, ascents, lambda: self.losses()[1])
        moved = dict(zip(rule.perturbed_parameters, steps, strict=True))
        return [moved.get(p, torch.zeros_like(p)) for p in self.parameters]


def measure(
    landscape: LossLandscape, item_weights: Tensor, radii: Sequence[float], rule: SharpnessAware | None = None
) -> dict[str, Any]:
    """Rises of the loss at ``radii`` from the model; ``item_weights`` [I] are of the weighted direction.

    ``here`` are mean losses of the model, all and by group; ``rise``, for the gradient's directions ``plain``,
    ``weighted`` and each group's own (``head``, ...), for each radius, how much each mean rises; ``neighbourhood``, how
    much each mean rises at the perturbation of the update ``rule``, None without one.
    """
    here = landscape.means()

    def rises(steps: Sequence[Tensor], times: float) -> dict[str, float]:
        """Rise of each mean where the parameters are moved."""
        with landscape.moved(steps, times):
            there = landscape.means()
        return {group: there[group] - here[group] for group in here}

    neighbourhood = None if rule is None else rises(landscape.neighbourhood(rule), 1.0)
    directions = {"plain": torch.ones_like(item_weights), "weighted": item_weights}
    directions |= {name: (landscape.groups == g).to(item_weights) for g, name in enumerate(GROUPS) if name in here}
    rise: dict[str, dict[str, dict[str, float]]] = {}
    for name, weights in directions.items():
        step = landscape.step_along(weights)
        rise[name] = {f"{radius:g}": rises(step, radius) for radius in radii}
    return {
        "here": here,
        "targets": landscape.n_targets,
        "parameter_norm": float(torch.stack([p.detach().norm() for p in landscape.parameters]).norm()),
        "radii": list(radii),
        "rise": rise,
        "neighbourhood": neighbourhood,
    }


def plot(result: Mapping[str, Any], path: Path, title: str) -> None:
    """Draw what ``measure`` gives: the rises at the largest radius, and those of the rule."""
    colours = {"all": INK.light, "head": CELLS[0].light, "mid": MUTED.light, "tail": CELLS[1].light}
    far = f"{max(result['radii']):g}"
    names, neighbourhood = list(result["here"]), result["neighbourhood"]
    below = ["all items'\ngradient", "weighted\nby rarity"]
    rises = [result["rise"][direction][far] for direction in ("plain", "weighted")]
    if neighbourhood is not None:
        below.append(f"perturbation\nof {result['rule']}")
        rises.append(neighbourhood)
    with canvas() as (figure, bars):
        figure.suptitle(title)
        for n, group in enumerate(names):
            places = np.arange(len(rises)) + (n - (len(names) - 1) / 2) * 0.2
            bars.bar(places, [of[group] for of in rises], 0.18, color=colours[group], label=group)
        bars.set_xticks(range(len(rises)), below)
        bars.set_ylabel(f"rise of the loss at distance {far}" + ("" if neighbourhood is None else ",\nor the rule's"))
        bars.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        save(figure, path, path.with_suffix(".pdf"))
