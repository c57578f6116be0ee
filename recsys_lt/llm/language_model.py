"""A language model that reads packed sequences: the rows of a batch end to end, after one prompt they share."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from inspect import signature
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recsys_lt.data.streams import keys_of
from recsys_lt.errors import UserError
from recsys_lt.llm.fused import fuse
from recsys_lt.llm.lora import Lora, keep_trained_alone, silence
from recsys_lt.llm.packed_attention import Blocks, Pass, attend_in_blocks, packs, who_sees_whom
from recsys_lt.llm.pretrained import needed

#: What texts are read after, one of them, by tokenizers that put a space before all they read.
_BEFORE = ("\n", "x", ".")
_PROMPT = 7  # sets the streams of the shared prompt apart


class Read(NamedTuple):
    """Tokens that were read and are remembered, for all that goes on from them."""

    cache: Any  # their keys and values
    last: Tensor  # the last one's hidden state, [1, H]


class LanguageModel(nn.Module):
    """A frozen causal language model with adapters.

    What it was loaded with is not part of its ``state_dict``: a checkpoint holds the adapters alone.

    Tokenizer and model are those of ``transformers``; for the other arguments see ``LLM``.
    """

    def __init__(self, tokenizer: Any, causal: Any, lora: Lora | None, pack_tokens: int, checkpointed: bool) -> None:
        super().__init__()
        if tokenizer.eos_token_id is None:
            remedy = "Name a causal language model with an eos_token"
            raise UserError("its tokenizer has no token that ends a text", where="llm.weights", remedy=remedy)
        self.tokenizer = tokenizer
        # SentencePiece's, of Llama 2 and its kin, read "A" as " A" where a text begins, and "A" in the middle.
        self._spaces = self._tokens(["A"])[0] != self._tokens(["x\nA"])[0][-1:]
        self._pass = Pass()
        self._pack_tokens, self._checkpointed = pack_tokens, checkpointed
        causal.requires_grad_(False)
        silence(causal)
        causal.config.use_cache = False
        self._in_blocks = attend_in_blocks(causal, self._pass)
        fuse(causal)
        self._adapted = lora is not None
        #: Name of the argument with keys and values of what was read: newer versions of transformers have another.
        names = signature(causal.base_model.forward).parameters
        self.cache_argument = "cache" if "cache" in names else "past_key_values"
        self.causal = causal if lora is None else lora.on(causal, self._pass)
        self.width = int(causal.config.hidden_size)
        self.context = _context(causal.config)
        #: Tokens read since it was loaded, prompts included; in training, forward passes alone count.
        self.tokens_read = 0
        keep_trained_alone(self)
        if not self.vocabulary.is_meta:
            self._check_reading()

    @property
    def _inner(self) -> Any:
        """The causal model itself, whose linear layers the adapters have replaced in place."""
        return self.causal.get_base_model() if self._adapted else self.causal

    @property
    def vocabulary(self) -> Tensor:
        """Output vectors of the tokens, [V, H]."""
        return self._inner.get_output_embeddings().weight

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return int(self.tokenizer.eos_token_id)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text where it goes on from another, nothing added.

        A vocabulary may have tokens for what meets at a seam (a colon and a line's end); texts that are read apart have
        the tokens of each, in training and ranking alike.
        """
        found = self._tokens(texts)
        if not self._spaces:
            return found
        missing = list(range(len(texts)))
        for before in _BEFORE:
            (alone,) = self._tokens([before])
            both = self._tokens([before + texts[at] for at in missing])
            for at, read in zip(missing, both, strict=True):
                if read[: len(alone)] == alone:
                    found[at] = read[len(alone) :]
            apart = [read[: len(alone)] != alone for read in both]  # it has tokens for both together
            missing = [at for at, more in zip(missing, apart, strict=True) if more]
        return found

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        return self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]

    def opening(self, text: str) -> Tensor:
        """The tokens of a prompt's beginning, after what the tokenizer begins every text with: [P]."""
        found: list[int] = self.tokenizer(text)["input_ids"]
        if found and found[-1] == self.end:  # some end every text too; this one goes on
            found = found[:-1]
        return torch.tensor(found, dtype=torch.int64, device=self.vocabulary.device)

    def vectors(self, ids: Tensor) -> Tensor:
        """Input vectors of tokens, [T] -> [T, H]."""
        return self._inner.get_input_embeddings()(ids)

    def untuned(self) -> AbstractContextManager[None]:
        """As it was loaded, while the block runs."""
        return self.causal.disable_adapter() if self._adapted else nullcontext()

    def check_length(self, longest: int, what: str) -> None:
        """Raise UserError if a row of so many tokens, its prompt included, is longer than the model reads."""
        if longest > self.context:
            wrong = f"a row may have {longest:,} tokens, and the language model reads {self.context:,}"
            raise UserError(wrong, where=what, remedy="Lower model.max_length, or choose another llm")

    @torch.no_grad()
    def read(self, tokens: Tensor, after: Read | None = None) -> Read:
        """Read tokens (input vectors [P, H], at least one) that go on from ``after``, and remember them."""
        cache = _going_on(after)
        found = self._inner.base_model(
            inputs_embeds=tokens.unsqueeze(0), use_cache=True, **{self.cache_argument: cache}
        )
        self.tokens_read += len(tokens)
        return Read(cache, found.last_hidden_state[0, -1:])

    @torch.no_grad()
    def read_rows(self, ids: Tensor, mask: Tensor, after: Read | None) -> Any:
        """Read rows side by side, what they all begin with once, and remember them: keys and values of B rows.

        Tokens ``ids`` [B, T] are from the beginning; ``mask`` [B, T] is 0 where there is a gap, which no token sees;
        ``after`` is what all rows begin with, as it was read. ``tokens_read`` is the caller's to count.
        """
        cache = _going_on(after)
        past = cache.get_seq_length()
        if past:
            cache.batch_repeat_interleave(len(ids))
        if ids.shape[1] > past:
            places = (mask.cumsum(1) - 1).clamp(min=0)
            self._inner.base_model(
                input_ids=ids[:, past:],
                attention_mask=mask,
                position_ids=places[:, past:],
                use_cache=True,
                **{self.cache_argument: cache},
            )
        return cache

    def hidden(
        self, prompt: Tensor | Read, rows: Tensor, lengths: Sequence[int], keys: Tensor | None = None, key: int = 0
    ) -> Tensor:
        """Last hidden states of the tokens of rows that all begin with the same prompt, [T, H].

        Rows are read side by side in packs of about ``pack_tokens``, without padding: a token sees the prompt and
        what is before it in its own row. The prompt is read once a pack; once in all where no gradient is wanted, and
        not at all where it was read before.

        Parameters
        ----------
        prompt
            Input vectors of the prompt, [P, H]; or the prompt as it was read.
        rows, lengths
            Input vectors of the rows, end to end, [T, H], and the rows' lengths.
        keys, key
            The random stream of each token of the rows, [T] int64 (None: nothing is dropped out), and of the prompt.
        """
        keys = keys if self.training else None
        # Training mode has masks for the prompt, gradients or not.
        if isinstance(prompt, Tensor) and keys is None and not torch.is_grad_enabled() and len(prompt):
            prompt = self.read(prompt)
        if isinstance(prompt, Read):
            before, past, prompt = prompt, prompt.cache.get_seq_length(), rows[:0]
        else:
            before, past = None, 0
        of_prompt = None
        if keys is not None and before is None:
            of_prompt = keys_of(key, torch.arange(len(prompt), device=rows.device) + (_PROMPT << 32))
        states = []
        start = 0
        for pack in packs(lengths, past + len(prompt), self._pack_tokens):
            stop = start + sum(pack)
            self.tokens_read += stop - start + len(prompt)
            streams = None if keys is None or of_prompt is None else torch.cat([of_prompt, keys[start:stop]])
            cache = None if before is None else _going_on(before)
            given: Any = (prompt, rows[start:stop], pack, streams, cache, past)
            if before is None and self._checkpointed and torch.is_grad_enabled():
                states.append(checkpoint(self._pack, *given, use_reentrant=False))
            else:
                states.append(self._pack(*given))
            start = stop
        return torch.cat(states) if states else rows

    def states_after(self, opening: Tensor, rows: Sequence[Sequence[int]]) -> Tensor:
        """Hidden state of the last token of each row, read after an opening they share, [P] int64: [n, H]."""
        ids = torch.tensor([token for row in rows for token in row], device=opening.device)
        lengths = [len(row) for row in rows]
        last = torch.tensor(lengths, device=opening.device).cumsum(0) - 1
        return self.hidden(self.vectors(opening), self.vectors(ids), lengths)[last]

    def answer_losses(
        self,
        opening: Tensor,
        prompts: Sequence[Sequence[int]],
        answers: Sequence[Sequence[int]],
        keys: Tensor,
        key: int,
    ) -> Tensor:
        """Mean cross-entropy of each answer's tokens, its end included, [B]; the prompt's tokens cost nothing.

        Parameters
        ----------
        opening
            The tokens that all prompts begin with, [P].
        prompts, answers
            What follows it in each row, and the row's answer without the token that ends it.
        keys, key
            The random stream of each row, [B] int64, and that of the opening.
        """
        device = self.vocabulary.device
        ended = [[*answer, self.end] for answer in answers]
        # The last token is predicted, and never read.
        rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
        lengths = [len(row) for row in rows]
        ids = torch.tensor([token for row in rows for token in row], device=device)
        sizes = torch.tensor(lengths, device=device)
        place = torch.arange(len(ids), device=device) - torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
        streams = keys_of(0, torch.repeat_interleave(keys, sizes) + place)
        hidden = self.hidden(self.vectors(opening), self.vectors(ids), lengths, streams, key)
        # Each token of an answer is predicted at the place before it: the last places of its row.
        answered = torch.tensor([len(answer) for answer in ended], device=device)
        at = (place >= torch.repeat_interleave(sizes - answered, sizes)).nonzero().squeeze(1)
        logits = F.linear(hidden[at], self.vocabulary).float()
        each = F.cross_entropy(logits, torch.tensor([t for row in ended for t in row], device=device), reduction="none")
        of_row = torch.repeat_interleave(torch.arange(len(rows), device=device), answered)
        return each.new_zeros(len(rows)).index_add(0, of_row, each) / answered

    def answers_after(
        self, prompt: Sequence[int], answers: Sequence[Sequence[int]], keys: Tensor, key: int
    ) -> tuple[Tensor, Tensor]:
        """Log-probability of each of several answers to one prompt, their ends included; the prompt is read once.

        The answers are branches that do not see each other, so the numbers are those of rows read apart.

        Parameters
        ----------
        prompt, answers
            Tokens, at least one of the prompt.
        keys, key
            The random stream of each answer, [n] int64, and that of the prompt.

        Returns
        -------
        sums, lengths
            [n] float32, and the number of tokens of each, [n] int64.
        """
        device = self.vocabulary.device
        # A branch begins with the prompt's last token, which predicts the answer's first.
        rows = [[prompt[-1], *answer] for answer in answers]
        lengths = [len(row) for row in rows]
        sizes = torch.tensor(lengths, device=device)
        ids = torch.tensor([token for row in rows for token in row], device=device)
        of_row = torch.repeat_interleave(torch.arange(len(rows), device=device), sizes)
        place = torch.arange(len(ids), device=device) - (sizes.cumsum(0) - sizes)[of_row]
        before = torch.tensor(prompt[:-1], dtype=torch.int64, device=device)
        streams = keys_of(0, keys[of_row] + place)
        hidden = self.hidden(self.vectors(before), self.vectors(ids), lengths, streams, key)
        tokens = torch.tensor([token for answer in answers for token in (*answer, self.end)], device=device)
        each = -F.cross_entropy(F.linear(hidden, self.vocabulary).float(), tokens, reduction="none")
        return each.new_zeros(len(rows)).index_add(0, of_row, each), sizes

    @torch.no_grad()
    def _check_reading(self) -> None:
        """Raise UserError for a model whose answers are more than packs and a product with its vocabulary tell."""
        was, lengths = self.training, [2, 3]
        self.eval()
        ids = torch.arange(8, device=self.vocabulary.device) % len(self.vocabulary)
        read = self.vectors(ids)
        found = F.linear(self.hidden(read[:3], read[3:], lengths), self.vocabulary)
        prompt, rows = ids[:3], ids[3:].split(lengths)
        told = [self._inner(input_ids=torch.cat([prompt, row]).unsqueeze(0)).logits[0, 3:] for row in rows]
        self.train(was)
        self.tokens_read = 0
        expected = torch.cat(told)
        if not torch.allclose(found.float(), expected.float(), atol=0.05 * float(expected.abs().max())):
            what = f"{type(self._inner).__name__} reads itself in another way than here (by its attention or its head)"
            remedy = "Choose a plain decoder, such as of the Llama, Qwen, Phi or GPT families"
            raise UserError(what, where="llm", remedy=remedy)

    def _pack(
        self, prompt: Tensor, rows: Tensor, lengths: Sequence[int], streams: Tensor | None, cache: Any, past: int
    ) -> Tensor:
        n_prompt, device = len(prompt), rows.device
        sizes = torch.tensor(lengths, device=device)
        first = torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
        place = torch.arange(len(rows), device=device) - first + past + n_prompt
        position = torch.cat([torch.arange(past, past + n_prompt, device=device), place])
        blocks = Blocks.of(lengths, past + n_prompt, device) if self._in_blocks else None
        # The blocks decide what is attended to; the model must not build its own mask.
        sees = who_sees_whom(sizes, past, n_prompt) if blocks is None else sizes.new_ones(1, 1).bool()
        self._pass.keys, self._pass.blocks = streams, blocks
        try:
            found = self._inner.base_model(
                inputs_embeds=torch.cat([prompt, rows]).unsqueeze(0),
                attention_mask=sees[None, None],
                position_ids=position.unsqueeze(0),
                use_cache=cache is not None,
                **{self.cache_argument: cache},
            )
        finally:  # a checkpoint's second pass is left by an exception
            self._pass.keys = self._pass.blocks = None
        return found.last_hidden_state[0, n_prompt:]


def _going_on(read: Read | None) -> Any:
    """A copy of the cache: reading on adds keys and values, and cutting them off again changes with versions."""
    return needed("transformers").DynamicCache() if read is None else deepcopy(read.cache)


def _context(config: Any) -> int:
    """How many tokens it reads as they are read here: all of them seen by the last."""
    longest = int(getattr(config, "max_position_embeddings", 1 << 30))
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    return longest if window is None else min(longest, int(window))
