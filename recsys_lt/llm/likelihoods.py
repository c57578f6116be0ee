"""Log-likelihoods of texts that all go on from what a language model has read."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lt.llm.language_model import LanguageModel, Read

_LOGITS = 1 << 24  # held at a time: 64 MB


def log_likelihoods(
    language: LanguageModel,
    read: Read,
    rows: Sequence[Sequence[int]],
    vocabulary: Tensor,
    given: Sequence[int] | None = None,
    total: Tensor | None = None,
) -> Tensor:
    """Log-likelihoods of the tokens of rows that all go on from what was read, row after row, [T] float32.

    Parameters
    ----------
    rows
        Tokens of each row, none of them empty.
    vocabulary
        Output vectors of the tokens, [V, H] float32: ``language.vocabulary``.
    given
        How many of each row's first tokens are only read; None for none. T counts the others.
    total
        Where given, [V]: the probability of every token is added, summed over the T places.
    """
    known, device = given or [0] * len(rows), vocabulary.device
    inner = [row[:-1] for row in rows]  # the last token is predicted, and never read
    lengths = [len(row) for row in inner]
    tokens = torch.tensor([token for row, n in zip(rows, known, strict=True) for token in row[n:]], device=device)
    # Each token is predicted at the place before it; what was read predicts a row's first.
    before, places = 0, []
    for row, n in zip(rows, known, strict=True):
        places += [before + place - 1 if place else -1 for place in range(n, len(row))]
        before += len(row) - 1
    at = torch.tensor(places, device=device)
    first = at < 0
    found = torch.empty(len(tokens), device=device)
    after = _logits(read.last, vocabulary).log_softmax(1)
    found[first] = after[0, tokens[first]]
    if total is not None:
        total += int(first.sum()) * after[0].exp()
    longer = [n for n in lengths if n]
    if longer:
        ids = torch.tensor([token for row in inner for token in row], device=device)
        hidden = language.hidden(read, language.vectors(ids), longer)[at[~first]]
        found[~first] = _log_likelihoods(hidden, vocabulary, tokens[~first], total)
    return found


def means(values: Tensor, lengths: Sequence[int]) -> Tensor:
    """Means over rows of these lengths, end to end, [T] -> [n]."""
    sizes = torch.tensor(lengths, device=values.device)
    of_row = torch.repeat_interleave(torch.arange(len(lengths), device=values.device), sizes)
    return means_by(values, of_row, len(lengths))


def means_by(values: Tensor, group: Tensor, n: int) -> Tensor:
    """Means of values [T] in each of n groups, [n]; nan for a group without any."""
    sums, sizes = (values.new_zeros(n).index_add(0, group, each) for each in (values, torch.ones_like(values)))
    return sums / sizes


def _log_likelihoods(hidden: Tensor, vocabulary: Tensor, tokens: Tensor, total: Tensor | None = None) -> Tensor:
    """Log-likelihood of each token after its hidden state, [T, H], [V, H], [T] -> [T] float32; for total see above."""
    step = max(1, _LOGITS // len(vocabulary))
    parts = []
    for states, following in zip(hidden.split(step), tokens.split(step), strict=True):
        logits = _logits(states, vocabulary)
        parts.append(-F.cross_entropy(logits, following, reduction="none"))
        if total is not None:
            total += logits.softmax(1).sum(0)
    return torch.cat(parts) if parts else hidden.new_empty(0, dtype=torch.float32)


def _logits(hidden: Tensor, vocabulary: Tensor) -> Tensor:
    """In float32, whatever the model's own: those of bfloat16 have eight bits, and titles differ in less."""
    with torch.autocast(hidden.device.type, enabled=False):
        return F.linear(hidden.float(), vocabulary.float())
