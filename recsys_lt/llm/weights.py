"""Where a language model comes from, and the packages of the extra ``llm``, which nothing else of the program needs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from recsys_lt.errors import UserError


def needed(package: str, extra: str = "llm") -> ModuleType:
    """Import a package of an extra; a UserError says that it is not installed."""
    try:
        return import_module(package)
    except ImportError as error:
        what = f"the package {package} cannot be imported ({error})"
        raise UserError(what, where="llm", remedy=f"Install it with: pip install 'recsys_lt[{extra}]'") from error


class Weights(ABC):
    """A tokenizer and a causal language model of ``transformers``."""

    def check(self) -> None:
        """Raise UserError where it is plain that ``load`` will, without reading weights."""
        needed("transformers")

    def outline(self) -> tuple[Any, Any]:
        """As ``load``, but the model without weights, on torch's meta device, where it can be."""
        return self.load({})

    @abstractmethod
    def load(self, options: Mapping[str, Any]) -> tuple[Any, Any]:
        """Tokenizer and model, read with these options for ``from_pretrained`` (dtype, quantization_config).

        Raises
        ------
        UserError
            If they cannot be had or read, or a package is missing.
        """
