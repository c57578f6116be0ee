"""A backbone and its output table as one ONNX graph: histories to the scores of all items."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.errors import UserError
from recsys_lt.system.package import check_installed

_OTHER = "Export another model, such as a run of model=sasrec"
#: Largest difference of a score, relative to the largest score, that counts as rounding.
_TOLERANCE = 1e-3


class _Scores(nn.Module):
    """Histories [B, L] at the right of a window, -1 before them -> the scores of all items, [B, I]."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, items: Tensor) -> Tensor:
        table = self.backbone.scorer()
        states = self.backbone.padded_states(items.clamp(min=0), items >= 0)
        return table.block(states, 0, table.n_items)


def windows(n_items: int, length: int, rows: int) -> Tensor:
    """Random histories of 1 to ``length`` events as the graph takes them, [rows, length] int64."""
    random = np.random.default_rng(0)
    items = random.integers(0, n_items, (rows, length))
    lengths = np.linspace(1, length, rows).round()
    items[np.arange(length) < length - lengths[:, None]] = -1
    return torch.from_numpy(items)


def write_onnx(path: Path, backbone: Backbone, notes: Mapping[str, str]) -> float:
    """Write a backbone in eval mode as ONNX and run the file against it.

    The input ``items`` is [batch, L] int64 (the last L events, -1 before a shorter history), the output ``scores``
    [batch, I] float32; items of the history are scored like any other. ``notes`` become the file's metadata.

    Returns
    -------
    float
        The largest difference of a score between ONNX Runtime and PyTorch.

    Raises
    ------
    UserError
        If a package is missing, the backbone has no padded form, the exporter does not take it, or the scores differ.
    """
    check_installed("--onnx", "export", "onnx", "onnxscript", "onnxruntime")  # for the exporter, and for the check
    model = _Scores(backbone).eval()
    n_items, length = backbone.output_table().n_items, backbone.max_length
    tried = windows(n_items, length, rows=3)  # fewer than the exporter sees: their number is free
    with torch.no_grad():
        expected = model(tried).numpy()  # a backbone without the form refuses here
        program = _exported(model, windows(n_items, length, rows=5))
    for key, note in notes.items():
        program.model.metadata_props[key] = note
    program.save(path, external_data=False)
    try:
        found = _scores_of(path, tried.numpy())
    except Exception as error:  # ONNX Runtime has a class for each kind, none of which is Python's
        reason = str(error).splitlines()[0]
        raise UserError(f"ONNX Runtime does not take the file ({reason})", where="--onnx", remedy=_OTHER) from error
    difference = float(np.abs(found - expected).max())
    if not difference <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
        what = f"the exported scores differ by up to {difference:.2g} from the model's"
        raise UserError(what, where="--onnx", remedy="Report it with this run's config.yaml; no file was written")
    return difference


def _exported(model: nn.Module, example: Tensor) -> Any:
    logging.disable(logging.WARNING)  # it tells of operators that nobody asked for
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.onnx.export(
                model,
                (example,),
                input_names=["items"],
                output_names=["scores"],
                dynamic_shapes={"items": {0: torch.export.Dim("batch")}},
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        what = f"PyTorch's exporter does not take this model ({reason})"
        raise UserError(what, where="--onnx", remedy=_OTHER) from error
    finally:
        logging.disable(logging.NOTSET)


def _scores_of(path: Path, items: NDArray[np.int64]) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"items": items})
    return np.asarray(scores)
