"""Losses of answers in words, after prompts that share an opening."""

from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lt.data.streams import keys_of
from recsys_lt.llm.language_model import LanguageModel


def mean_answer_losses(
    language: LanguageModel,
    opening: Tensor,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    keys: Tensor,
    key: int,
) -> Tensor:
    """Mean cross-entropy of each answer's tokens, its end included; the prompt's tokens cost nothing.

    Parameters
    ----------
    language
        The language model.
    opening
        Tokens that all prompts begin with, [P].
    prompts
        What follows it in each row.
    answers
        Each row's answer, without the token that ends it.
    keys
        The random stream of each row, [B] int64.
    key
        The random stream of the opening.

    Returns
    -------
    Tensor
        [B], differentiable.
    """
    device = language.vocabulary.device
    ended = [[*answer, language.end] for answer in answers]
    # The last token is predicted, and never read.
    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    lengths = [len(row) for row in rows]
    ids = torch.tensor([token for row in rows for token in row], device=device)
    sizes = torch.tensor(lengths, device=device)
    place = torch.arange(len(ids), device=device) - torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    streams = keys_of(0, torch.repeat_interleave(keys, sizes) + place)
    hidden = language.hidden(language.vectors(opening), language.vectors(ids), lengths, streams, key)
    answered = [len(answer) for answer in ended]
    # Each token of an answer is predicted at the place before it: the last places of its row.
    at = [stop - n + step for stop, n in zip(accumulate(lengths), answered, strict=True) for step in range(n)]
    logits = F.linear(hidden[torch.tensor(at, device=device)], language.vocabulary).float()
    each = F.cross_entropy(logits, torch.tensor([t for row in ended for t in row], device=device), reduction="none")
    of_row = torch.repeat_interleave(torch.arange(len(rows), device=device), torch.tensor(answered, device=device))
    sums = each.new_zeros(len(rows)).index_add(0, of_row, each)
    return sums / torch.tensor(answered, device=device)
