"""Cross-entropy over a part of the catalogue: CE-eta for training, CE-n for analysis."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from recsys_lt.errors import UserError
from recsys_lt.losses.blocks import plain_means, row_blocks
from recsys_lt.losses.loss import Draw, Loss
from recsys_lt.losses.output_table import OutputTable


class Truncated(Loss):
    """Cross-entropy in which items below a score are left out of the partition sum, never the target.

    A block of logits is held at a time, and computed again for its gradient.
    """

    @abstractmethod
    def cut(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The least score that stays in each target's partition sum, at most its own: logits [n, I] -> [n, 1]."""

    def __call__(
        self,
        states: Tensor,
        targets: Tensor,
        table: OutputTable,
        weights: Tensor | None = None,
        draw: Draw | None = None,
    ) -> tuple[Tensor, Tensor]:
        def of_rows(states: Tensor, targets: Tensor) -> Tensor:
            logits = F.linear(states, table.weight, table.bias).to(states.dtype)
            left_out = logits < self.cut(logits.detach(), targets)
            return F.cross_entropy(logits.masked_fill(left_out, -torch.inf), targets, reduction="none")

        blocks = row_blocks(len(states), len(table.weight), states.device)
        parts = [checkpoint(of_rows, states[rows], targets[rows], use_reentrant=False) for rows in blocks]
        return plain_means(torch.cat([states.new_zeros(0), *parts]), weights)

    def covered(self, states: Tensor, targets: Tensor, table: OutputTable) -> Tensor:
        """Items that stay in the partition sum of some target that is not themselves, [I] bool."""
        found = torch.zeros(len(table.weight), dtype=torch.bool, device=states.device)
        for rows in row_blocks(len(states), len(table.weight), states.device):
            logits = F.linear(states[rows], table.weight, table.bias).to(states.dtype)
            kept = logits >= self.cut(logits, targets[rows])
            found |= kept.scatter_(1, targets[rows].unsqueeze(1), False).any(0)
        return found


class CEEta(Truncated):
    """CE over the items within eta * |s_target| below the target's score.

    eta -> infinity is CE; eta = 0 keeps the items scored at least as high as the target, the tightest bound on -log
    NDCG. About 0.7 is best for SASRec on Beauty. What is left out gets no gradient. Source: Xu et al., arXiv
    2402.06216, equation of l_CE-eta and figure 1a.
    """

    _slack = 1e-8  # as in the published code

    def __init__(self, eta: float = 0.7) -> None:
        if not eta >= 0:
            raise UserError(f"eta is {eta}", where="loss.eta", remedy="Give a number of at least 0, such as 0.7")
        self.eta = eta

    def cut(self, logits: Tensor, targets: Tensor) -> Tensor:
        own = logits.gather(1, targets.unsqueeze(1))
        return own - self.eta * own.abs() - self._slack


class CEN(Truncated):
    """CE over the n highest-scored items (at least down to the target): for analysis, not for training.

    Proposition 1: for any n >= rank, -log NDCG(rank) <= -log MRR(rank) <= CE-n. A target ranked below n keeps as many
    items as its rank. Source: Xu et al., arXiv 2402.06216, Proposition 1.
    """

    def __init__(self, n: int) -> None:
        if n < 1:
            raise UserError(f"n is {n}", where="loss.n", remedy="Give a positive number of items")
        self.n = n

    def check(self, n_items: int) -> None:
        if self.n > n_items:
            what = f"n = {self.n} is larger than the catalogue of {n_items} items"
            raise UserError(what, where="loss.n", remedy=f"Use at most loss.n={n_items}, or loss=ce")

    def cut(self, logits: Tensor, targets: Tensor) -> Tensor:
        nth = logits.topk(min(self.n, logits.shape[1]), dim=1).values[:, -1:]
        own = logits.gather(1, targets.unsqueeze(1))
        # Ties with the n-th item stay in: the sum can only grow, and the bound with it.
        return torch.minimum(nth, own)
