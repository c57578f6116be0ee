"""Requests a second and response times of ``recsys_lt serve``, and of exact search in large catalogues.

    python studies/speed/serve.py outputs/<run>              # the service, clients in threads of this process
    python studies/speed/serve.py --items 100000 1000000     # one ranking of a catalogue of so many random vectors

The first answers are compared with ``Run.recommend``. One line of JSON a measurement.
"""

import argparse
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import recsys_lt
from recsys_lt.losses.output_table import OutputTable
from recsys_lt.recommenders.full_ranking import rank_by_scores

_K, _LONGEST, _WIDTH, _COMPARED = 10, 50, 64, 20


def _histories(items: list[str], n: int, seed: int) -> list[list[str]]:
    random = np.random.default_rng(seed)
    return [[items[i] for i in random.integers(0, len(items), random.integers(1, _LONGEST + 1))] for _ in range(n)]


def _connection(port: int) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    # Head and body are two packets: without it the second waits 40 ms for the first to be acknowledged.
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _ask(connection: http.client.HTTPConnection, history: list[str]) -> dict[str, Any]:
    body = json.dumps({"history": history, "k": _K})
    connection.request("POST", "/recommend", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content: dict[str, Any] = json.loads(answer.read())
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {content}")
    return content


def _client(port: int, items: list[str], seed: int, end: float, seconds: list[float]) -> None:
    connection = _connection(port)
    for history in _histories(items, 1000, seed) * 1000:
        begin = time.perf_counter()
        if begin > end:
            break
        _ask(connection, history)
        seconds.append(time.perf_counter() - begin)
    connection.close()


def _service(folder: Path, clients: list[int], duration: float) -> None:
    command = [sys.executable, "-m", "recsys_lt", "serve", str(folder), "--port", "0"]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            line = service.stdout.readline()
            print(json.dumps({"ready_after": round(time.perf_counter() - begin, 2), "says": line.strip()}))
            port = int(line.partition("127.0.0.1:")[2].partition("/")[0])
            run = recsys_lt.load(folder)
            items = [str(item) for item in run.catalogue.item_ids]
            _compare(port, run, items)
            for n in clients:
                seconds: list[float] = []
                end = time.perf_counter() + duration
                threads = [threading.Thread(target=_client, args=(port, items, c, end, seconds)) for c in range(n)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
                print(
                    json.dumps(
                        {
                            "clients": n,
                            "items": len(items),
                            "requests_per_second": round(len(seconds) / duration, 1),
                            "p50_ms": round(p50, 2),
                            "p99_ms": round(p99, 2),
                        }
                    ),
                    flush=True,
                )
        finally:
            service.terminate()


def _compare(port: int, run: Any, items: list[str]) -> None:
    connection = _connection(port)
    for history in _histories(items, _COMPARED, seed=999):
        listed = [item["item"] for item in _ask(connection, history)["items"]]
        if listed != list(run.recommend(histories={"": history}, k=_K)["item"]):
            raise RuntimeError(f"the service and Run.recommend differ for {history}")
    print(json.dumps({"equal_answers": _COMPARED}))


def _exact(n_items: int) -> None:
    table, seconds = OutputTable(torch.randn(n_items, _WIDTH)), []
    nothing = torch.zeros(0, dtype=torch.int64)
    with torch.inference_mode():
        for _ in range(20):
            state, begin = torch.randn(1, _WIDTH), time.perf_counter()
            rank_by_scores(state, table, nothing, None, _K)
            seconds.append(time.perf_counter() - begin)
    p50 = round(float(np.median(seconds)) * 1e3, 2)
    print(json.dumps({"items": n_items, "width": _WIDTH, "threads": torch.get_num_threads(), "p50_ms": p50}))


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="a finished run")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--items", type=int, nargs="+", default=[], help="catalogues to rank exactly")
    arguments = parser.parse_args()
    for n_items in arguments.items:
        _exact(n_items)
    if arguments.folder is not None:
        _service(arguments.folder, arguments.clients, arguments.seconds)


if __name__ == "__main__":
    main()
