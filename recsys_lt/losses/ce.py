"""Full-softmax cross-entropy, in blocks."""

import torch
from torch import Tensor

from recsys_lt.losses.blocks import (
    Evaluation,
    Gradients,
    Pass,
    Passed,
    cross_entropies,
    logit_blocks,
    plain_means,
    product_dtype,
)
from recsys_lt.losses.loss import Draw, PassLoss
from recsys_lt.losses.output_table import OutputTable, Scorer
from recsys_lt.native.functions import exp_rows
from recsys_lt.native.library import usable

# exp overflows float32 at 88; a sum of 10**10 terms of exp(60) does not.
_SAFE = 60.0


class CE(PassLoss):
    """Cross-entropy over the whole catalogue: -s_target + log sum_v exp(s_v).

    Three matrix products a block (logits, gradient by states, gradient by table) and one pass of exponentials; no more
    than a block of logits is ever held. Source: Xu et al., arXiv 2402.06216, equation of l_CE.
    """

    def one_pass(self, targets: Tensor, n_items: int, draw: Draw | None) -> Pass:
        return softmax_pass

    def by_blocks(
        self, states: Tensor, targets: Tensor, scorer: Scorer, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See ``Loss.by_blocks``."""
        return plain_means(cross_entropies(states, targets, scorer), weights)


def softmax_pass(at: Evaluation) -> Passed:
    """Cross-entropy in blocks, a ``Pass``."""
    states, targets, table, weights, wanted = at
    dtype = product_dtype(states)
    item_vectors = table.weight.to(dtype)
    shift = _needs_shift(states, table)
    losses = torch.empty_like(states[:, 0])
    gradients = Gradients.zeros(states, table, len(weights)) if wanted else None
    for rows, logits in logit_blocks(states, item_vectors):
        own, target = states[rows], targets[rows]
        if table.bias is not None:
            logits += table.bias
        at_target = logits.gather(1, target.unsqueeze(1)).squeeze(1).to(states.dtype)
        top = logits.amax(1, keepdim=True) if shift else None
        partition = _exponentials(logits, top, states.dtype)
        # The large numbers first: their difference is exact where each alone would swallow log Z.
        gap = at_target if top is None else at_target - top.squeeze(1).to(states.dtype)
        losses[rows] = partition.log() - gap
        if gradients is None:
            continue
        # p_v = exp(s_v) / Z: dividing d-wide vectors by Z instead of the I-wide block saves a pass over it.
        inverse = partition.reciprocal().unsqueeze(1)
        by_states = torch.matmul(logits, item_vectors).to(states.dtype)
        gradients.states[rows] = by_states * inverse - table.weight[target]
        for w, weight in enumerate(weights[:, rows]):
            weighted = own * weight.unsqueeze(1)
            gradients.add_product(w, logits, (weighted * inverse).to(dtype))
            gradients.table[w].index_add_(0, target, weighted, alpha=-1)
            if gradients.bias is not None:
                share = inverse.squeeze(1) * weight
                gradients.bias[w] += (share.to(dtype) @ logits).to(states.dtype)
                gradients.bias[w].index_add_(0, target, weight, alpha=-1)
    return losses, gradients


def _exponentials(logits: Tensor, top: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Replace logits [n, I] by exp(logits - top), top [n, 1] or 0; the rows' sums [n], in ``dtype``."""
    if compiled := usable(logits):
        return exp_rows(compiled, logits, top)
    if top is not None:
        logits -= top
    return logits.exp_().sum(1, dtype=dtype)


def _needs_shift(states: Tensor, table: OutputTable) -> bool:
    """Whether exp of the plain logits could overflow, by Cauchy-Schwarz: |h . e| <= |h| |e|.

    While it cannot, the pass that finds each row's maximum and the pass that subtracts it are saved.
    """
    if len(states) == 0:
        return False
    bound = states.norm(dim=1).max() * table.weight.norm(dim=1).max()
    if table.bias is not None:
        bound = bound + table.bias.abs().max()
    return not bool(bound < _SAFE)  # NaN asks for the shift too, and shows in the loss
