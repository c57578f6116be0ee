"""A W&B server of this machine: knows one project and one view of it, and keeps what is posted."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


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
