"""The choice ``llm``: which language model, held how, adapted how."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import PositiveInt
from torch import nn

from recsys_lt.errors import UserError
from recsys_lt.llm.language_model import LanguageModel
from recsys_lt.llm.lora import Lora
from recsys_lt.llm.pretrained import Weights, needed


@dataclass(frozen=True)
class LLM:
    """A language model that is yet to be loaded."""

    weights: Weights
    lora: Lora | None  # what is trained of it; None for nothing
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of its frozen weights
    quantize: Literal["4bit", "8bit"] | None = None  # (4bit: nf4, doubly quantised) by bitsandbytes, on a CUDA device
    #: Computes a pack's activations again for its backward pass instead of keeping them: about a third slower, and
    #: memory for one pack whatever the batch.
    gradient_checkpointing: bool = False
    pack_tokens: PositiveInt = 1024  # tokens read at a time, at the most (a longer row is read alone)
    #: Random weights in place of the trained ones, the same each time: the null of what pretraining brings.
    untrained: bool = False
    #: How many of its transformer blocks are kept, the first ones; None for all.
    layers: PositiveInt | None = None

    def load(self, adapted: bool = True, outline: bool = False) -> LanguageModel:
        """Read the model and, if ``adapted``, put the adapters on it, which alone are trained.

        An ``outline`` is without weights, made once what can be known before they are read (packages, device, that they
        can be reached) is known: enough to find out whether a recommender can be made of it. A UserError says why it
        cannot be had, or not quantised here.
        """
        lora = self.lora if adapted else None
        if lora is not None:
            needed("peft")  # before weights are fetched
        tokenizer, causal = self.weights.load(self._options(), outline or self.untrained)
        if self.layers is not None:
            _cut(causal, self.layers)
        if self.untrained and not outline:
            causal = self._random(causal)
        return LanguageModel(tokenizer, causal, lora, self.pack_tokens, self.gradient_checkpointing)

    def _random(self, outline: Any) -> Any:
        """A model of the outline's configuration with random weights."""
        if self.quantize is not None:
            remedy = "Leave llm.quantize null"
            raise UserError("random weights are not quantised", where="llm.untrained=true", remedy=remedy)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = type(outline)(outline.config)
        return made.to(getattr(torch, self.dtype))

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"dtype": getattr(torch, self.dtype)}
        if self.quantize is not None:
            if not torch.cuda.is_available():
                what, remedy = "weights are quantised on a CUDA device, and there is none", "run where there is a GPU"
                raise UserError(what, where=f"llm.quantize={self.quantize}", remedy=f"Leave it null, or {remedy}")
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
        return options


def _cut(causal: Any, layers: int) -> None:
    """Drop all transformer blocks but the first ones, in place; a UserError says that there are not so many."""
    decoder, where = causal.base_model, f"llm.layers={layers}"
    blocks = getattr(decoder, "layers", None)
    if not isinstance(blocks, nn.ModuleList):
        what = f"the blocks of a {type(causal).__name__} are not found"
        raise UserError(what, where=where, remedy="Leave llm.layers null")
    if layers > len(blocks):
        remedy = f"Set it to at most {len(blocks)}, or leave it null"
        raise UserError(f"the language model has {len(blocks)} layers", where=where, remedy=remedy)
    decoder.layers = blocks[:layers]
    causal.config.num_hidden_layers = layers
    if getattr(causal.config, "layer_types", None):  # of models whose layers differ in their attention
        causal.config.layer_types = causal.config.layer_types[:layers]
