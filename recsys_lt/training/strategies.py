"""On what a run computes: one class a strategy, each refusing in one line what the machine cannot run."""

import importlib.util
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch

from recsys_lt.errors import UserError


class Strategy(ABC):
    """How Lightning is to use the machine."""

    #: Whether several processes are started, one a device.
    several: bool = False
    #: Whether a process holds a part of each parameter only.
    shards: bool = False

    @abstractmethod
    def check(self, devices: int, clip: float | None = None) -> None:
        """Raise UserError if this machine cannot run it on so many devices, or it cannot clip gradients."""

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Lightning's ``accelerator`` and ``strategy``."""


def _gpus() -> int:
    return torch.cuda.device_count()


def _on_gpus(accelerator: str) -> bool:
    return accelerator == "gpu" or (accelerator == "auto" and _gpus() > 0)


class Auto(Strategy):
    """One process on the GPU where there is one, else on the processor."""

    name: Literal["auto", "cpu", "gpu"] = "auto"

    def check(self, devices: int, clip: float | None = None) -> None:
        if devices != 1:
            raise UserError(
                f"strategy={self.name} uses one device, not {devices}",
                where="trainer.devices",
                remedy="Use strategy=ddp for several",
            )
        if _on_gpus(self.name) and _gpus() == 0:
            what = "this machine has no GPU that torch can use"
            raise UserError(what, where="strategy=gpu", remedy="Use strategy=cpu")

    def arguments(self) -> dict[str, Any]:
        return {"accelerator": "gpu" if _on_gpus(self.name) else "cpu", "strategy": "auto"}


class Cpu(Auto):
    """One process on the processor's cores."""

    name = "cpu"


class Gpu(Auto):
    """One process on one GPU."""

    name = "gpu"


class Ddp(Strategy):
    """Data parallel: one process a device, every one with all parameters (gloo on CPU, NCCL on GPUs).

    Parameters
    ----------
    accelerator
        ``cpu``, ``gpu``, or ``auto``: GPUs where there are any.
    """

    several = True

    def __init__(self, accelerator: Literal["auto", "cpu", "gpu"] = "auto") -> None:
        self.accelerator = accelerator

    def check(self, devices: int, clip: float | None = None) -> None:
        if _on_gpus(self.accelerator) and _gpus() < devices:
            raise UserError(
                f"{devices} devices are asked of a machine with {_gpus()} GPUs",
                where="trainer.devices",
                remedy="Use fewer, or strategy.accelerator=cpu",
            )

    def arguments(self) -> dict[str, Any]:
        from pytorch_lightning.plugins.environments import LightningEnvironment
        from pytorch_lightning.strategies import DDPStrategy

        strategy = DDPStrategy(
            process_group_backend="nccl" if _on_gpus(self.accelerator) else "gloo",
            # The processes are ours (launch.py): a cluster's variables must not be taken for their ranks.
            cluster_environment=LightningEnvironment(),
        )
        return {"accelerator": "gpu" if _on_gpus(self.accelerator) else "cpu", "strategy": strategy}


class _Sharded(Strategy):
    """Parameters spread over several GPUs."""

    several = True
    shards = True
    name: str

    def check(self, devices: int, clip: float | None = None) -> None:
        if clip is not None:
            raise UserError(
                f"strategy={self.name} does not clip gradients here",
                where="trainer.clip",
                remedy="Set trainer.clip=null",
            )
        if _gpus() < devices or _gpus() == 0:
            raise UserError(
                f"strategy={self.name} needs {devices} GPU{'s' * (devices > 1)}; torch sees {_gpus()}",
                where=f"strategy={self.name}",
                remedy="Use strategy=ddp, which also runs on CPU",
            )


class Fsdp(_Sharded):
    """Fully sharded data parallel (PyTorch)."""

    name = "fsdp"

    def arguments(self) -> dict[str, Any]:
        from pytorch_lightning.plugins.environments import LightningEnvironment
        from pytorch_lightning.strategies import FSDPStrategy

        strategy = FSDPStrategy(
            cluster_environment=LightningEnvironment(), state_dict_type="full", use_orig_params=True
        )
        return {"accelerator": "gpu", "strategy": strategy}


class Deepspeed(_Sharded):
    """DeepSpeed ZeRO stage 2; needs the ``deepspeed`` extra."""

    name = "deepspeed"

    def check(self, devices: int, clip: float | None = None) -> None:
        super().check(devices, clip)
        if importlib.util.find_spec("deepspeed") is None:
            raise UserError(
                "DeepSpeed is not installed",
                where="strategy=deepspeed",
                remedy="Install it with: pip install 'recsys_lt[deepspeed]'",
            )

    def arguments(self) -> dict[str, Any]:
        from pytorch_lightning.plugins.environments import LightningEnvironment
        from pytorch_lightning.strategies import DeepSpeedStrategy

        strategy = DeepSpeedStrategy(cluster_environment=LightningEnvironment(), stage=2)
        return {"accelerator": "gpu", "strategy": strategy}
