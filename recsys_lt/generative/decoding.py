"""Beam search over the items of a catalogue, for models that write an item token by token."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from recsys_lt.data.batch import SeenSets
from recsys_lt.generative.trie import Trie
from recsys_lt.recommenders.full_ranking import first_of_equals


class Writer(Protocol):
    """A model that writes items token by token, for B users at once.

    ``begin`` takes what was read of the users (an encoder's output, a history's keys and values), which the search
    passes on as it is, and gives a cache with room for ``depth`` steps of at most ``beams`` beams. The first ``step``
    has one beam a user and no tokens; each later one gives the last token of each beam, and the beam of the step before
    that it goes on from. Nothing of a dead beam's row is used.
    """

    def begin(self, encoded: Any, beams: int, depth: int) -> Any:
        """A cache of B users."""
        ...

    def step(self, cache: Any, tokens: Tensor | None, parents: Tensor | None) -> Tensor:
        """Logits of the next token of each beam, [B, n, V]; ``tokens`` and ``parents`` are [B, n]."""
        ...


class Lists(NamedTuple):
    """The best items of B lists."""

    items: Tensor  # best first, [B, k] int64; -1 past the end of a list
    scores: Tensor  # log-probabilities, [B, k] float32; minus infinity past the end


def decode(
    model: Writer,
    encoded: Any,
    trie: Trie,
    beams: int,
    masked: SeenSets | None,
    k: int,
    *,
    lists: int = 1,
    length_penalty: float = 0.0,
    renormalise: bool = False,
) -> Lists:
    """The items of highest log-probability that a beam search finds.

    At each level a user keeps ``beams`` unfinished sequences, the best continuations of those before; finished ones
    cost no beams. Among equals, the one of the better earlier beam comes first, then that of the lower token.

    Parameters
    ----------
    model, encoded
        What writes the items, and what it has read.
    trie
        Token sequences of the items.
    beams
        Unfinished sequences kept for each user.
    masked
        Items that are not listed, by list. Sequences that lead to no other item are not continued, so that they cost no
        beams.
    k
        Length of the lists.
    lists
        Number of lists of each user, which stand side by side in ``masked`` and in what is returned. They have beams of
        their own, and share what was read of the user.
    length_penalty
        An item's score is its log-probability divided by its number of tokens to this power (1 in P5).
    renormalise
        Whether a token's probability is among those that lead to an item; False: among all tokens.

    Returns
    -------
    Lists
        Distinct items, none of them masked; fewer than k where the beams lead to no more. A row for each list.
    """
    cache = model.begin(encoded, beams * lists, trie.depth)
    logits = model.step(cache, None, None).repeat_interleave(lists, 0)
    n_rows, device = len(logits), logits.device
    node = torch.zeros(n_rows, 1, dtype=torch.int64, device=device)
    score = torch.zeros(n_rows, 1, device=device)
    first = torch.zeros_like(node)  # beam of a user at which a list's beams begin
    exhausted = _exhausted(trie, masked)
    if masked is not None:
        node[masked.offsets.diff() == len(trie.paths)] = -1
    best = Lists(node.new_full((n_rows, k), -1), score.new_full((n_rows, k), -torch.inf))
    for level in range(1, trie.depth + 1):
        found = _continued(trie, node, score, logits, exhausted, renormalise)
        if found is None:
            break
        ends = trie.leaf_item[found.nodes] >= 0
        if bool(ends.any()):
            values, places = first_of_equals(found.scores.where(ends, -torch.inf), k)
            items = trie.leaf_item[found.nodes.gather(1, places)].masked_fill(values == -torch.inf, -1)
            best = _better(best, Lists(items, values / level**length_penalty))
        if level == trie.depth or bool(ends.all()):
            break
        score, places = first_of_equals(found.scores.masked_fill(ends, -torch.inf), beams)
        node = found.nodes.gather(1, places).masked_fill(score == -torch.inf, -1)
        tokens, parents = found.tokens.gather(1, places), found.parents.gather(1, places) + first
        # A user's lists are side by side: the writer has the beams of all of them as one row.
        shape = (n_rows // lists, lists * tokens.shape[1])
        logits = model.step(cache, tokens.view(shape), parents.view(shape)).view(*tokens.shape, -1)
        first = (torch.arange(n_rows, device=device) % lists * tokens.shape[1]).unsqueeze(1)
    return best


class _Continued(NamedTuple):
    """Continuations of B lists' beams, by beam and token; a row is filled up with nodes 0 of score minus infinity."""

    nodes: Tensor  # [B, C]
    tokens: Tensor
    parents: Tensor  # the beam of each
    scores: Tensor


def _continued(
    trie: Trie, node: Tensor, score: Tensor, logits: Tensor, exhausted: Tensor, renormalise: bool
) -> _Continued | None:
    """All continuations of beams at nodes [B, n] (-1 for none) that the trie has; None where there are none."""
    n_rows, n_beams = node.shape
    at = node.flatten().clamp(min=0)
    first = trie.child_ptr[at]
    lengths = (trie.child_ptr[at + 1] - first) * (node.flatten() >= 0)
    total = int(lengths.sum())
    if total == 0:
        return None
    beam = torch.repeat_interleave(lengths, output_size=total)
    ends = lengths.cumsum(0)
    edge = torch.arange(total, device=node.device)
    of_row = torch.cat([ends.new_zeros(1), ends[n_beams - 1 :: n_beams]])
    row = beam // n_beams
    place = edge - of_row[row]
    edge = edge + (first - ends + lengths)[beam]
    token, child = trie.child_tok[edge], trie.child_node[edge]
    logits = logits.flatten(0, 1)
    if renormalise:
        chosen = logits[beam, token].float()
        highest = chosen.new_full((len(lengths),), -torch.inf).scatter_reduce(0, beam, chosen, "amax")
        sums = torch.zeros_like(highest).index_add_(0, beam, (chosen - highest[beam]).exp())
        gained = chosen - (highest + sums.log())[beam]
    else:
        gained = logits.log_softmax(-1, dtype=torch.float32)[beam, token]
    value = score.flatten()[beam] + gained
    if len(exhausted):
        key = row * trie.n_nodes + child
        found = torch.searchsorted(exhausted, key).clamp(max=len(exhausted) - 1)
        value = value.masked_fill(exhausted[found] == key, -torch.inf)
    width = int(of_row.diff().max())
    made = (node.new_zeros(n_rows, width) for _ in range(3))
    nodes, tokens, parents = made
    scores = value.new_full((n_rows, width), -torch.inf)
    index = (row, place)
    for table, values in ((nodes, child), (tokens, token), (parents, beam % n_beams), (scores, value)):
        table.index_put_(index, values)
    return _Continued(nodes, tokens, parents, scores)


def _exhausted(trie: Trie, masked: SeenSets | None) -> Tensor:
    """Nodes below which all items are masked, of each list, as list * n_nodes + node in rising order."""
    if masked is None:
        return trie.leaf_item.new_zeros(0)
    paths = trie.paths[masked.items]
    keys = masked.rows().unsqueeze(1) * trie.n_nodes + paths
    keys, counts = keys[paths >= 0].unique(return_counts=True)
    return keys[counts == trie.n_leaves[keys % trie.n_nodes]]


def _better(one: Lists, other: Lists) -> Lists:
    """The best of two lists of equal length; among equals that of the first."""
    scores = torch.cat([one.scores, other.scores], 1)
    items = torch.cat([one.items, other.items], 1)
    scores, places = first_of_equals(scores, one.items.shape[1])
    return Lists(items.gather(1, places), scores)
