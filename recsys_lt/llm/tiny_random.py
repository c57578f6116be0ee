"""A language model of nothing: random weights that read bytes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from recsys_lt.llm.pretrained import Weights, needed


@dataclass(frozen=True)
class TinyRandom(Weights):
    """A Llama of a few thousand random weights that reads bytes: for tests, and for trying a pipeline out."""

    width: int = 32
    layers: int = 2
    heads: int = 2
    context: int = 2048
    seed: int = 0

    def load(self, options: Mapping[str, Any], outline: bool = False) -> tuple[Any, Any]:
        transformers = needed("transformers")
        config = transformers.LlamaConfig(
            vocab_size=258,
            hidden_size=self.width,
            intermediate_size=2 * self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=1,
            max_position_embeddings=self.context,
            bos_token_id=256,
            eos_token_id=257,
            pad_token_id=257,
            tie_word_embeddings=True,
            attn_implementation="sdpa",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = transformers.LlamaForCausalLM(config)
        return self._tokenizer(), model.to(options.get("dtype", torch.float32))

    @staticmethod
    def _tokenizer() -> Any:
        tokenizers, transformers = needed("tokenizers"), needed("transformers")
        letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
        vocabulary = {letter: number for number, letter in enumerate([*letters, "<s>", "</s>"])}
        bare = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
        bare.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        bare.decoder = tokenizers.decoders.ByteLevel()
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=bare, bos_token="<s>", eos_token="</s>", pad_token="</s>"
        )
