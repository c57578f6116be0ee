"""The prefix tree of items' token sequences, as arrays."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_lt.errors import UserError


@dataclass(frozen=True)
class Trie:
    """The prefix tree of the token sequences of I items; node 0 is the root, and nodes are numbered level by level.

    The edges of node n are ``child_ptr[n]`` to ``child_ptr[n + 1]``, in order of their tokens. Integers are int64, as
    torch indexes with.

    Parameters
    ----------
    child_ptr
        First edge of each node, [nodes + 1].
    child_tok, child_node
        Token of each edge and the node it leads to, [edges].
    leaf_item
        Item whose tokens end at a node, -1 where none does, [nodes].
    n_leaves
        Items whose tokens end at a node or below it, [nodes].
    paths
        Node after each token of an item, -1 after its last one, [I, L].
    """

    child_ptr: Tensor
    child_tok: Tensor
    child_node: Tensor
    leaf_item: Tensor
    n_leaves: Tensor
    paths: Tensor

    @property
    def n_nodes(self) -> int:
        return len(self.leaf_item)

    @property
    def depth(self) -> int:
        """Most tokens of an item, L."""
        return self.paths.shape[1]

    @classmethod
    def of(cls, codes: NDArray[np.int32]) -> "Trie":
        """The tree of codes [I, L], padded with -1.

        Raises UserError for an empty catalogue, an item without a token, and for items one of whose sequences is, or
        begins, another's: no list could tell them apart.
        """
        where, remedy = "item ids", "Give each item tokens of its own"
        n_items, depth = codes.shape
        if not n_items or not depth or (codes[:, 0] < 0).any():
            raise UserError("the catalogue is empty, or an item has no token", where=where, remedy=remedy)
        order = np.lexsort(codes.T[::-1])
        rows = codes[order].astype(np.int64)
        # Whether a row begins a new node at each level: its prefix is not that of the row before it.
        new = np.ones(rows.shape, dtype=bool)
        new[1:] = np.logical_or.accumulate(rows[1:] != rows[:-1], axis=1)
        there = rows >= 0
        new &= there
        nodes = np.zeros((n_items, depth), dtype=np.int64)  # of each row and level
        n_nodes, parents, tokens = 1, [], []
        above = np.zeros(n_items, dtype=np.int64)
        for level in range(depth):
            first = np.flatnonzero(new[:, level])
            nodes[:, level] = n_nodes - 1 + np.cumsum(new[:, level])
            parents.append(above[first])
            tokens.append(rows[first, level])
            n_nodes += len(first)
            above = nodes[:, level]
        nodes[~there] = -1
        child_ptr = np.searchsorted(np.concatenate(parents), np.arange(n_nodes + 1))
        ends = nodes[np.arange(n_items), np.count_nonzero(there, axis=1) - 1]
        if len(np.unique(ends)) < n_items or (child_ptr[ends] < child_ptr[ends + 1]).any():
            what = "two items have the same tokens, or the tokens of one are a prefix of another's"
            raise UserError(what, where=where, remedy=remedy)
        leaf_item = np.full(n_nodes, -1, dtype=np.int64)
        leaf_item[ends] = order
        paths = np.empty_like(nodes)
        paths[order] = nodes
        n_leaves = np.bincount(nodes[there], minlength=n_nodes)
        n_leaves[0] = n_items
        parts = (child_ptr, np.concatenate(tokens), np.arange(1, n_nodes), leaf_item, n_leaves, paths)
        return cls(*(torch.from_numpy(np.ascontiguousarray(part, dtype=np.int64)) for part in parts))

    def to(self, device: torch.device | str) -> "Trie":
        return Trie(*(getattr(self, one.name).to(device) for one in fields(self)))

    def shares(self, counts: Tensor) -> Tensor:
        """Share of each edge in the counts of the items below its parent, [edges] float64, of counts above 0 [I]."""
        below = counts.new_zeros(self.n_nodes, dtype=torch.float64)
        there = self.paths >= 0
        below.index_add_(0, self.paths[there], counts.double().unsqueeze(1).expand_as(there)[there])
        below[0] = counts.sum()
        return below[self.child_node] / below.repeat_interleave(self.child_ptr.diff())

    def of_tokens(self, items: Tensor, of_edges: Tensor, n_tokens: int) -> Tensor:
        """Values [edges] of the tokens that may stand where each token of some items does, item after item.

        [items] -> [tokens of the items, n_tokens]; minus infinity for a token that leads to no item.
        """
        paths = self.paths[items]
        at = torch.cat([torch.zeros_like(paths[:, :1]), paths[:, :-1]], 1)[paths >= 0]
        first, lengths = self.child_ptr[at], self.child_ptr.diff()[at]
        row = torch.arange(len(at), device=at.device).repeat_interleave(lengths)
        edge = torch.arange(len(row), device=at.device) + (first - lengths.cumsum(0) + lengths)[row]
        found = of_edges.new_full((len(at), n_tokens), -torch.inf)
        found[row, self.child_tok[edge]] = of_edges[edge]
        return found
