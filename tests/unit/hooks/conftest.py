"""A server that answers as AWS does when no local service can."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Answers:
    """What the server answers, first to last; the last answer is repeated."""

    queue: list[tuple[int, bytes]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)

    def add(self, status: int, body: dict[str, Any] | bytes) -> None:
        self.queue.append((status, body if isinstance(body, bytes) else json.dumps(body).encode()))

    def add_error(self, code: str, message: str = "", *, status: int = 400) -> None:
        self.add(status, {"__type": code, "message": message})

    def next(self) -> tuple[int, bytes]:
        return self.queue.pop(0) if len(self.queue) > 1 else self.queue[0]

    def clear(self) -> None:
        self.queue.clear()
        self.requests.clear()


@pytest.fixture(scope="module")
def aws_of_module() -> Iterator[Answers]:
    """Answers of the AWS that Airflow's connection ``aws_default`` leads to."""
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answers.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status, body = answers.next()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        connect(patch, server.server_port)
        yield answers
        server.shutdown()
        thread.join()


@pytest.fixture
def aws(aws_of_module: Answers) -> Answers:
    """The answers, none yet."""
    aws_of_module.clear()
    return aws_of_module


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """``aws_default`` leads to a port where nobody listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_port
    connect(monkeypatch, port)


def connect(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    connection = {
        "conn_type": "aws",
        "login": "access-key",
        "password": "secret-key",
        "extra": {"region_name": "eu-west-1", "endpoint_url": f"http://127.0.0.1:{port}"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
