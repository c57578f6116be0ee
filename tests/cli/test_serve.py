import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from recsys_lt.cli import pull, push, serve
from recsys_lt.training.trained import Run

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def served(folder, **limits):
    """The port of a service in a thread of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = serve.application(Run(folder), serve.Limits(**limits))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def port(titled):
    with served(titled, k=20, history=30, body=4096) as number:
        yield number


def ask(port, body, path="/recommend", method="POST", headers=()):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    text = body if isinstance(body, str | bytes | None) else json.dumps(body)
    connection.request(method, path, text, {"Content-Type": "application/json"} | dict(headers))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def test_the_default_number_of_items_is_within_the_largest(titled):
    with served(titled, k=5, history=30, body=4096) as port:
        status, content = ask(port, {"user": "u3"})
    assert status == 200
    assert len(json.loads(content)["items"]) == 5


def refusal(port, body, **options):
    status, content = ask(port, body, **options)
    error = json.loads(content)["error"]
    assert error
    assert "\n" not in error
    return status, error


def test_answers_are_those_of_recommend(titled, port):
    run = Run(titled)
    for user in ("u0", "u3", "u7"):
        u = list(run.data.user_ids).index(user)
        history = [str(run.data.item_ids[i]) for i in run.data.items[run.data.offsets[u] : run.data.offsets[u + 1]]]
        (one,) = run.lists([user], k=7)
        for question in ({"user": user}, {"history": history}):
            status, content = ask(port, question | {"k": 7})
            assert status == 200
            answer = json.loads(content)
            assert [(i["item"], i["title"]) for i in answer["items"]] == [(i.item, i.title) for i in one.items]
            assert [i["score"] for i in answer["items"]] == pytest.approx([i.score for i in one.items], rel=1e-5)
            assert answer["unknown_events"] == 0
        gone = one.items[0].item
        _, content = ask(port, {"history": [*history, "unheard of"], "exclude": [gone, "no item"], "k": 6})
        answer = json.loads(content)
        assert [i["item"] for i in answer["items"]] == [i.item for i in one.items[1:]]
        assert answer["unknown_events"] == 1


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("", 422, "Invalid JSON"),
        ("[1]", 422, "object"),
        ({}, 422, "either history or user"),
        ({"user": "u3", "history": ["1"]}, 422, "either history or user"),
        ({"user": 3}, 422, "user: "),
        ({"user": "nobody"}, 404, "no user 'nobody'"),
        ({"history": []}, 400, "no event is of an item"),
        ({"history": ["unheard of"]}, 400, "no event is of an item"),
        ({"history": ["1"] * 31}, 422, "history: "),
        ({"user": "u3", "exclude": ["1"] * 31}, 422, "exclude: "),
        ({"user": "u3", "k": 21}, 422, "k: "),
        ({"user": "u3", "k": 0}, 422, "k: "),
        ({"user": "u3", "k": "5"}, 422, "k: "),
        ({"user": "u3", "size": 5}, 422, "size: "),
        ({"history": ["x" * 5000]}, 413, "larger than 4,096 bytes"),
        (b"\xff\xfe", 422, "Invalid JSON"),
        ('{"user": "u3", "k": 1e400}', 422, "k: "),
    ],
)
def test_bad_requests_get_a_status_and_a_line(port, body, status, says):
    found, error = refusal(port, body)
    assert found == status
    assert says in error


def test_other_requests(titled, port):
    assert ask(port, None, "/health", "GET")[1] == b'{"model":"sasrec","dataset":"synthetic","items":60}'
    assert refusal(port, None, path="/nothing", method="GET")[0] == 404
    assert refusal(port, None, method="GET")[0] == 405
    assert refusal(port, {"user": "u3"}, headers={"Content-Type": "text/plain"}.items())[0] == 415
    assert ask(port, {"user": "u3"}, headers={"Host": "attacker.example"}.items())[0] == 400


def test_a_pulled_run_serves_histories_alone(titled, tmp_path, command):
    assert command(push, titled, tmp_path / "pushed")[0] == command(pull, tmp_path / "pushed", tmp_path / "run")[0] == 0
    with served(tmp_path / "run") as port:
        assert refusal(port, {"user": "u3"}) == (400, "user: no users are known here, give history")
        status, content = ask(port, {"history": ["i1", "i2"], "k": 3})
        assert status == 200
        assert len(json.loads(content)["items"]) == 3


def test_a_body_that_does_not_arrive(titled, monkeypatch):
    monkeypatch.setattr(serve, "_SECONDS", 0.2)
    with served(titled) as port, socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
        head = ("POST /recommend HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Content-Length: 50")
        slow.sendall("\r\n".join([*head, "", ""]).encode())
        assert b" 408 " in slow.recv(4096)


def test_what_cannot_be_served_is_one_line(titled, tmp_path, refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "cannot be listened at" in refused(serve, titled, "--port", port)
    assert "from 0 to 65535" in refused(serve, titled, "--port", 70000)
    assert "at least 1" in refused(serve, titled, "--max-k", 0)
    assert "no such folder" in refused(serve, tmp_path / "none", "--port", 0)


def test_the_command_serves_until_it_is_stopped(titled):
    process = subprocess.Popen(
        [sys.executable, "-m", "recsys_lt", "serve", str(titled), "--port", "0"],
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert "sasrec on synthetic: POST http://127.0.0.1:" in line
        port = int(line.partition("127.0.0.1:")[2].partition("/")[0])
        for _ in range(100):
            try:
                assert ask(port, {"user": "u3"})[0] == 200
                break
            except ConnectionError:
                time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == "interrupted (SIGINT)\n"
    finally:
        process.kill()
        process.wait()
