"""NDCG@10 of orders of a retriever's 20 candidates, over all users: its own, random, by popularity, by LlamaRec.

    python studies/llm/candidate_orders.py outputs/<run of a retriever, or of LlamaRec>

It says what an order by a language model must beat, and by how much one that knows popularity alone would. LlamaRec is
told the candidates in the retriever's order and in a random one. The difference is what the order of the prompt does.
"""

import argparse
import sys

import numpy as np
import torch

import recsys_lt
from recsys_lt.data.loader import RankBatches, rank_loader, users_with_target
from recsys_lt.metrics.ranking import gains, random_order

_CANDIDATES, _ROWS = 20, 64


def main() -> int:
    """Print a line an order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="run folder")
    parser.add_argument("--stages", nargs="+", choices=("valid", "test"), default=["valid", "test"])
    given = parser.parse_args()
    run = recsys_lt.load(given.folder)
    model, popularity = run.model, torch.from_numpy(np.array(run.data.popularity))
    told = ("retriever", "random") if hasattr(model, "order") else (None,)
    for stage in given.stages:
        users = users_with_target(run.data, stage)
        ranks: dict[str, list[torch.Tensor]] = {}
        bias: dict[str, list[torch.Tensor]] = {}
        with torch.inference_mode():
            model.begin_ranking()
            for batch in rank_loader(RankBatches(run.data, users, stage, model.max_length, _ROWS, with_seen=True)):
                for order in told:
                    if order is not None:
                        model.order = order
                    found = model.rank(batch, _CANDIDATES)
                    first = found.parts.get("retriever", found)
                    if order is not None:
                        name = f"model, candidates told in the {order}'s order".replace("random's", "random")
                        ranks.setdefault(name, []).append(found.target_rank)
                        bias.setdefault(name, []).append(found.measured["position_bias"])
                # As many as are more popular than the target, or as popular: ties count against it.
                above = (popularity[first.items] >= popularity[batch.targets].unsqueeze(1)).sum(1)
                near = first.target_rank
                ranks.setdefault("retriever", []).append(near)
                ranks.setdefault("by popularity", []).append(torch.where(near <= _CANDIDATES, above, near))
        together = {name: torch.cat(parts).numpy() for name, parts in ranks.items()}
        own = together["retriever"]
        chance = random_order(own, _CANDIDATES, [10])
        mean, deviation = chance["ndcg@10"], chance["ndcg_std@10"]
        assert mean is not None
        assert deviation is not None
        n_found = int((own <= _CANDIDATES).sum())
        print(f"{stage}: {len(own)} users, target among the candidates of {n_found}; NDCG@10")
        print(f"  random order: {mean:.4f} ± {deviation:.4f}")
        for name, found_ranks in together.items():
            reached = float(gains("ndcg", found_ranks, 10).mean())
            line = f"  {name}: {reached:.4f} ({(reached - mean) / deviation:+.1f} deviations)"
            if name in bias:
                line += f", position bias {torch.cat(bias[name]).nanmean():+.3f}"
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
