"""A schema registry over HTTP, as far as Confluent's serializers and this package's client ask it."""

from __future__ import annotations

import base64
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOGIN = ("ann", "secret")


@dataclass
class LocalRegistry:
    """Keeps schemas by id; what it is asked is noted, and may be answered by something else.

    :param instead: answers in the place of the registry: status and body by path, or ``None``
    """

    url: str = ""
    schemas: dict[int, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, list[int]] = field(default_factory=dict)
    serialized: dict[int, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    instead: Callable[[str], tuple[int, bytes] | None] = lambda _: None

    def register(self, subject: str, schema: dict[str, Any], *, serialized: str | None = None) -> int:
        """Keep a schema, once, as the body of a POST has it; gives its id.

        :param serialized: what is given in the place of a Protobuf text where that is asked for
        """
        found = next((number for number, each in self.schemas.items() if each == schema), None)
        number = found or 100 + len(self.schemas)
        self.schemas[number] = schema
        if serialized:
            self.serialized[number] = serialized
        versions = self.versions.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        self.asked.append(f"{method} {target}")
        parts = urlsplit(target)
        path, asked = parts.path, parse_qs(parts.query)
        if (other := self.instead(path)) is not None:
            return other
        status, found = self._found(method, [unquote(part) for part in path.strip("/").split("/")], body)
        number = found.get("id")
        if asked.get("format") == ["serialized"] and number in self.serialized:
            found = {**found, "schema": self.serialized[number]}
        return status, json.dumps(found).encode()

    def _found(self, method: str, path: list[str], body: bytes) -> tuple[int, dict[str, Any]]:
        match method, path:
            case "GET", ["schemas", "ids", number] if int(number) in self.schemas:
                return 200, {**self.schemas[int(number)], "id": int(number)}
            case "GET", ["schemas", "ids", _]:
                return 404, {"error_code": 40403, "message": "Schema not found"}
            case "GET", ["subjects", subject, "versions", version]:
                number_of_version = self.versions[subject][int(version) - 1]
                return 200, {
                    **self.schemas[number_of_version],
                    "id": number_of_version,
                    "subject": subject,
                    "version": int(version),
                }
            case "POST", ["subjects", subject] | ["subjects", subject, "versions"]:
                schema = json.loads(body)
                id_ = self.register(subject, schema)
                place = self.versions[subject].index(id_) + 1
                return 200, {**schema, "id": id_, "subject": subject, "version": place}
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}


@contextmanager
def local_registry() -> Iterator[LocalRegistry]:
    """A registry for as long as the block runs, for those who log in."""
    registry = LocalRegistry()
    expected = f"Basic {base64.b64encode(':'.join(LOGIN).encode()).decode()}"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Authorization") == expected:
                status, answer = registry.answer(self.command, self.path, body)
            else:
                status, answer = 401, b'{"error_code": 401}'
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        registry.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
