"""A language model that reads packed sequences: the rows of a batch end to end, after one prompt they share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recsys_lt.errors import UserError
from recsys_lt.llm.lora import Lora, TokenStreams
from recsys_lt.llm.packages import needed
from recsys_lt.llm.weights import Weights
from recsys_lt.streams import keys_of

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_PROMPT = 7  # sets the streams of the shared prompt apart


class LLM:
    """The choice ``llm``: which language model, held how, adapted how.

    Parameters
    ----------
    weights
        Where it comes from.
    lora
        What is trained of it; None for nothing.
    dtype
        Of its frozen weights: float32, bfloat16 or float16.
    quantize
        ``4bit`` (nf4, doubly quantised) or ``8bit`` by bitsandbytes, on a CUDA device; None for neither.
    gradient_checkpointing
        Compute a pack's activations again for its backward pass instead of keeping them: about a third slower, and
        memory for one pack whatever the batch.
    pack_tokens
        Tokens read at a time, at the most (a longer row is read alone).

    Raises
    ------
    UserError
        For a word that is no choice or a number out of range.
    """

    def __init__(
        self,
        weights: Weights,
        lora: Lora | None,
        dtype: str = "float32",
        quantize: str | None = None,
        gradient_checkpointing: bool = False,
        pack_tokens: int = 1024,
    ) -> None:
        if dtype not in _DTYPES:
            raise UserError(f"it is {dtype!r}", where="llm.dtype", remedy=f"Choose from {', '.join(_DTYPES)}")
        if quantize not in (None, "4bit", "8bit"):
            raise UserError(f"it is {quantize!r}", where="llm.quantize", remedy="Choose from 4bit, 8bit, null")
        if pack_tokens < 1:
            raise UserError(
                f"it is {pack_tokens}", where="llm.pack_tokens", remedy="Give a positive number, such as 1024"
            )
        self.weights, self.lora, self.dtype, self.quantize = weights, lora, _DTYPES[dtype], quantize
        self.gradient_checkpointing, self.pack_tokens = gradient_checkpointing, pack_tokens

    def load(self) -> "LanguageModel":
        """Read the model and adapt it.

        Raises
        ------
        UserError
            If it cannot be had, a package is missing, or it cannot be quantised here.
        """
        options: dict[str, Any] = {"dtype": self.dtype}
        if self.quantize is not None:
            if not torch.cuda.is_available():
                raise UserError(
                    "weights are quantised on a CUDA device, and there is none",
                    where=f"llm.quantize={self.quantize}",
                    remedy="Leave it null, or run where there is a GPU",
                )
            needed("bitsandbytes", "llm-gpu")
            bits: dict[str, Any] = {"load_in_8bit": True}
            if self.quantize == "4bit":
                bits = {
                    "load_in_4bit": True,
                    "bnb_4bit_quant_type": "nf4",
                    "bnb_4bit_use_double_quant": True,
                    "bnb_4bit_compute_dtype": torch.bfloat16,
                }
            options["quantization_config"] = needed("transformers").BitsAndBytesConfig(**bits)
        tokenizer, causal = self.weights.load(options)
        return LanguageModel(tokenizer, causal, self.lora, self.pack_tokens, self.gradient_checkpointing)


class LanguageModel(nn.Module):
    """A frozen causal language model with adapters.

    What it was loaded with is not part of its ``state_dict``: a checkpoint holds the adapters alone.

    Parameters
    ----------
    tokenizer, causal
        Of ``transformers``.
    lora
        What is trained; None for nothing.
    pack_tokens, checkpointed
        See ``LLM``.
    """

    def __init__(self, tokenizer: Any, causal: Any, lora: Lora | None, pack_tokens: int, checkpointed: bool) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self._streams = TokenStreams()
        self._pack_tokens, self._checkpointed = pack_tokens, checkpointed
        causal.requires_grad_(False)
        _without_dropout(causal)
        causal.config.use_cache = False
        self._adapted = lora is not None
        self.causal = causal if lora is None else lora.on(causal, self._streams)
        self.width = int(causal.config.hidden_size)
        self.context = _context(causal.config)
        #: Tokens read since it was loaded, prompts included; in training, forward passes alone count.
        self.tokens_read = 0
        self.register_state_dict_post_hook(_without_frozen)
        self.register_load_state_dict_post_hook(_not_missed)
        self._check_reading()

    @property
    def _inner(self) -> Any:
        """The causal model itself, whose linear layers the adapters have replaced in place."""
        return self.causal.get_base_model() if self._adapted else self.causal

    @property
    def vocabulary(self) -> Tensor:
        """Output vectors of the tokens, [V, H]."""
        weight: Tensor = self._inner.get_output_embeddings().weight
        return weight

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return int(self.tokenizer.eos_token_id)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, nothing added."""
        if not texts:
            return []
        found: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return found

    def opening(self, text: str) -> Tensor:
        """The tokens of a prompt's beginning, after what the tokenizer begins every text with: [P]."""
        found: list[int] = self.tokenizer(text)["input_ids"]
        if found and found[-1] == self.end:  # some end every text too; this one goes on
            found = found[:-1]
        return torch.tensor(found, dtype=torch.int64, device=self.vocabulary.device)

    def vectors(self, ids: Tensor) -> Tensor:
        """Input vectors of tokens, [T] -> [T, H]."""
        embedded: Tensor = self._inner.get_input_embeddings()(ids)
        return embedded

    @contextmanager
    def untuned(self) -> Iterator[None]:
        """As it was loaded, while the block runs."""
        if not self._adapted:
            yield
            return
        with self.causal.disable_adapter():
            yield

    def check_length(self, longest: int, what: str) -> None:
        """Raise UserError if a row of so many tokens, its prompt included, is longer than the model reads."""
        if longest > self.context:
            raise UserError(
                f"a row may have {longest:,} tokens, and the language model reads {self.context:,}",
                where=what,
                remedy="Lower model.max_length, or choose another llm",
            )

    def hidden(
        self, prompt: Tensor, rows: Tensor, lengths: Sequence[int], keys: Tensor | None = None, key: int = 0
    ) -> Tensor:
        """Last hidden states of the tokens of rows that all begin with the same prompt.

        Rows are read side by side in packs of about ``pack_tokens``, without padding: a token sees the prompt and
        what is before it in its own row. The prompt is read once a pack; once in all where no gradient is wanted.

        Parameters
        ----------
        prompt
            Input vectors of the prompt, [P, H].
        rows
            Input vectors of the rows, end to end, [T, H].
        lengths
            Of the rows; they sum to T.
        keys
            The random stream of each token of the rows, [T] int64; None where nothing is dropped out.
        key
            The random stream of the prompt.

        Returns
        -------
        Tensor
            [T, H].
        """
        keys = keys if self.training else None
        of_prompt = None
        if keys is not None:
            of_prompt = keys_of(key, torch.arange(len(prompt), device=rows.device) + (_PROMPT << 32))
        # Training mode has masks for the prompt, gradients or not.
        kept = keys is None and not torch.is_grad_enabled() and len(prompt) > 0
        cache = self._read(prompt) if kept else None
        states = []
        start = 0
        for pack in _packs(lengths, len(prompt), self._pack_tokens):
            stop = start + sum(pack)
            self.tokens_read += stop - start + (0 if kept else len(prompt))
            own = None if keys is None else keys[start:stop]
            if cache is not None:
                # A copy, because a pack adds its own keys and values; cutting them off again changes with versions.
                states.append(self._pack(prompt[:0], rows[start:stop], pack, None, deepcopy(cache), len(prompt)))
            else:
                streams = None if own is None or of_prompt is None else torch.cat([of_prompt, own])
                if self._checkpointed and torch.is_grad_enabled():
                    given = (prompt, rows[start:stop], pack, streams, None, 0)
                    states.append(checkpoint(self._pack, *given, use_reentrant=False))  # type: ignore[arg-type]
                else:
                    states.append(self._pack(prompt, rows[start:stop], pack, streams, None, 0))
            start = stop
        return torch.cat(states) if states else rows

    def plain_hidden(self, prompt: Tensor, rows: Tensor, lengths: Sequence[int]) -> Tensor:
        """``hidden`` row by row, as anybody would read them: what packs are held equal to."""
        states = []
        for row in rows.split(list(lengths)):
            found = self._inner.base_model(inputs_embeds=torch.cat([prompt, row]).unsqueeze(0), use_cache=False)
            states.append(found.last_hidden_state[0, len(prompt) :])
        return torch.cat(states)

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
            raise UserError(
                f"{type(self._inner).__name__} reads itself in another way than here (by its attention or its head)",
                where="llm",
                remedy="Choose a plain decoder, such as of the Llama, Qwen, Phi or GPT families",
            )

    def _read(self, prompt: Tensor) -> Any:
        """Keys and values of a prompt, for all rows that begin with it."""
        cache = needed("transformers").DynamicCache()
        self._inner.base_model(inputs_embeds=prompt.unsqueeze(0), past_key_values=cache, use_cache=True)
        self.tokens_read += len(prompt)
        return cache

    def _pack(
        self, prompt: Tensor, rows: Tensor, lengths: Sequence[int], streams: Tensor | None, cache: Any, past: int
    ) -> Tensor:
        n_prompt, device = len(prompt), rows.device
        sizes = torch.tensor(lengths, device=device)
        # The prompt is row -1: every row sees it.
        row = torch.cat(
            [
                torch.full((past + n_prompt,), -1, device=device),
                torch.arange(len(lengths), device=device).repeat_interleave(sizes),
            ]
        )
        first = torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
        place = torch.arange(len(rows), device=device) - first + past + n_prompt
        position = torch.cat([torch.arange(past, past + n_prompt, device=device), place])
        asks = row[past:].unsqueeze(1)
        order = torch.arange(len(row), device=device)
        sees = ((row == asks) | (row == -1)) & (order <= order[past:].unsqueeze(1))
        self._streams.keys = streams
        try:
            found = self._inner.base_model(
                inputs_embeds=torch.cat([prompt, rows]).unsqueeze(0),
                attention_mask=sees[None, None],
                position_ids=position.unsqueeze(0),
                past_key_values=cache,
                use_cache=cache is not None,
            )
        finally:  # a checkpoint's second pass is left by an exception
            self._streams.keys = None
        states: Tensor = found.last_hidden_state[0, n_prompt:]
        return states


def _packs(lengths: Sequence[int], prompt: int, most: int) -> Iterator[list[int]]:
    """Rows in their order, as many together as ``most`` tokens hold."""
    pack: list[int] = []
    for length in lengths:
        if pack and prompt + sum(pack) + length > most:
            yield pack
            pack = []
        pack.append(length)
    if pack:
        yield pack


def _without_dropout(causal: Any) -> None:
    """Its own dropout draws from a state, so that asking again would give another answer; the adapters' is keyed."""
    for module in [causal.config, *causal.modules()]:
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and ("dropout" in name or name.endswith("_pdrop")):
                setattr(module, name, 0.0)


def _context(config: Any) -> int:
    """How many tokens it reads as they are read here: all of them seen by the last."""
    longest = int(getattr(config, "max_position_embeddings", 1 << 30))
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    return longest if window is None else min(longest, int(window))


def _trained(module: nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.requires_grad}


def _without_frozen(module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    kept = {prefix + name for name in _trained(module)}
    for name in [name for name in state if name.startswith(prefix) and name not in kept]:
        del state[name]


def _not_missed(module: nn.Module, incompatible: Any) -> None:
    """What was loaded from elsewhere is not missing from a checkpoint."""
    kept = tuple(_trained(module))
    # Tied weights have two names.
    ours = {name for name, _ in [*module.named_parameters(remove_duplicate=False), *module.named_buffers()]}
    incompatible.missing_keys[:] = [
        name
        for name in incompatible.missing_keys
        if (kept and name.endswith(kept)) or not any(name.endswith(f".{own}") or name == own for own in ours)
    ]
