"""Users a second of the decoding of item ids, beside transformers' constrained beam search with the same weights.

``python studies/speed/decode.py [--ids codes cid_iid] [--rounds 3] [--users 64] [--cpu-time]`` decodes made-up
histories with 12,101 items of Beauty's sizes, in turn with ``transformers`` and with the matrix products alone, and
compares the lists. ``--cpu-time`` counts the processor's seconds of one thread, for a machine that is not quiet.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import T5ForConditionalGeneration

from recsys_lt.generative.decoding import Lists, decode
from recsys_lt.generative.item_ids import IdMap, told_apart
from recsys_lt.generative.networks import EncoderDecoder, Sizes
from recsys_lt.generative.t5_writer import T5Writer
from recsys_lt.generative.templates import Read
from recsys_lt.generative.trie import Trie

ITEMS, BEAMS, LONGEST = 12_101, 20, 20
THEIR_BATCH = 32  # of 8, 16, 32 and 64 the fastest on the machine of the README


def codes(rng: np.random.Generator) -> IdMap:
    """Three codes of 256 and a token for collisions, drawn at random."""
    return told_apart(rng.integers(0, 256, (ITEMS, 3)).astype(np.int32), (256,) * 3, "random codes")


def cid_iid(rng: np.random.Generator) -> IdMap:
    """Two levels of ten clusters and a token of the item's own, as P5's ids of these sizes."""
    clusters = np.sort(rng.integers(0, 100, ITEMS))
    paths = np.stack([clusters // 10, clusters, np.arange(ITEMS)], axis=1)
    return IdMap(paths.astype(np.int32), (10, 100, ITEMS), "random clusters")


IDS = {"codes": codes, "cid_iid": cid_iid}


def histories(ids: IdMap, n: int, rng: np.random.Generator) -> list[list[int]]:
    """Token rows of histories whose lengths are about those of Beauty's test users: 2 to 20 items, 7 on average."""
    lengths = np.clip(np.round(rng.lognormal(1.75, 0.55, n)), 2, LONGEST).astype(int)
    rows = (ids.tokens[rng.integers(0, ITEMS, length)].ravel() for length in lengths)
    return [[int(token) for token in row] for row in rows]


def constrained(t5: Any, start: int, rows: Sequence[list[int]], tokens: NDArray[np.int32]) -> Callable[[], Any]:
    """``generate`` of ``transformers`` in batches, with a dictionary of the tokens that may follow."""
    following: dict[tuple[int, ...], list[int]] = {}
    for row in np.unique(tokens, axis=0).tolist():
        for place, token in enumerate(row):
            after = following.setdefault(tuple(row[:place]), [])
            if not after or after[-1] != token:
                after.append(token)

    def search() -> Any:
        found = []
        for first in range(0, len(rows), THEIR_BATCH):
            batch = rows[first : first + THEIR_BATCH]
            width = max(map(len, batch))
            found.append(
                t5.generate(
                    input_ids=torch.tensor([row + [start] * (width - len(row)) for row in batch]),
                    attention_mask=torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch]),
                    num_beams=BEAMS,
                    num_return_sequences=BEAMS,
                    max_new_tokens=tokens.shape[1],
                    do_sample=False,
                    length_penalty=0.0,
                    pad_token_id=start,
                    prefix_allowed_tokens_fn=lambda _, before: following[tuple(before[1:].tolist())],
                )
            )
        return torch.cat(found)[:, 1:]

    return search


def products(network: EncoderDecoder, rows: Sequence[list[int]], depth: int) -> Callable[[], None]:
    """The matrix products of linear layers that no exact search of these beams can spare."""
    read, users = sum(map(len, rows)), len(rows)
    written = [users] + [users * BEAMS] * (depth - 1)
    shapes: list[tuple[int, Any]] = []
    for name, weight in network.t5.named_parameters():
        if weight.dim() != 2 or "relative" in name:
            continue
        once = "encoder." in name or "EncDecAttention.k" in name or "EncDecAttention.v" in name
        shapes += [(n, weight) for n in ([read] if once else written)]
    inputs = {(n, weight.shape[1]): torch.randn(n, weight.shape[1]) for n, weight in shapes}

    def work() -> None:
        for n, weight in shapes:
            inputs[n, weight.shape[1]] @ weight.T

    return work


def seconds(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    """Seconds of one call."""
    began = clock()
    work()
    return clock() - began


@torch.inference_mode()
def measured(name: str, n_users: int, rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Medians over rounds, each of which takes ours, theirs and the products in turn."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    ids = IDS[name](rng)
    network = EncoderDecoder(Sizes(dropout=0.0), ids.n_tokens, [","]).eval()
    for weight in network.parameters():
        if weight.dim() == 2:
            weight.mul_(2)  # as initialised, all items are about equally likely
    rows, trie, t5 = histories(ids, n_users, rng), Trie.of(ids.tokens), network.t5
    assert isinstance(t5, T5ForConditionalGeneration)
    reads = [Read(row, [0] * len(row)) for row in rows]

    def ours() -> Lists:
        # Probabilities among all tokens, words too, as transformers has them.
        return decode(T5Writer(t5), network.read(reads), trie, BEAMS, None, BEAMS)

    theirs, floor = constrained(t5, network.start, rows, ids.tokens), products(network, rows, ids.depth)
    number = {tuple(row): item for item, row in enumerate(ids.tokens.tolist())}
    listed = torch.tensor([number[tuple(row)] for row in theirs().tolist()])
    same = (listed == ours().items.flatten()).double().mean().item()
    floor()
    times = [tuple(seconds(work, clock) for work in (ours, theirs, floor)) for _ in range(rounds)]
    return {
        "ids": name,
        "users_per_second": n_users / statistics.median(one[0] for one in times),
        "of_transformers": statistics.median(one[1] / one[0] for one in times),
        "of_the_products": statistics.median(one[0] / one[2] for one in times),
        "same_places": same,
        "users": n_users,
        "rounds": times,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> None:
    """Measure, print a line each, and keep the results if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ids", nargs="+", choices=sorted(IDS), default=sorted(IDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    if arguments.cpu_time:
        torch.set_num_threads(1)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    found = []
    for name in arguments.ids:
        one = measured(name, arguments.users, arguments.rounds, clock)
        found.append(one)
        print(
            f"{name}: {one['users_per_second']:.0f} users/s, {one['of_transformers']:.1f}x those of transformers, "
            f"{one['of_the_products']:.2f}x the time of the products; "
            f"{one['same_places']:.1%} of places have the same item; "
            f"{one['threads']} threads",
            flush=True,
        )
    if arguments.results:
        arguments.results.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
