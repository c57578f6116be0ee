"""What a run gives to W&B offline, and a server that stands in for W&B."""

import contextlib
import json
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
    """Group, tags, name, id, config, summary at the end, history (rows and their keys), and each artifact's files."""
    from wandb.proto import wandb_internal_pb2 as pb

    found: dict[str, Any] = {"config": {}, "summary": {}, "history": 0, "history_keys": set(), "artifacts": {}}
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
        elif kind == "artifact":
            found["artifacts"][record.artifact.type] = [entry.path for entry in record.artifact.manifest.contents]
    return found


class Server(ThreadingHTTPServer):
    """``saved`` holds the variables of every view posted; ``refuses`` a word of the requests to be answered by 403."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.saved: list[dict[str, Any]] = []
        self.refuses: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "upsertView" in query:
            self.saved.append(variables)
            return {"upsertView": {"view": {"id": "id of the view", "name": variables["name"]}, "inserted": True}}
        if "allViews" in query:
            found = [view for view in self.saved if view["name"] == variables["viewName"]]
            nodes = [{"id": "id of the view", "displayName": v["displayName"], "spec": v["spec"]} for v in found[-1:]]
            return {"project": {"allViews": {"edges": [{"node": node} for node in nodes]}}}
        if "project(" in query:
            known = {"__typename": "Project", "id": "id", "name": "known", "entityName": "team", "user": None}
            known |= {"createdAt": "2026-01-01T00:00:00Z", "isBenchmark": False}
            return {"project": known if variables["name"] == "known" else None}
        return {"viewer": {"id": "id", "entity": "team", "username": "me", "flags": "{}", "teams": {"edges": []}}}


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._send(404, {})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.refuses and self.server.refuses in asked["query"]:
            self._send(403, {"errors": [{"message": "permission denied"}]})
        else:
            self._send(200, {"data": self.server.answer(asked["query"], asked.get("variables") or {})})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()
