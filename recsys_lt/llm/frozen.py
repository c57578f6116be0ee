"""What a language model that was loaded from elsewhere, and is not trained, has no part in."""

from typing import Any

from torch import nn


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


def _frozen(module: nn.Module) -> set[str]:
    # Tied weights have two names.
    parameters = module.named_parameters(remove_duplicate=False)
    return {name for name, p in parameters if not p.requires_grad} | {name for name, _ in module.named_buffers()}


def _without_frozen(module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    # Quantised weights have more entries than parameters: what is kept is named, not what goes.
    kept = {prefix + name for name, p in module.named_parameters() if p.requires_grad}
    for name in [name for name in state if name.startswith(prefix) and name not in kept]:
        del state[name]


def _not_missed(module: nn.Module, incompatible: Any) -> None:
    frozen = tuple(_frozen(module))  # names there begin with the path to this module, which it does not know
    incompatible.missing_keys[:] = [name for name in incompatible.missing_keys if not name.endswith(frozen)]
