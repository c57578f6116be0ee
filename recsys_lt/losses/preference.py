"""Preference losses: a chosen answer is to score above K rejected ones; one formula, whose settings are the methods."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: How far the chosen answer should lead, by DynamicPO (arXiv 2605.00327, its code).
_LEAD = 2.0
#: Clusters of the rejected answers by DynamicPO where none of them beats the chosen one.
_CLUSTERS = 3


class Answers(NamedTuple):
    """Log-probabilities of a chosen answer [n] and of K rejected ones [n, K], by the policy or the reference.

    Any number that is added to all answers of a row cancels. So an item's score serves as well as its log-probability.
    """

    chosen: Tensor
    rejected: Tensor

    def gaps(self) -> Tensor:
        """Lead of the chosen answer over each rejected one, [n, K], in float32 at least."""
        chosen, rejected = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in self)
        return chosen.unsqueeze(1) - rejected


@dataclass(frozen=True)
class Preference:
    """Loss of a chosen answer against K rejected ones.

    With the leads d_k = beta (lp_chosen - lp_k), less the same by the reference, the lead over all is A, and the loss
    is -log sigma(A - margin).

    Parameters
    ----------
    beta
        Scale of the leads.
    margin
        What A must exceed (SimPO's gamma).
    combine
        A of the K leads: ``lse``, -log sum_k exp(-d_k), whose gradient goes to the rejected answers by their softmax
        (S-DPO); ``mean`` (DMPO). Of one rejected answer both are its lead.
    squared
        (A / beta - margin - 1 / (2 beta))^2 in place of the logistic loss (IPO).
    smoothing
        Part eps of the loss that takes the rejected answer for the chosen one: (1 - eps) times the loss, plus eps times
        -log sigma(margin - A) (RosePO).
    dynamic
        Only rejected answers at the border count, each with a beta of its own (DynamicPO): see ``border`` and
        ``strength``.

    References
    ----------
    DPO: Rafailov et al., arXiv 2305.18290. IPO: Azar et al., arXiv 2310.12036. SimPO: Meng et al., arXiv 2405.14734.
    S-DPO: Chen et al., arXiv 2406.09215. DMPO: Bai et al., arXiv 2405.16127. RosePO: Liao et al., arXiv 2410.12519.
    NAPO: arXiv 2508.09653. DynamicPO: arXiv 2605.00327.
    """

    beta: float
    margin: float = 0.0
    combine: Literal["lse", "mean"] = "lse"
    squared: bool = False
    smoothing: float = 0.0
    dynamic: bool = False

    def __call__(
        self,
        policy: Answers,
        allowed: Tensor,
        reference: Answers | None = None,
        margin: Tensor | None = None,
        margins: Tensor | None = None,
    ) -> Tensor:
        """Losses, [n].

        Parameters
        ----------
        policy
            Of the model that is trained.
        allowed
            Which rejected answers count, [n, K] bool. A row without any has no loss.
        reference
            Of a frozen model; None compares the policy's own log-probabilities.
        margin
            Margin of each row, [n], added to that of the settings.
        margins
            Margin of each rejected answer, [n, K], taken from its lead d_k.
        """
        gaps = policy.gaps() if reference is None else policy.gaps() - reference.gaps()
        if self.dynamic:
            at_border = border(policy, allowed)
            leads = self.beta * strength(policy, allowed, at_border) * gaps
            allowed = at_border
        else:
            leads = self.beta * gaps
        if margins is not None:
            leads = leads - margins
        counted = allowed.any(1)
        lead = _lse(leads, allowed, counted) if self.combine == "lse" else _mean(leads, allowed)
        over = self.margin if margin is None else self.margin + margin
        if self.squared:
            losses = (lead / self.beta - over - 0.5 / self.beta) ** 2
        else:
            losses = (1 - self.smoothing) * F.softplus(over - lead)
            if self.smoothing:
                losses = losses + self.smoothing * F.softplus(lead - over)
        return losses.where(counted, 0.0)


def _lse(leads: Tensor, allowed: Tensor, counted: Tensor) -> Tensor:
    # A row of nothing but -inf has no gradient; its place is taken by zeros.
    out = leads.masked_fill(~allowed, torch.inf).masked_fill(~counted.unsqueeze(1), 0.0)
    return -torch.logsumexp(-out, 1)


def _mean(values: Tensor, allowed: Tensor) -> Tensor:
    """Mean of the allowed values of each row, [n, K] -> [n]; 0 where there are none."""
    return values.masked_fill(~allowed, 0.0).sum(1) / allowed.sum(1).clamp(min=1)


def popularity_margins(counts: Tensor, chosen: Tensor, rejected: Tensor, tau: float) -> Tensor:
    """Margins tau log(n_k / n_chosen) of items [n] and [n, K]: a rare chosen item must lead a popular one by more.

    ``counts`` are the items' training interactions [I]; an item without any counts as one with a single one. It is
    logit adjustment of the preference: the loss is that of beta times the scores plus tau log n, and ranking is by the
    plain scores.
    """
    logs = counts.clamp(min=1).float().log()
    return tau * (logs[rejected] - logs[chosen].unsqueeze(1))


# DynamicPO.


def border(policy: Answers, allowed: Tensor) -> Tensor:
    """Rejected answers near the chosen one, [n, K] bool.

    Those that the policy gives at least the chosen answer's log-probability. Where there are none, those of the highest
    of three clusters of the row's log-probabilities (k-means on a line, exact); of three answers or fewer, the highest.
    """
    chosen, rejected = policy.chosen.detach(), policy.rejected.detach()
    above = (rejected >= chosen.unsqueeze(1)) & allowed
    values, order = rejected.masked_fill(~allowed, -torch.inf).sort(1, descending=True)
    first = _highest_cluster(values, allowed.sum(1))
    highest = torch.zeros_like(allowed)
    places = torch.arange(allowed.shape[1], device=allowed.device)
    highest.scatter_(1, order, places < first.unsqueeze(1))
    return torch.where(above.any(1, keepdim=True), above, highest & allowed)


def _highest_cluster(values: Tensor, n: Tensor) -> Tensor:
    """Size of the highest of three clusters of the first n [b] values of each row [b, K], which fall: [b]."""
    k = values.shape[1]
    if k <= _CLUSTERS:
        return n.clamp(max=1)
    real = torch.arange(k, device=values.device) < n.unsqueeze(1)
    # Centred, for the sake of the sums of squares.
    x = values.masked_fill(~real, 0.0).double()
    x = (x - _mean(x, real).unsqueeze(1)).masked_fill(~real, 0.0)
    # Sums over the first i values, i = 0..K.
    sums, squares, sizes = (F.pad(each.cumsum(1), (1, 0)) for each in (x, x * x, real.double()))

    def spread(start: Tensor, stop: Tensor) -> Tensor:
        size = (sizes[:, stop] - sizes[:, start]).clamp(min=1)
        return squares[:, stop] - squares[:, start] - (sums[:, stop] - sums[:, start]) ** 2 / size

    first, second = torch.combinations(torch.arange(1, k, device=values.device)).unbind(1)
    zero, last = torch.zeros_like(first), torch.full_like(first, k)
    cost = spread(zero, first) + spread(first, second) + spread(second, last)
    # Three clusters of at least one answer each.
    cost = cost.masked_fill(second >= n.unsqueeze(1), torch.inf)
    return torch.where(n <= _CLUSTERS, n.clamp(max=1), first[cost.argmin(1)])


def strength(policy: Answers, allowed: Tensor, at_border: Tensor) -> Tensor:
    """Factor of beta for each rejected answer at the border, [n, K], from 0.5 to 1.5, detached; 1 for the others.

    It is 1 + tanh((D1 - D2 - 2) / (|D1| + |D2|)) / 2, with D1 = lp_chosen - lp_k and D2 = lp_k less the mean
    log-probability of the other rejected answers (the lowest of all where there are no others).
    """
    chosen, rejected = policy.chosen.detach().unsqueeze(1), policy.rejected.detach()
    others = allowed & ~at_border
    lowest = rejected.masked_fill(~allowed, torch.inf).amin(1)
    level = torch.where(others.any(1), _mean(rejected, others), lowest).unsqueeze(1)
    led, leads = chosen - rejected, rejected - level
    found = 1 + 0.5 * torch.tanh((led - leads - _LEAD) / (led.abs() + leads.abs() + 1e-6))
    return found.where(at_border, 1.0)


# NAPO.


def similar_rows(states: Tensor, real: Tensor, part: float) -> tuple[Tensor, Tensor]:
    """The most similar other rows of each row of a group, by the dot product of their states.

    Parameters
    ----------
    states
        [G, W, d].
    real
        Which of the W places of each group hold a row, [G, W] bool.
    part
        Part of the W - 1 other rows that is kept, rounded down.

    Returns
    -------
    rows, kept
        Places of the P kept rows [G, W, P], and which of them hold a row.
    """
    width = states.shape[1]
    similarity = states @ states.transpose(1, 2)
    itself = torch.eye(width, dtype=torch.bool, device=states.device)
    out = itself | ~real.unsqueeze(1)
    rows = similarity.masked_fill(out, -torch.inf).topk(kept_rows(width, part), dim=2).indices
    return rows, ~out.expand(len(states), -1, -1).gather(2, rows)


def kept_rows(width: int, part: float) -> int:
    """How many of the other rows of a group of ``width`` share their rejected answers with a row."""
    return int(part * (width - 1) + 1e-9)


def confident_margin(scores: Tensor, allowed: Tensor, margin: float, confidence: float) -> Tensor:
    """Margin of each row by how sure it is that its rejected answers are wrong, [n], from 0 to twice ``margin``.

    A rejected item that an auxiliary model scores high is likely to be a false negative, so its row has a smaller
    margin: margin (1 - confidence z), with z the row's mean score less that of all rows, in standard deviations of a
    score.

    Parameters
    ----------
    scores
        The auxiliary model's, of the rejected answers, [n, K].
    allowed
        Which of them count, [n, K] bool.
    margin, confidence
        NAPO's gamma_0 and alpha_1.
    """
    rows = allowed.any(1)
    if not bool(rows.any()):
        return scores.new_zeros(len(scores))
    means = _mean(scores, allowed)
    spread = scores[allowed].std(correction=0).clamp(min=1e-6)
    z = (means - means[rows].mean()) / spread
    return (margin * (1 - confidence * z)).clamp(0.0, 2 * margin)
