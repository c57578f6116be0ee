"""Where a language model comes from: a local folder or a hub; nothing else of the program needs the extra ``llm``."""

import errno
import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.request import Request, urlopen

import torch

from recsys_lt.errors import UserError

_PATIENCE = 5.0  # seconds until a hub that says nothing is out of reach


def needed(package: str, extra: str = "llm") -> ModuleType:
    """Import a package of an extra; a UserError says that it is not installed."""
    try:
        return import_module(package)
    except ImportError as error:
        what = f"the package {package} cannot be imported ({error})"
        raise UserError(what, where="llm", remedy=f"Install it with: pip install 'recsys_lt[{extra}]'") from error


class Weights(ABC):
    """A tokenizer and a causal language model of ``transformers``."""

    @abstractmethod
    def load(self, options: Mapping[str, Any], outline: bool = False) -> tuple[Any, Any]:
        """Tokenizer and model, read with these options for ``from_pretrained`` (dtype, quantization_config).

        An ``outline`` may be without weights, on torch's meta device. UserError if they cannot be had or read, or a
        package is missing.
        """


@dataclass(frozen=True)
class Pretrained(Weights):
    """A local folder, or what a hub has under a name. Tensors are read from safetensors alone."""

    name: str  # the folder, or the hub's owner/name
    revision: str | None = None  # of the hub's repository; None for its newest
    trust_remote_code: bool = False  # whether Python code that lies beside the weights may run here

    def load(self, options: Mapping[str, Any], outline: bool = False) -> tuple[Any, Any]:
        transformers = needed("transformers")
        transformers.utils.logging.disable_progress_bar()
        folder = Path(self.name).expanduser()
        name = str(folder) if folder.is_dir() else self.name
        silent = None if folder.is_dir() or self.name.startswith((".", "/", "~")) else _out_of_reach()
        # Where the hub is silent, what was fetched before is enough.
        common = {
            "revision": self.revision,
            "trust_remote_code": self.trust_remote_code,
            "local_files_only": silent is not None,
        }
        try:
            config = transformers.AutoConfig.from_pretrained(name, **common)
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, **common)
            if outline:
                with torch.device("meta"):
                    return tokenizer, transformers.AutoModelForCausalLM.from_config(
                        config, attn_implementation="sdpa", trust_remote_code=self.trust_remote_code
                    )
            return tokenizer, transformers.AutoModelForCausalLM.from_pretrained(
                name, use_safetensors=True, attn_implementation="sdpa", **common, **options
            )
        except (OSError, ValueError, ImportError, needed("safetensors").SafetensorError) as error:
            if _is_full(error):
                raise self._no_room() from error
            reason = " ".join(str(error).split())[:300]
            if silent is not None:
                reason = f"{silent}, and nothing of that name was fetched before"
            wrong, where = f"no language model can be read there ({reason})", f"llm.weights.name={self.name}"
            remedy = "Name a folder with a causal language model of transformers in safetensors, or a hub's name of "
            raise UserError(wrong, where=where, remedy=f"{remedy}one while the hub can be reached") from error

    def _no_room(self) -> UserError:
        hub = needed("huggingface_hub")
        try:
            files = hub.HfApi().model_info(self.name, revision=self.revision, files_metadata=True).siblings or []
            size = sum(file.size or 0 for file in files if file.rfilename.endswith(".safetensors"))
            wanted = f"{size / 1e9:.1f} GB"
        except (OSError, ValueError):
            wanted = "two bytes a parameter (in 16 bits)"
        what = f"no space is left on the disk for the weights of {self.name}, which take {wanted}"
        remedy = "Free so much there, or set HF_HOME to a folder with room"
        return UserError(what, where=hub.constants.HF_HUB_CACHE, remedy=remedy)


def _is_full(error: BaseException | None) -> bool:
    """Whether it says that a disk is full, or came of an error that does."""
    while error is not None:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _out_of_reach() -> str | None:
    """Why the hub does not answer, None where it does: its own library would go on asking for most of a minute."""
    constants = needed("huggingface_hub").constants
    if constants.HF_HUB_OFFLINE:  # it will not ask
        return None
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=_PATIENCE).close()
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        # A refusal is an answer, and whose certificates are trusted is the library's own affair.
        if getattr(error, "code", 500) >= 500 and not isinstance(reason, ssl.SSLError):
            return f"the hub {constants.ENDPOINT} cannot be reached: {reason}"
    return None
