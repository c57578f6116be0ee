"""Reads an offline W&B run back: LevelDB's log format around protobuf records."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _FILE_HEADER, _HEADER = 32768, 7, 7


def _records(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, parts = _FILE_HEADER, b""
    while at + _HEADER <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:
            at += left
            continue
        _crc, length, kind = struct.unpack("<IHB", data[at : at + _HEADER])
        if kind == 0:
            at += left
            continue
        parts += data[at + _HEADER : at + _HEADER + length]
        at += _HEADER + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield parts
            parts = b""


def read(path: Path) -> dict[str, Any]:
    """Group, tags, name, id, config, the summary as it stood at the end, and the history: rows and what they hold."""
    from wandb.proto import wandb_internal_pb2 as pb

    found: dict[str, Any] = {"config": {}, "summary": {}, "history": 0, "history_keys": set()}
    for raw in _records(path):
        record = pb.Record()
        record.ParseFromString(raw)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found |= {"group": record.run.run_group, "tags": list(record.run.tags), "id": record.run.run_id}
            found["config"] |= {u.key: json.loads(u.value_json) for u in record.run.config.update}
        elif kind == "config":
            found["config"] |= {u.key: json.loads(u.value_json) for u in record.config.update}
        elif kind == "summary":
            for item in record.summary.update:
                found["summary"]["/".join([item.key] if item.key else item.nested_key)] = json.loads(item.value_json)
            for item in record.summary.remove:
                found["summary"].pop("/".join([item.key] if item.key else item.nested_key), None)
        elif kind == "history":
            found["history"] += 1
            found["history_keys"] |= {item.key or "/".join(item.nested_key) for item in record.history.item}
    return found
