"""SASRec: its Linear layers at every event. Attention is left out."""

from typing import Any

from recsys_lt.data.batch import Batch
from studies.speed.floors.parts import Step, linear, together


def products(model: Any, batch: Batch) -> Step:
    """A step's products for ``model``, the configuration's, on ``batch``."""
    events, width = len(batch.items), model.width
    # query, key and value, out, inner, outer
    outs = [width, 2 * width, width, width, width] * model.blocks
    return together(*(linear(events, width, out) for out in outs))
