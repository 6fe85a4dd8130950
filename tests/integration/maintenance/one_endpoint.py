"""Kinesis and DynamoDB behind one address, for clients that take only one."""

from __future__ import annotations

import http.client
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@contextmanager
def one_endpoint(services: Mapping[str, str]) -> Iterator[str]:
    """Serve on 127.0.0.1 until the block ends; gives the address.

    :param services: beginning of a call's name (``X-Amz-Target``) to the address of its service; what belongs
        to no service, such as metrics, is answered with nothing
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            target = self.headers.get("X-Amz-Target", "")
            url = next((url for name, url in services.items() if target.startswith(name)), None)
            if url is None:
                self._answer(200, "application/json", b"{}")
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)) as service:
                service.request("POST", self.path, body, headers)
                answer = service.getresponse()
                self._answer(answer.status, answer.headers.get("Content-Type", ""), answer.read())

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
