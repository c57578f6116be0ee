"""What simple orders of a retriever's candidates reach: NDCG@10 of its own, a random one and that by popularity.

    python studies/llm/candidate_orders.py outputs/<run of the retriever>

It says what an order by a language model must beat, and by how much one that knows popularity alone would.
"""

import sys

import numpy as np
import torch

import recsys_lt
from recsys_lt.data.loader import RankBatches, rank_loader, users_with_target
from recsys_lt.metrics.ranking import gains, random_order

_CANDIDATES, _ROWS = 20, 256


def main(folder: str) -> int:
    """Print a line a stage."""
    run = recsys_lt.load(folder)
    model, popularity = run.model, torch.from_numpy(np.array(run.data.popularity))
    for stage in ("valid", "test"):
        users, ranks, popular = users_with_target(run.data, stage), [], []
        with torch.inference_mode():
            model.begin_ranking()
            for batch in rank_loader(RankBatches(run.data, users, stage, model.max_length, _ROWS, with_seen=True)):
                found = model.rank(batch, _CANDIDATES)
                # As many as are more popular than the target, or as popular: ties count against it.
                above = (popularity[found.items] >= popularity[batch.targets].unsqueeze(1)).sum(1)
                ranks.append(found.target_rank)
                popular.append(torch.where(found.target_rank <= _CANDIDATES, above, found.target_rank))
        own, by_popularity = torch.cat(ranks).numpy(), torch.cat(popular).numpy()
        chance = random_order(own, _CANDIDATES, [10])
        reached = gains("ndcg", by_popularity, 10).mean()
        print(
            f"{stage}: {len(own)} users, target among the candidates of {(own <= _CANDIDATES).sum()}; NDCG@10"
            f" retriever {gains('ndcg', own, 10).mean():.4f}, random order {chance['ndcg@10']:.4f}"
            f" ± {chance['ndcg_std@10']:.4f}, by popularity {reached:.4f}"
            f" ({(reached - chance['ndcg@10']) / chance['ndcg_std@10']:+.1f} deviations)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
