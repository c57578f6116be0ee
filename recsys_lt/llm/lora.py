"""LoRA by peft, with dropout that asking again repeats."""

import warnings
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from recsys_lt.backbones.dropout import RowDropout
from recsys_lt.errors import UserError
from recsys_lt.llm.packages import needed

_SALT = 1000  # apart from the salts of backbones' layers


class TokenStreams:
    """The random stream of each token of the pass that is under way, [T] int64; None when ranking."""

    keys: Tensor | None = None


class _TokenDropout(nn.Module):
    """In the place of peft's ``nn.Dropout``, whose masks depend on who drew before."""

    def __init__(self, p: float, salt: int, streams: TokenStreams) -> None:
        super().__init__()
        self._mask, self._streams = RowDropout(p, salt), streams

    def forward(self, x: Tensor) -> Tensor:
        """Tokens' inputs, [1, T, d] -> the same shape."""
        if self._streams.keys is None:
            return x
        dropped: Tensor = self._mask(x.flatten(0, -2), self._streams.keys)
        return dropped.view_as(x)


class Lora:
    """Low-rank adapters beside frozen linear layers: W x + (alpha / rank) B A dropout(x).

    Parameters
    ----------
    rank
        Of the product BA.
    alpha
        Scale of the adapters, over ``rank``.
    dropout
        Of the adapters' inputs.
    targets
        Names of the linear layers that get one.

    Raises
    ------
    UserError
        If a number is out of range or no layer is named.

    References
    ----------
    Hu et al., ICLR 2022, arXiv 2106.09685.
    """

    def __init__(self, rank: int, alpha: float, dropout: float, targets: Sequence[str]) -> None:
        if rank < 1 or alpha <= 0 or not 0 <= dropout < 1 or not targets:
            raise UserError(
                f"rank {rank}, alpha {alpha}, dropout {dropout}, targets {list(targets)} make no adapters",
                where="llm.lora",
                remedy="Give a rank of at least 1, a positive alpha, a dropout in [0, 1) and names such as [q_proj]",
            )
        self.rank, self.alpha, self.dropout, self.targets = rank, alpha, dropout, list(targets)

    def on(self, model: Any, streams: TokenStreams) -> Any:
        """Freeze a causal language model and put adapters on it; their parameters are float32.

        Raises
        ------
        UserError
            If it has no layer of one of these names.
        """
        peft = needed("peft")
        config = peft.LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=self.targets, bias="none"
        )
        try:
            with warnings.catch_warnings():  # of names that transformers will change and peft still reads
                warnings.simplefilter("ignore", FutureWarning)
                adapted = peft.get_peft_model(model, config)
        except ValueError as error:
            linear = sorted({n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, nn.Linear)})
            raise UserError(
                f"no layer of the language model is named as in {self.targets}",
                where="llm.lora.targets",
                remedy=f"Its linear layers are {', '.join(linear)}",
            ) from error
        layers = [module for module in adapted.modules() if isinstance(module, peft.tuners.lora.LoraLayer)]
        for salt, layer in enumerate(layers, start=_SALT):
            for name in layer.lora_dropout:
                layer.lora_dropout[name] = _TokenDropout(self.dropout, salt, streams)
        return adapted
