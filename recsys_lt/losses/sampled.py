"""Base class of losses on a target's score and K negative scores: draws, scores, gradients."""

import ctypes
from abc import abstractmethod

import torch
from pydantic import PositiveInt
from torch import Tensor

from recsys_lt.losses.blocks import Evaluation, Gradients, Pass, Passed, logit_blocks, product_dtype, row_blocks
from recsys_lt.losses.loss import Draw, PassLoss
from recsys_lt.losses.negatives import Negatives, Pools, Share
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.native import functions as native
from recsys_lt.native.library import usable

# Gathering K vectors of the table for a row costs about this many times as much an item as a dense
# product does, so own negatives are scored densely once K exceeds this share of the catalogue.
_DENSE_SHARE = 40
# The same where compiled kernels gather without copying.
_COMPILED_DENSE_SHARE = 4


class SampledLoss(PassLoss):
    """A loss whose value for a target is a function of its score and those of K negatives (see ``Negatives``).

    A subclass gives that function, ``target_losses``; here negatives are drawn, scored in blocks by the cheapest of
    three ways that give the same numbers (one product for shared negatives; gathered vectors; or a dense block of
    logits from which the sampled ones are picked), and the gradients are formed on the way.
    """

    def __init__(self, k: PositiveInt, pool: Pools = "all", share: Share = "position") -> None:
        self.negatives = Negatives(k, pool, share)
        self.needs_seen = self.negatives.pool.needs_seen

    def check(self, n_items: int) -> None:
        self.negatives.check(n_items)

    @abstractmethod
    def target_losses(self, positive: Tensor, negative: Tensor, n_items: int, *known: Tensor) -> Tensor:
        """Loss of each target: scores [n] and [n, K], and the rows of what is ``known``, -> [n].

        A score of -inf is no negative at all.
        """

    def known(self, at: Evaluation, ids: Tensor, forbidden: Tensor | None) -> tuple[Tensor, ...]:
        """What a loss computes of all targets and negatives beforehand, without gradient, with N rows each.

        Negatives are [N, K], or [K] where the batch shares them, with those ``forbidden`` to each target, [N, K].
        """
        return ()

    def one_pass(self, targets: Tensor, n_items: int, draw: Draw | None) -> Pass:
        assert draw is not None, "a sampled loss needs a draw"
        ids, forbidden = self.negatives(draw, targets, n_items)

        def cheapest(at: Evaluation) -> Passed:
            known = self.known(at, ids, forbidden)
            if ids.dim() == 1:
                return self._shared(at, ids, forbidden, known)
            kernels = _kernels(at.states, at.table)
            if ids.shape[1] * (_COMPILED_DENSE_SHARE if kernels else _DENSE_SHARE) <= n_items:
                return self._gathered(at, ids, kernels, known)
            return self._dense(at, ids, known)

        return cheapest

    def _differentiate(
        self, positive: Tensor, negative: Tensor, n_items: int, wanted: bool, *known: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Losses [n] and their gradients by the scores, [n] and [n, K] (anything where not wanted).

        ``negative`` may be overwritten. A subclass may give its gradients in closed form.
        """
        if not wanted:
            return self.target_losses(positive, negative, n_items, *known), positive, negative
        with torch.enable_grad():
            positive, negative = positive.detach().requires_grad_(), negative.detach().requires_grad_()
            losses = self.target_losses(positive, negative, n_items, *known)
            by_positive, by_negative = torch.autograd.grad(losses.sum(), (positive, negative))
        return losses.detach(), by_positive, by_negative

    def _shared(self, at: Evaluation, ids: Tensor, forbidden: Tensor | None, known: tuple[Tensor, ...]) -> Passed:
        """One K-wide product serves every target of the batch."""
        states, targets, table, weights, wanted = at
        dtype = product_dtype(states)
        vectors = table.weight[ids].to(dtype)
        losses = torch.empty_like(states[:, 0])
        gradients = None
        if wanted:
            gradients, (target_at, ids_at) = Gradients.touching(states, table, len(weights), targets, ids)
        # Folded into the big table once, after all blocks.
        by_vectors = states.new_zeros((len(weights), *vectors.shape)) if wanted else None
        for rows in row_blocks(len(states), len(ids), states.device):
            own, target = states[rows], targets[rows]
            positive = (own * table.weight[target]).sum(1)
            negative = (own.to(dtype) @ vectors.T).to(states.dtype)
            if table.bias is not None:
                positive, negative = positive + table.bias[target], negative + table.bias[ids]
            if forbidden is not None:
                negative = negative.masked_fill(forbidden[rows], -torch.inf)
            losses[rows], by_positive, by_negative = self._differentiate(
                positive, negative, len(table.weight), wanted, *(one[rows] for one in known)
            )
            if gradients is None or by_vectors is None:
                continue
            low = by_negative.to(dtype)
            gradients.states[rows] = by_positive.unsqueeze(1) * table.weight[target] + low @ vectors
            for w, weight in enumerate(weights[:, rows]):
                weighted = own * weight.unsqueeze(1)
                by_vectors[w] += low.T @ weighted.to(dtype)
                gradients.table[w].index_add_(0, target_at[rows], weighted * by_positive.unsqueeze(1))
                if gradients.bias is not None:
                    gradients.bias[w].index_add_(0, target_at[rows], weight * by_positive)
                    gradients.bias[w].index_add_(0, ids_at, (weight @ by_negative).to(states.dtype))
        if gradients is not None and by_vectors is not None:
            for w in range(len(weights)):
                gradients.table[w].index_add_(0, ids_at, by_vectors[w])
        return losses, gradients

    def _gathered(self, at: Evaluation, ids: Tensor, kernels: ctypes.CDLL | None, known: tuple[Tensor, ...]) -> Passed:
        """Read the K vectors of each target: cheap when K is a small part of the catalogue.

        Compiled kernels do so without a copy of the vectors, and sum each item's gradient in registers.
        """
        states, targets, table, weights, wanted = at
        losses = torch.empty_like(states[:, 0])
        gradients = None
        chosen = torch.cat([targets.unsqueeze(1), ids], 1)
        if wanted:
            gradients, (places,) = Gradients.touching(states, table, len(weights), chosen)
        width = chosen.shape[1] if kernels else ids.shape[1] * states.shape[1]
        for rows in row_blocks(len(states), width, states.device):
            own, items = states[rows], chosen[rows]
            if kernels:
                scores = native.scores(kernels, own, table.weight, items)
            else:
                vectors = table.weight[items]
                scores = torch.bmm(vectors, own.unsqueeze(2)).squeeze(2).to(states.dtype)
            if table.bias is not None:
                scores += table.bias[items]
            losses[rows], by_positive, by_negative = self._differentiate(
                scores[:, 0], scores[:, 1:], len(table.weight), wanted, *(one[rows] for one in known)
            )
            if gradients is None:
                continue
            scores[:, 0] = by_positive
            if by_negative.data_ptr() != scores[:, 1:].data_ptr():  # else it was formed in place
                scores[:, 1:] = by_negative
            if kernels:
                native.add_by_states(kernels, gradients.states[rows], table.weight, items, scores)
            else:
                gradients.states[rows] = torch.bmm(scores.unsqueeze(1), vectors).squeeze(1)
            for w, weight in enumerate(weights[:, rows]):
                if kernels:
                    native.add_by_table(kernels, gradients.table[w], own, places[rows], scores, weight)
                else:
                    outer = (scores * weight.unsqueeze(1)).unsqueeze(2) * own.unsqueeze(1)
                    gradients.table[w].index_add_(0, places[rows].flatten(), outer.flatten(0, 1))
                if gradients.bias is not None:
                    gradients.bias[w].index_add_(0, places[rows].flatten(), (scores * weight.unsqueeze(1)).flatten())
        return losses, gradients

    def _dense(self, at: Evaluation, ids: Tensor, known: tuple[Tensor, ...]) -> Passed:
        """Score whole blocks of the catalogue and pick the sampled logits, in cache."""
        states, targets, table, weights, wanted = at
        n_items = len(table.weight)
        dtype = product_dtype(states)
        item_vectors = table.weight.to(dtype)
        losses = torch.empty_like(states[:, 0])
        gradients = Gradients.zeros(states, table, len(weights)) if wanted else None
        for rows, logits in logit_blocks(states, item_vectors):
            chosen = torch.cat([targets[rows].unsqueeze(1), ids[rows]], 1)
            scores = logits.gather(1, chosen).to(states.dtype)
            if table.bias is not None:
                scores += table.bias[chosen]
            losses[rows], by_positive, by_negative = self._differentiate(
                scores[:, 0], scores[:, 1:], n_items, wanted, *(one[rows] for one in known)
            )
            if gradients is None:
                continue
            by_scores = torch.cat([by_positive.unsqueeze(1), by_negative], 1)
            by_logits = logits.zero_().scatter_add_(1, chosen, by_scores.to(dtype))
            gradients.states[rows] = (by_logits @ item_vectors).to(states.dtype)
            for w, weight in enumerate(weights[:, rows]):
                gradients.add_product(w, by_logits, (states[rows] * weight.unsqueeze(1)).to(dtype))
                if gradients.bias is not None:
                    gradients.bias[w].index_add_(0, chosen.flatten(), (by_scores * weight.unsqueeze(1)).flatten())
        return losses, gradients


def _kernels(states: Tensor, table: OutputTable) -> ctypes.CDLL | None:
    """The compiled kernels, where they take these."""
    return usable(states, table.weight) if product_dtype(states) == torch.float32 else None


def scores_of(states: Tensor, table: OutputTable, ids: Tensor) -> Tensor:
    """Scores of items, [N, K], or [K] shared by all states [N, d]: [N, K], in blocks, without gradient."""
    states, weight, kernels = states.detach(), table.weight.detach(), _kernels(states, table)
    if ids.dim() == 1:
        scores = (states @ weight[ids].T).to(states.dtype)
    elif kernels:
        scores = native.scores(kernels, states, weight, ids)
    else:
        scores = states.new_empty(ids.shape)
        for rows in row_blocks(len(ids), ids.shape[1] * states.shape[1], states.device):
            scores[rows] = torch.bmm(weight[ids[rows]], states[rows].unsqueeze(2)).squeeze(2).to(states.dtype)
    return scores if table.bias is None else scores + table.bias.detach()[ids]


def n_allowed(negative: Tensor) -> Tensor:
    """Negatives of each target that are not forbidden (a forbidden one scores -inf), [n, K] -> [n]."""
    return (negative > -torch.inf).sum(1)
