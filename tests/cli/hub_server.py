"""A stand-in for the Hugging Face Hub: repositories in memory, as far as push and pull need them."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

SHA = "c" * 40


class Hub(ThreadingHTTPServer):
    """Its ``repositories`` hold the bytes of files by path; ``created`` the requests that made them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.created: list[dict[str, object]] = []
        self.lost: list[str] = []  # requests that it does not know


@contextmanager
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.server.created.append(asked)
            self.server.repositories.setdefault(name, {})
            return self._json({"url": f"http://{self.headers['Host']}/{name}", "id": name})
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        name = "/".join(path.split("/")[3:5])
        if "/preupload/" in path:
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        if "/commit/" in path:
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "file":
                    assert line["value"]["encoding"] == "base64"
                    content = base64.b64decode(line["value"]["content"])
                    self.server.repositories[name][line["value"]["path"]] = content
            url = f"http://{self.headers['Host']}/{name}/commit/{SHA}"
            return self._json({"success": True, "commitOid": SHA, "commitUrl": url, "hookOutput": ""})
        return self._unknown()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        parts = path.split("/")
        if path.startswith("/api/models/"):
            files = self.server.repositories.get("/".join(parts[3:5]))
            if files is None:
                return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            if len(parts) > 5 and parts[5] == "tree":
                return self._json(
                    [
                        {"type": "file", "path": name, "size": len(content), "oid": f"{len(content):040x}"}
                        for name, content in files.items()
                    ]
                )
            siblings = [{"rfilename": name} for name in files]
            return self._json({"id": "/".join(parts[3:5]), "sha": SHA, "siblings": siblings})
        if len(parts) > 5 and parts[3] == "resolve":
            content = self.server.repositories["/".join(parts[1:3])].get("/".join(parts[5:]))
            if content is not None:
                headers = {"ETag": f'"{len(content):040x}"', "X-Repo-Commit": SHA}
                return self._send(content, 200, headers | {"Content-Type": "application/octet-stream"})
        return self._unknown()

    do_HEAD = do_GET  # noqa: N815

    def _unknown(self) -> None:
        self.server.lost.append(f"{self.command} {self.path}")
        self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})

    def _json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
