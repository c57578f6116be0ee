"""In which numbers a run computes, by the names Lightning gives them."""

from dataclasses import dataclass

import torch

from recsys_lt.errors import UserError


@dataclass(frozen=True)
class Precision:
    """Which products are formed in fewer bits. Parameters, gradients, sums and rankings are float32 always."""

    backbone: torch.dtype | None = None  # type of the backbone's products, by autocast; None for float32
    loss: torch.dtype | None = None  # type of the loss's products; None for float32
    scaled: bool = False  # whether losses are multiplied by a factor that keeps small gradients from vanishing

    def check(self, device: torch.device) -> None:
        """Raise UserError where the device does not do it."""
        if self.scaled and device.type == "cpu":
            raise UserError(
                "a CPU has no fp16 products worth having",
                where="precision",
                remedy="Use precision=bf16-mixed, or float32",
            )


FLOAT32 = Precision()
PRECISIONS = {
    "float32": FLOAT32,
    "bf16": Precision(loss=torch.bfloat16),
    "bf16-mixed": Precision(backbone=torch.bfloat16, loss=torch.bfloat16),
    # exp overflows float16 at 11, so a fused loss stays in float32.
    "fp16-mixed": Precision(backbone=torch.float16, scaled=True),
}
