"""Devices and processes of a run: one class for each strategy, which refuses in one line what the machine lacks."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch

from recsys_lt.errors import UserError
from recsys_lt.system.package import check_installed


class Strategy(ABC):
    """Settings of Lightning for the devices and processes of a run."""

    #: Whether several processes are started, one a device.
    several: bool = False
    #: Whether a process holds a part of each parameter only.
    shards: bool = False
    #: ``auto`` is the GPU where there is one, else the processor.
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"

    @abstractmethod
    def check(self, devices: int, clip: float | None = None) -> None:
        """Raise UserError if this machine cannot run it on so many devices, or it cannot clip gradients."""

    def arguments(self) -> dict[str, Any]:
        """Lightning's ``accelerator`` and ``strategy``."""
        from pytorch_lightning.plugins.environments import LightningEnvironment

        # Processes are ours (launch.py): a cluster's variables must not be taken for their ranks.
        strategy = self.made(LightningEnvironment()) if self.several else "auto"
        return {"accelerator": "gpu" if _on_gpus(self.accelerator) else "cpu", "strategy": strategy}

    def made(self, environment: Any) -> Any:
        """Lightning's strategy of several processes."""
        raise NotImplementedError


def _gpus() -> int:
    return torch.cuda.device_count()


def _on_gpus(accelerator: str) -> bool:
    return accelerator == "gpu" or (accelerator == "auto" and _gpus() > 0)


class Auto(Strategy):
    """One process on the GPU where there is one, else on the processor."""

    def check(self, devices: int, clip: float | None = None) -> None:
        if devices != 1:
            raise UserError(
                f"strategy={self.accelerator} uses one device, not {devices}",
                where="trainer.devices",
                remedy="Use strategy=ddp for several",
            )
        if _on_gpus(self.accelerator) and _gpus() == 0:
            what = "this machine has no GPU that torch can use"
            raise UserError(what, where="strategy=gpu", remedy="Use strategy=cpu")


class Cpu(Auto):
    """One process on the processor's cores."""

    accelerator = "cpu"


class Gpu(Auto):
    """One process on one GPU."""

    accelerator = "gpu"


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

    def made(self, environment: Any) -> Any:
        from pytorch_lightning.strategies import DDPStrategy

        backend = "nccl" if _on_gpus(self.accelerator) else "gloo"
        return DDPStrategy(process_group_backend=backend, cluster_environment=environment)


class _Sharded(Strategy):
    """Parameters spread over several GPUs."""

    several = True
    shards = True
    accelerator = "gpu"
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

    def made(self, environment: Any) -> Any:
        from pytorch_lightning.strategies import FSDPStrategy

        return FSDPStrategy(cluster_environment=environment, state_dict_type="full", use_orig_params=True)


class Deepspeed(_Sharded):
    """DeepSpeed ZeRO stage 2; needs the ``deepspeed`` extra."""

    name = "deepspeed"

    def check(self, devices: int, clip: float | None = None) -> None:
        super().check(devices, clip)
        check_installed("strategy=deepspeed", "deepspeed", "deepspeed")

    def made(self, environment: Any) -> Any:
        from pytorch_lightning.strategies import DeepSpeedStrategy

        return DeepSpeedStrategy(cluster_environment=environment, stage=2)
