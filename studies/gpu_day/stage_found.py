"""First stage: what the machine is, and whether it finds the data of the parcel."""

import os
import platform
import sys
from importlib.metadata import version

from recsys_lt.errors import UserError
from studies.gpu_day.stage import Stage, stage
from studies.gpu_day.work import read_json


def main() -> int:
    """Write down the machine and the datasets; 2 with a line for what is missing."""
    this = stage()
    try:
        this.save("machine", _machine(this))
        this.save("datasets", _datasets(this))
    except UserError as error:
        print(error)
        return 2
    return 0


def _machine(this: Stage) -> dict[str, object]:
    import torch

    if this.device == "cuda" and not torch.cuda.is_available():
        raise UserError("torch sees no GPU", where="--device cuda", remedy="Give --device cpu to rehearse")
    card = torch.cuda.get_device_properties(0) if this.device == "cuda" else None
    return {
        "device": this.device if card is None else card.name,
        "memory_gib": None if card is None else round(card.total_memory / 2**30, 1),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        **{name: version(name) for name in ("pytorch-lightning", "numpy", "hydra-core")},
    }


def _datasets(this: Stage) -> dict[str, str]:
    from hydra.utils import instantiate

    from studies.gpu_day.parcel import ABOUT, composed

    about = read_json(this.parcel / ABOUT)
    first = {cell["choose"]["dataset"]: cell for cell in reversed(about["cells"])}
    for name, fingerprint in about["datasets"].items():
        found = instantiate(composed(first[name], about["overrides"]).dataset).load(print).fingerprint
        if found != fingerprint:
            raise UserError(
                f"its fingerprint is {found[:12]}, and that of the parcel {fingerprint[:12]}",
                where=name,
                remedy="Make the parcel again",
            )
    return dict(about["datasets"])


if __name__ == "__main__":
    sys.exit(main())
