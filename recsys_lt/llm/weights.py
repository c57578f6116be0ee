"""Where a language model comes from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from recsys_lt.llm.packages import needed


class Weights(ABC):
    """A tokenizer and a causal language model of ``transformers``."""

    def check(self) -> None:
        """Raise UserError where it is plain that ``load`` will, without reading weights."""
        needed("transformers")

    def outline(self) -> tuple[Any, Any]:
        """Read the tokenizer, and make the model without weights, on torch's meta device, where it can be.

        Returns
        -------
        tokenizer, model

        Raises
        ------
        UserError
            As ``load``.
        """
        return self.load({})

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
