"""Networks that read a row of tokens and predict the tokens of an item: an encoder-decoder, and a causal decoder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from recsys_lt.errors import UserError
from recsys_lt.generative.causal_writer import Cache, Pair
from recsys_lt.generative.packed_t5 import Layout, Memory, PackedStack
from recsys_lt.generative.t5_writer import Encoded, T5Writer
from recsys_lt.generative.templates import WHOLE_WORDS, Read
from recsys_lt.llm.pretrained import needed

_ANSWER = 1 << 20  # sets the places of an answer's tokens apart from those of what is read


@dataclass(frozen=True)
class Sizes:
    """Sizes of a T5-like network.

    Parameters
    ----------
    width, inner
        Of states, d, and of the feed-forward's hidden layer.
    heads
        Of attention; they must divide ``width``.
    blocks
        Of the encoder and of the decoder, each.
    dropout
        Probability, of embeddings, attention weights, hidden layers and the output of each layer.
    """

    width: PositiveInt = 128
    inner: PositiveInt = 512
    heads: PositiveInt = 4
    blocks: PositiveInt = 4
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    def __post_init__(self) -> None:
        if self.width % self.heads:
            what = f"width {self.width} is not a multiple of {self.heads} heads"
            raise UserError(what, where="model.sizes", remedy="Change width or heads")

    def config(self, n_tokens: int) -> Any:
        """The configuration of ``transformers`` for so many tokens."""
        return needed("transformers").T5Config(
            vocab_size=n_tokens,
            d_model=self.width,
            d_kv=self.width // self.heads,
            d_ff=self.inner,
            num_layers=self.blocks,
            num_decoder_layers=self.blocks,
            num_heads=self.heads,
            dropout_rate=0.0,  # ours is keyed by row
            pad_token_id=None,
            eos_token_id=None,
            decoder_start_token_id=n_tokens - 1,
        )


class Tables(nn.Module):
    """Input vectors of tokens: their own, and that of the whole word they belong to.

    Parameters
    ----------
    shared
        The tokens' vectors, an ``nn.Embedding`` of V rows.
    n_prompts
        Vectors that are tokens to be read alone, numbered from V on.
    whole_words
        Whether tokens have vectors of whole words.
    """

    def __init__(self, shared: nn.Embedding, n_prompts: int, whole_words: bool) -> None:
        super().__init__()
        width = shared.embedding_dim
        self.shared = shared
        # Bounds of lileipisces/POD.
        self.prompts = nn.Parameter(torch.empty(n_prompts, width).uniform_(-0.1, 0.1)) if n_prompts else None
        self.whole_words = nn.Embedding(WHOLE_WORDS + 1, width) if whole_words else None

    def forward(self, reads: Sequence[Read], layout: Layout) -> Tensor:
        """Vectors of the rows' tokens as they stand in a layout, [T, d]."""
        tokens = torch.tensor([token for read in reads for token in read.tokens], device=layout.places.device)
        tokens = tokens[layout.places]
        weight = self.shared.weight if self.prompts is None else torch.cat([self.shared.weight, self.prompts])
        found = F.embedding(tokens, weight)
        if self.whole_words is None:
            return found
        numbers = torch.tensor([number for read in reads for number in read.whole_words], device=tokens.device)
        return found + self.whole_words(numbers[layout.places]) * (tokens < len(self.shared.weight)).unsqueeze(1)


class EncoderDecoder(nn.Module):
    """T5 of ``transformers``: the encoder reads a row, the decoder predicts the tokens of the answer.

    Parameters
    ----------
    sizes
        Of the network.
    n_codes, words
        Tokens that items are made of, numbered from 0, and words, numbered after them. The decoder predicts the former.
    n_prompts, whole_words
        See ``Tables``.
    weights
        Folder of a pretrained T5, of whose ``sizes`` dropout alone is read then; None for random weights. A word begins
        as the mean of its pieces' vectors.
    """

    def __init__(
        self,
        sizes: Sizes,
        n_codes: int,
        words: Sequence[str],
        n_prompts: int = 0,
        whole_words: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.n_codes, self.start = n_codes, n_codes + len(words)
        if weights is None:
            self.t5 = needed("transformers").T5ForConditionalGeneration(sizes.config(self.start + 1))
        else:
            self.t5 = _pretrained(weights, n_codes, words)
        self.tables = Tables(self.t5.shared, n_prompts, whole_words)
        self._encoder = PackedStack(self.t5.encoder, sizes.dropout, 0, causal=False)
        self._decoder = PackedStack(self.t5.decoder, sizes.dropout, 1, causal=True)
        self._writer: T5Writer | None = None
        #: Tokens read since it was made; in training, forward passes alone count.
        self.tokens_read = 0

    def losses(self, reads: Sequence[Read], answers: Tensor, streams: Tensor, shift: Tensor | float = 0.0) -> Tensor:
        """Mean cross-entropy of the tokens of each row's answer, [B].

        ``answers`` [B, D] have -1 after their last token; ``streams`` [B] are the rows' random streams. ``shift`` is
        added to the logits of the answers' tokens, row after row, [T, n_codes].
        """
        found = self.log_probabilities(reads, answers.unsqueeze(1), streams, shift)
        return -found.squeeze(1) / (answers >= 0).sum(1)

    def log_probabilities(
        self, reads: Sequence[Read], answers: Tensor, streams: Tensor, shift: Tensor | float = 0.0
    ) -> Tensor:
        """Log-probability of each of M answers to each row, sums over their tokens, [B, M]; a row is encoded once.

        ``answers`` [B, M, D] have -1 after their last token. For ``streams`` and ``shift`` see ``losses``.
        """
        memory = self._encoded(reads, streams)
        n, m, depth = answers.shape
        order = memory.layout.order
        asked, layout = answers[order].flatten(0, 1), Layout.rectangle(n * m, depth, answers.device)
        self.tokens_read += n * m * depth
        before = F.pad(asked[:, :-1].clamp(min=0), (1, 0), value=self.start)
        keys = None
        if self.training:
            branch = _ANSWER * torch.arange(1, m + 1, device=answers.device)
            keys = layout.streams((streams[order].unsqueeze(1) + branch).flatten())
        states = self._decoder(self.t5.shared(before.flatten()), layout, keys, memory)
        real = asked.flatten() >= 0
        place = (order.unsqueeze(1) * m + torch.arange(m, device=answers.device)).flatten()
        of_answer = place.repeat_interleave(depth)[real]
        # The tokens in the rows' own order.
        back = of_answer.argsort(stable=True)
        of_answer = of_answer[back]
        logits = self._logits(states[real][back]) + shift
        each = F.cross_entropy(logits, answers[answers >= 0], reduction="none")
        return -each.new_zeros(n * m).index_add(0, of_answer, each).view(n, m)

    def read(self, reads: Sequence[Read]) -> Encoded:
        """What rows are encoded to, which ``begin`` takes."""
        memory = self._encoded(reads, None)
        self._writer = T5Writer(self.t5)
        return Encoded(memory.layout.rectangle_of(memory.states), memory.layout.real())

    def begin(self, encoded: Encoded, beams: int, depth: int) -> Any:
        """See ``decoding.Writer``."""
        assert self._writer is not None, "read comes first"
        return self._writer.begin(encoded, beams, depth)

    def step(self, cache: Any, tokens: Tensor | None, parents: Tensor | None) -> Tensor:
        """See ``decoding.Writer``: logits of the tokens that items are made of."""
        assert self._writer is not None, "read comes first"
        return self._writer.step(cache, tokens, parents)[..., : self.n_codes]

    def _encoded(self, reads: Sequence[Read], streams: Tensor | None) -> Memory:
        layout = Layout.of([len(read.tokens) for read in reads], self.t5.shared.weight.device)
        self.tokens_read += sum(len(read.tokens) for read in reads)
        keys = layout.streams(streams) if streams is not None and self.training else None
        return Memory(self._encoder(self.tables(reads, layout), layout, keys), layout)

    def _logits(self, states: Tensor) -> Tensor:
        return _logits(self.t5, states, self.n_codes)


def _pretrained(folder: str, n_codes: int, words: Sequence[str]) -> Any:
    """The T5 of a folder with other tokens: codes, words and the one that begins an answer."""
    transformers = needed("transformers")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        t5 = transformers.T5ForConditionalGeneration.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError, ImportError, needed("safetensors").SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        remedy = "Name a folder with a T5 model of transformers (safetensors) and its tokenizer"
        raise UserError(
            f"no T5 model can be read from it ({reason})", where=f"model.weights={folder}", remedy=remedy
        ) from error
    old, start = t5.shared.weight.detach(), n_codes + len(words)
    shared = nn.Embedding(start + 1, old.shape[1])
    pieces = tokenizer(list(words), add_special_tokens=False)["input_ids"] if words else []
    with torch.no_grad():
        shared.weight.mul_(old.std())
        for number, own in enumerate(pieces, start=n_codes):
            if own:
                shared.weight[number] = old[own].mean(0)
        shared.weight[start] = old[t5.config.decoder_start_token_id]
    t5.set_input_embeddings(shared)
    t5.lm_head = nn.Linear(old.shape[1], start + 1, bias=False)
    t5.lm_head.weight = shared.weight
    t5.config.update({"vocab_size": start + 1, "decoder_start_token_id": start, "scale_decoder_outputs": True})
    return t5


class Histories(NamedTuple):
    """Histories that a causal stack has read: states of their tokens [T, d], and keys and values in every block."""

    states: Tensor
    layout: Layout
    pairs: list[Pair]


class CausalDecoder(nn.Module):
    """One stack of T5's blocks that reads the tokens of a history and predicts each of them from those before.

    Parameters
    ----------
    sizes
        Of the network; it has as many blocks as an encoder and a decoder of these sizes together.
    n_codes
        Tokens that items are made of, numbered from 0.
    """

    def __init__(self, sizes: Sizes, n_codes: int) -> None:
        super().__init__()
        self.n_codes, self.start = n_codes, n_codes
        config = replace(sizes, blocks=2 * sizes.blocks).config(n_codes + 1)
        self.t5 = needed("transformers").T5EncoderModel(config)
        self._stack = PackedStack(self.t5.encoder, sizes.dropout, 0, causal=True)
        #: Tokens read since it was made; in training, forward passes alone count.
        self.tokens_read = 0

    def losses(self, rows: Sequence[Sequence[Sequence[int]]], streams: Tensor, shift: Tensor | float = 0.0) -> Tensor:
        """Mean cross-entropy of the tokens of each item of each row but the row's first, row after row, [N].

        ``rows`` are the tokens of each row's items, two items at least; ``streams`` [B] are the rows' random streams.
        ``shift`` is added to the logits of the predicted tokens, [T, n_codes].
        """
        tokens = [[token for item in row for token in item] for row in rows]
        states, layout, _ = self._read([own[:-1] for own in tokens], streams)  # the last one is predicted, never read
        asked = [token for row, own in zip(rows, tokens, strict=True) for token in own[len(row[0]) :]]
        device = streams.device
        firsts = torch.tensor([len(row[0]) for row in rows], device=device)
        counts = layout.lengths + 1 - firsts  # predicted tokens of each row, at its last places
        starts = (layout.ends + 1 - (counts.cumsum(0))).repeat_interleave(counts)
        answers = torch.tensor(asked, device=device)
        places = starts + torch.arange(len(asked), device=device)
        each = F.cross_entropy(self._logits(states[places]) + shift, answers, reduction="none")
        sizes = torch.tensor([len(item) for row in rows for item in row[1:]], device=device)
        of_item = torch.arange(len(sizes), device=device).repeat_interleave(sizes)
        return each.new_zeros(len(sizes)).index_add(0, of_item, each) / sizes

    def read(self, reads: Sequence[Read]) -> Histories:
        """What histories are read to, which ``begin`` takes."""
        return self._read([read.tokens for read in reads], None)

    def begin(self, encoded: Histories, beams: int, depth: int) -> Cache:
        """See ``decoding.Writer``."""
        return Cache.of(self._stack, encoded.states, encoded.layout, encoded.pairs, depth)

    def step(self, cache: Cache, tokens: Tensor | None, parents: Tensor | None) -> Tensor:
        """See ``decoding.Writer``: the first token is predicted where the history ends."""
        if tokens is None or parents is None:
            return self._logits(cache.last).unsqueeze(1)
        return self._logits(cache.step(self.t5.shared(tokens), parents))

    def _read(self, rows: Sequence[list[int]], streams: Tensor | None) -> Histories:
        device = self.t5.shared.weight.device
        layout = Layout.of([len(row) for row in rows], device)
        self.tokens_read += sum(map(len, rows))
        tokens = torch.tensor([token for row in rows for token in row], device=device)[layout.places]
        keys = layout.streams(streams) if streams is not None and self.training else None
        pairs: list[Pair] = []
        return Histories(self._stack(self.t5.shared(tokens), layout, keys, pairs=pairs), layout, pairs)

    def _logits(self, states: Tensor) -> Tensor:
        return _logits(self.t5, states, self.n_codes)


def _logits(t5: Any, states: Tensor, n: int) -> Tensor:
    """Logits of the first n tokens, [..., d] -> [..., n] float32."""
    # Weights that are input vectors too are scaled, as in T5.
    return F.linear(states * t5.config.d_model**-0.5, t5.shared.weight[:n]).float()
