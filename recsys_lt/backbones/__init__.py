"""Sequential backbones: histories in, states out; one file each, no Lightning, no Hydra."""
