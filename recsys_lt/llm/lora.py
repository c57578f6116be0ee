"""What is trained of a language model: LoRA by peft, with dropout that asking again repeats; the rest is frozen."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from recsys_lt.backbones.layers import RowDropout
from recsys_lt.errors import UserError
from recsys_lt.llm.fused import Adapted, fuse_as
from recsys_lt.llm.packed_attention import Pass
from recsys_lt.llm.pretrained import needed

_SALT = 1000  # apart from the salts of backbones' layers


class _TokenDropout(nn.Module):
    """In the place of peft's ``nn.Dropout``, whose masks depend on who drew before."""

    def __init__(self, p: float, salt: int, under_way: Pass) -> None:
        super().__init__()
        self.mask, self._pass = RowDropout(p, salt), under_way

    @property
    def keys(self) -> Tensor | None:
        """The random stream of each token, [T]; None for no dropout."""
        return self._pass.keys

    def forward(self, x: Tensor) -> Tensor:
        """Tokens' inputs, [1, T, d] -> the same shape."""
        if self.keys is None:
            return x
        dropped: Tensor = self.mask(x.flatten(0, -2), self.keys)
        return dropped.view_as(x)


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters beside the linear layers named in ``targets``: W x + (alpha / rank) B A dropout(x).

    Source: Hu et al., ICLR 2022, arXiv 2106.09685.
    """

    rank: PositiveInt
    alpha: PositiveFloat
    dropout: Annotated[float, Field(ge=0, lt=1)]
    targets: Annotated[Sequence[str], Field(min_length=1)]

    def on(self, model: Any, under_way: Pass) -> Any:
        """Freeze a causal language model and put adapters on it; their parameters are float32."""
        peft = needed("peft")
        targets = list(self.targets)
        config = peft.LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=targets, bias="none"
        )
        try:
            with warnings.catch_warnings():  # of names that transformers will change and peft still reads
                warnings.simplefilter("ignore", FutureWarning)
                adapted = peft.get_peft_model(model, config)
        except ValueError as error:
            linear = sorted({n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, nn.Linear)})
            what = f"no layer of the language model is named as in {targets}"
            remedy = f"Its linear layers are {', '.join(linear)}"
            raise UserError(what, where="llm.lora.targets", remedy=remedy) from error
        layers = [module for module in adapted.modules() if isinstance(module, peft.tuners.lora.LoraLayer)]
        for salt, layer in enumerate(layers, start=_SALT):
            for name in layer.lora_dropout:
                layer.lora_dropout[name] = _TokenDropout(self.dropout, salt, under_way)
            if type(layer) is peft.tuners.lora.Linear and type(layer.base_layer) is nn.Linear:
                fuse_as(Adapted, layer)
        return adapted


def silence(causal: Any) -> None:
    """Turn its own dropout off, which draws from a state, so that asking again would give another answer."""
    for module in [causal.config, *causal.modules()]:
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and ("dropout" in name or name.endswith("_pdrop")):
                setattr(module, name, 0.0)


def keep_trained_alone(module: nn.Module) -> None:
    """Leave what is not trained out of a module's ``state_dict``, and do not miss it when one is loaded."""
    module.register_state_dict_post_hook(_without_frozen)
    module.register_load_state_dict_post_hook(_not_missed)


def _without_frozen(module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    # Quantised weights have more entries than parameters: what is kept is named, not what goes.
    kept = {prefix + name for name, p in module.named_parameters() if p.requires_grad}
    for name in [name for name in state if name.startswith(prefix) and name not in kept]:
        del state[name]


def _not_missed(module: nn.Module, incompatible: Any) -> None:
    # Tied weights have two names.
    parameters = module.named_parameters(remove_duplicate=False)
    frozen = (*(n for n, p in parameters if not p.requires_grad), *(n for n, _ in module.named_buffers()))
    # Names there begin with the path to this module, which it does not know.
    incompatible.missing_keys[:] = [name for name in incompatible.missing_keys if not name.endswith(frozen)]
