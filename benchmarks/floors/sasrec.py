"""SASRec: its Linear layers at every event. Attention is left out."""

from typing import Any

from floors.parts import Step, linear, together
from recsys_lt.data.batch import Batch


def products(model: Any, batch: Batch) -> Step:
    """A step's products for ``model``, the configuration's, on ``batch``."""
    events, width = len(batch.items), model.width
    # query, key and value, out, inner, outer
    outs = [width, 2 * width, width, width, width] * model.blocks
    return together(*(linear(events, width, out) for out in outs))
