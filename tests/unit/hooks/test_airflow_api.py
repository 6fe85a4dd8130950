"""What Airflow's API tells of its tasks."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_kinesis_snowflake.hooks.airflow_api import AirflowApiHook

if TYPE_CHECKING:
    from collections.abc import Iterator


class Api(BaseHTTPRequestHandler):
    """Knows of task instances of two operators, a hundred a page."""

    applications: ClassVar[dict[str, list[str | None]]] = {
        "KinesisToSnowflakeOperator": [None, *(f"one-{number}" for number in range(150))],
        "KinesisStreamsToSnowflakeOperator": ["many"],
    }

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        assert url.path == "/api/v2/dags/~/dagRuns/~/taskInstances"
        known = self.applications[query["operator"][0]]
        begin = int(query["offset"][0])
        page = [
            {"rendered_fields": {"application_name": name} if name else None}
            for name in known[begin : begin + int(query["limit"][0])]
        ]
        answer = json.dumps({"task_instances": page, "total_entries": len(known)}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[AirflowApiHook]:
    with HTTPServer(("127.0.0.1", 0), Api) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        connection = {"conn_type": "http", "host": f"http://127.0.0.1:{server.server_port}"}
        monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps({**connection, "extra": {"token": "t"}}))
        yield AirflowApiHook("api")
        server.shutdown()
        thread.join()


def test_applications_of_all_tasks_that_drain_are_in_use(api: AirflowApiHook) -> None:
    assert api.applications() == {*(f"one-{number}" for number in range(150)), "many"}
