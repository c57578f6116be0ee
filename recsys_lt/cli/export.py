"""``python -m recsys_lt export outputs/<run> --onnx FILE``: a trained model as ONNX, and its item vectors."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_lt.cli.command import Command
from recsys_lt.errors import UserError
from recsys_lt.runs.trust import add_trust
from recsys_lt.system.atomic import replacing

# Everything else is imported where it is used, so that --help answers at once.
if TYPE_CHECKING:
    from recsys_lt.backbones.backbone import Backbone
    from recsys_lt.data.sequences import Sequences


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the run: a folder with config.yaml and best.ckpt")
    parser.add_argument(
        "--onnx",
        type=Path,
        metavar="FILE",
        help="from items [batch, max_length] (int64 places in the catalogue, oldest first, -1 before a short history) "
        "to scores [batch, items] (float32); the file is run against the model first. Needs the extra export",
    )
    parser.add_argument(
        "--vectors",
        type=Path,
        metavar="FILE",
        help="Parquet: item id, title, output vector and bias of each item; a score is vector . state + bias",
    )
    add_trust(parser)


def _run(arguments: argparse.Namespace) -> None:
    """Write the model of a finished run for other programs.

    As an ONNX graph, its item vectors as Parquet, or both. The rows of --vectors are the columns of the graph's scores.
    """
    if arguments.onnx is None and arguments.vectors is None:
        raise UserError("there is nothing to write", where="export", remedy="Add --onnx FILE, --vectors FILE or both")
    import torch

    from recsys_lt.backbones.backbone import Backbone
    from recsys_lt.training.trained import Run

    run = Run(arguments.folder)
    data, module = run.catalogue, run.catalogue_model
    backbone = module.model
    if not isinstance(backbone, Backbone):
        what = f"{type(module).__name__} is no backbone with an output table"
        raise UserError(what, where=arguments.folder, remedy="Export a run of a backbone, such as model=sasrec")
    with torch.no_grad():
        module.begin_ranking()
        if arguments.onnx is not None:
            from recsys_lt.recommenders.onnx_file import write_onnx

            notes = run.stored.names._asdict() | {"item_fingerprint": data.item_fingerprint}
            with replacing(arguments.onnx) as temporary:
                difference = write_onnx(temporary, backbone, notes)
            print(
                f"{arguments.onnx}: items [batch, {backbone.max_length}] to scores [batch, {data.n_items:,}]; "
                f"scores differ from PyTorch's by at most {difference:.1g}"
            )
        if arguments.vectors is not None:
            with replacing(arguments.vectors) as temporary:
                _write_vectors(temporary, backbone, data)
            print(f"{arguments.vectors}: vectors of {data.n_items:,} items")


def _write_vectors(path: Path, backbone: Backbone, data: Sequences) -> None:
    import pyarrow as pa
    import torch
    from pyarrow import parquet

    from recsys_lt.losses.output_table import OutputTable

    table = backbone.scorer()
    if not isinstance(table, OutputTable):
        what = f"{type(backbone).__name__} scores items by {type(table).__name__}, not by a vector an item"
        raise UserError(what, where="--vectors", remedy="Export another model, such as a run of model=sasrec")
    weight = table.weight.float().cpu()
    bias = torch.zeros(data.n_items) if table.bias is None else table.bias.float().cpu()
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(weight.reshape(-1).numpy()), weight.shape[1])
    columns = {
        "item": pa.array(data.item_ids.tolist(), pa.string()),
        "title": pa.array(data.titles.tolist(), pa.string()),
        "vector": vectors,
        "bias": pa.array(bias.numpy()),
    }
    parquet.write_table(pa.table(columns), path)


main = Command(_options, _run)
