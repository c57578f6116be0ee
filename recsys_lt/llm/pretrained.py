"""A language model in a local folder, or on a hub."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from recsys_lt.errors import UserError
from recsys_lt.llm.packages import needed
from recsys_lt.llm.weights import Weights

T = TypeVar("T")


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

    def check(self) -> None:
        """See ``Weights.check``: its configuration is read."""
        self._read(lambda transformers, name, common: transformers.AutoConfig.from_pretrained(name, **common))

    def load(self, options: Mapping[str, Any]) -> tuple[Any, Any]:
        """See ``Weights.load``."""

        def both(transformers: ModuleType, name: str, common: Mapping[str, Any]) -> tuple[Any, Any]:
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, **common)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                name, use_safetensors=True, attn_implementation="sdpa", **common, **options
            )
            return tokenizer, model

        return self._read(both)

    def _read(self, what: Callable[[ModuleType, str, Mapping[str, Any]], T]) -> T:
        transformers = needed("transformers")
        transformers.utils.logging.disable_progress_bar()
        folder = Path(self.name).expanduser()
        name = str(folder) if folder.is_dir() else self.name
        common = {"revision": self.revision, "trust_remote_code": self.trust_remote_code}
        try:
            return what(transformers, name, common)
        except (OSError, ValueError, ImportError, needed("safetensors").SafetensorError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"no language model can be read there ({reason})",
                where=f"llm.weights.name={self.name}",
                remedy="Name a folder with a causal language model of transformers in safetensors, or a hub's name of "
                "one while the hub can be reached",
            ) from error
