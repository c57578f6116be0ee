"""Is a shared negative as likely for the user it is shared with? ``python studies/preference/sharing.py RUN AUX``.

NAPO takes a shared negative's log-probability from the user it was drawn for. For 200 pairs of a user and the most
similar other user of a group of 16, Spearman's correlation between the two log-probabilities of the other's negative,
and the median of their difference. ``RUN`` is a title model or a model that scores items, ``AUX`` a SASRec.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr

import recsys_lt
from recsys_lt.data.loader import Share, TrainBatches
from recsys_lt.losses.answering import Answering
from recsys_lt.losses.item_preference import NAPO
from recsys_lt.recommenders.preferring import PreferringRecommender
from recsys_lt.recommenders.sequential import draw_of, scored_by

PAIRS, GROUP = 200, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("auxiliary", type=Path)
    given = parser.parse_args()
    run = recsys_lt.load(given.run)
    module: Any = run.model
    auxiliary: Any = recsys_lt.load(given.auxiliary).model.model
    loss = NAPO(1, 1.0, reference=False, group=GROUP)
    loss.prepare(torch.from_numpy(run.data.popularity), {"auxiliary": auxiliary})
    batches = TrainBatches(run.data, module.task, GROUP, 0, Share(), with_seen=True)
    values: dict[str, list[torch.Tensor]] = {"own": [], "other": [], "chosen": []}
    with torch.inference_mode():
        module.begin_step()
        for step in range(len(batches)):
            batch = batches[0, step]
            answering: Answering = (
                module.answering(batch)
                if isinstance(module, PreferringRecommender)
                else scored_by(module.backbone, batch)
            )
            draw = replace(draw_of(batch), frozen={"auxiliary": scored_by(auxiliary, batch)})
            found = loss._rejected(run.data.n_items, batch.targets, draw)
            assert found.rows is not None
            nearest = found.rows[:, 0]
            shared = found.ids[nearest, 0]
            values["own"].append(answering.answers(batch.targets, shared.unsqueeze(1), True).rejected[:, 0])
            drawn = answering.answers(batch.targets, found.ids[:, :1], True)
            values["other"].append(drawn.rejected[:, 0][nearest])
            values["chosen"].append(drawn.chosen)
            if sum(map(len, values["own"])) >= PAIRS or not module.task.one_target:
                break
    own, other, chosen = (torch.cat(parts).float() for parts in values.values())
    some = torch.randperm(len(own), generator=torch.Generator().manual_seed(0))[:PAIRS]
    own, other, chosen = own[some], other[some], chosen[some]
    result = {
        "pairs": len(own),
        "spearman": float(spearmanr(own, other).statistic),
        "median_difference": float((own - other).abs().median()),
        "median_lead_of_the_target": float((chosen - own).median()),
        "same_sign_of_the_lead": float(((chosen > own) == (chosen > other)).float().mean()),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
