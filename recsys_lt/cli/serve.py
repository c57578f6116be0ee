"""``python -m recsys_lt serve outputs/<run>``: recommendations of a finished run over HTTP."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from recsys_lt.cli.command import Command, check_least
from recsys_lt.errors import UserError, one_line
from recsys_lt.runs.trust import add_trust
from recsys_lt.system.package import check_installed

# Everything else is imported where it is used, so that --help answers at once.
if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse

    from recsys_lt.training.trained import Run

_SECONDS = 10  # for a request's body to arrive
_LONGEST_ID = 256  # characters, as in datasets
_LOOPBACK = ["localhost", "127.0.0.1", "::1", "[::1]"]
_CONNECTIONS = 128  # at a time; further ones are answered 503


class Limits(NamedTuple):
    """Limits of a request: list length, events of a history (and excluded items), bytes of a body."""

    k: int = 100
    history: int = 1000
    body: int = 1 << 16


def _options(parser: argparse.ArgumentParser) -> None:
    least = Limits()
    parser.add_argument("folder", type=Path, help="the run: a folder with config.yaml and best.ckpt")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen at; 0 for any free one (default: 8000)")
    for name, value in least._asdict().items():
        words = {"k": "longest list", "history": "most events of a history", "body": "most bytes of a request's body"}
        parser.add_argument(
            f"--max-{name}", type=int, default=value, metavar="N", help=f"{words[name]} (default: {value})"
        )
    add_trust(parser)


def _run(arguments: argparse.Namespace) -> None:
    """Answer POST /recommend with the lists of a finished run.

    The body is JSON: history (item ids, oldest first) or user (an id of the run's dataset), and perhaps k and exclude
    (item ids). GET /health says what is served. There is no authentication: keep it on this machine, or behind a server
    that has one.
    """
    limits = Limits(*(getattr(arguments, f"max_{name}") for name in Limits._fields))
    check_least(1, **{f"max_{name}": value for name, value in limits._asdict().items()})
    check_installed("serve", "serve", "starlette", "uvicorn")
    with _listening(arguments.host, arguments.port) as listener:
        import uvicorn

        from recsys_lt.training.trained import Run

        run = Run(arguments.folder)
        app = application(run, limits, this_machine=ipaddress.ip_address(listener.getsockname()[0]).is_loopback)
        host, port = listener.getsockname()[:2]
        at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        names = run.stored.names
        print(f"{names.model} on {names.dataset}: POST http://{at}/recommend, Ctrl-C stops it", flush=True)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=5,
            ws="none",
        )
        uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens, before anything slow is imported."""
    where = f"{host}:{port}"
    if not 0 <= port < 1 << 16:
        raise UserError(f"it is {port}", where="--port", remedy="Give a number from 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
        # Connections inherit it; head and body of an answer would otherwise be 40 ms apart.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        what = f"it cannot be listened at ({error.strerror or error})"
        raise UserError(what, where=where, remedy="Give another --port, or a --host of this machine") from error


class _RefusedError(Exception):
    """A request that is answered with this status and one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, one_line(line)[:300]


def application(run: Run, limits: Limits, this_machine: bool = True) -> Starlette:
    """The service as an ASGI application, its model loaded.

    Where it is for ``this_machine`` alone, requests under another host name are refused: a web page cannot reach it by
    a name that it has pointed here.
    """
    from pydantic import BaseModel, ConfigDict, Field, ValidationError
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    most = min(limits.k, run.catalogue.n_items)

    class Question(BaseModel):
        model_config = ConfigDict(strict=True, extra="forbid")
        history: list[str] | None = Field(None, max_length=limits.history)
        user: str | None = Field(None, max_length=_LONGEST_ID)
        k: int = Field(min(10, most), ge=1, le=most)
        exclude: list[str] = Field([], max_length=limits.history)

    names, index = run.stored.names, run.catalogue.item_index
    first = str(run.catalogue.item_ids[0])
    if not run.parts.kind.keeps_users:
        list(run.lists(histories={"": [first]}, k=1))  # whatever is made at the first answer is made now
    busy = asyncio.Lock()  # a model computes one answer at a time, on all threads

    def answer(question: Question) -> dict[str, object]:
        unknown = 0
        exclude = [item for item in question.exclude if item in index]
        if question.history is not None:
            known = [item for item in question.history if item in index]
            unknown = len(question.history) - len(known)
            if not known:
                raise _RefusedError(400, f"history: no event is of an item of {names.dataset}")
            (found,) = run.lists(histories={"": known}, k=question.k, exclude=exclude)
        elif not run.catalogue.n_users:  # a pulled run: asking for its dataset might fetch it
            raise _RefusedError(400, "user: no users are known here, give history")
        else:
            (found,) = run.lists([str(question.user)], k=question.k, exclude=exclude)
        items = [
            {"item": i.item, "title": i.title, "score": i.score if abs(i.score) < float("inf") else None}
            for i in found.items
        ]
        return {"items": items, "unknown_events": unknown}

    async def recommend(request: Request) -> JSONResponse:
        try:
            question = Question.model_validate_json(await _body(request, limits.body))
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = ".".join(map(str, wrong["loc"]))
            raise _RefusedError(422, f"{place}: {wrong['msg']}" if place else wrong["msg"]) from error
        if (question.history is None) == (question.user is None):
            raise _RefusedError(422, "give either history or user")
        async with busy:
            return JSONResponse(await run_in_threadpool(answer, question))

    async def health(_request: Request) -> JSONResponse:
        return JSONResponse({"model": names.model, "dataset": names.dataset, "items": run.catalogue.n_items})

    async def refused(_request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, _RefusedError):
            return JSONResponse({"error": error.line}, error.status)
        if isinstance(error, UserError):
            status = 404 if error.where == "user" else 400
            return JSONResponse({"error": one_line(error.what)}, status)
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)

    return Starlette(
        routes=[Route("/recommend", recommend, methods=["POST"]), Route("/health", health)],
        middleware=[Middleware(TrustedHostMiddleware, _LOOPBACK)] if this_machine else [],
        exception_handlers={_RefusedError: refused, UserError: refused, HTTPException: refused},
    )


async def _body(request: Request, most: int) -> bytes:
    """A request's JSON, of at most so many bytes."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _RefusedError(415, "send JSON with the header Content-Type: application/json")
    body = b""
    try:
        async with asyncio.timeout(_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise _RefusedError(413, f"the body is larger than {most:,} bytes")
    except TimeoutError as error:
        raise _RefusedError(408, f"the body did not arrive within {_SECONDS} s") from error
    return body


main = Command(_options, _run)
