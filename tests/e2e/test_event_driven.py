"""A whole Airflow drains a stream by itself when there is something in it, and starts who waits for it."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from local.airflow import LocalAirflow, wait_until
from tests.helpers import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_kinesis import KinesisClient
    from snowflake.connector import SnowflakeConnection

    from local.airflow import AirflowApi
    from local.services import LocalServices

pytestmark = pytest.mark.e2e

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "event_driven.py"
READER = """
from airflow.sdk import DAG, Asset, task

table = Asset("snowflake://local/{table}")

@task(inlets=[table])
def read(inlet_events=None):
    return [event.extra for event in inlet_events[table]]

with DAG("read_clicks", schedule=table):
    read()
"""


@pytest.fixture
def stream(make_stream: Callable[..., str]) -> str:
    return make_stream(2)


@pytest.fixture
def statsd() -> Iterator[socket.socket]:
    """Where Airflow sends its metrics."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        yield server


@pytest.fixture
def api(
    services: LocalServices,
    stream: str,
    application_name: str,
    table: str,
    statsd: socket.socket,
    tmp_path: Path,
) -> Iterator[AirflowApi]:
    """An Airflow whose DAGs are the example and one that reads the landing table; nobody starts them."""
    text = EXAMPLE.read_text()
    text = text.replace("clicks-to-snowflake", application_name)
    text = text.replace('stream_name="clicks",', f'stream_name="{stream}", poll_seconds=1,')
    (tmp_path / "drain.py").write_text(text)
    (tmp_path / "read.py").write_text(READER.format(table=table.replace(".", "/")))
    settings = {
        "AIRFLOW_VAR_DRAIN_CLICKS_STREAM_NAME": stream,
        "AIRFLOW_VAR_DRAIN_CLICKS_APPLICATION_NAME": application_name,
        "AIRFLOW_VAR_DRAIN_CLICKS_TABLE": table,
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "false",
        "AIRFLOW__METRICS__STATSD_ON": "true",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(statsd.getsockname()[1]),
        "AIRFLOW__METRICS__METRICS_ALLOW_LIST": "^kinesis_snowflake",
    }
    with LocalAirflow(env=services.airflow_connections() | settings, dags=tmp_path) as airflow:
        yield airflow.api()


def put(kinesis: KinesisClient, stream: str, count: int) -> None:
    records: Any = [{"PartitionKey": str(number), "Data": b"1"} for number in range(count)]
    assert kinesis.put_records(StreamName=stream, Records=records)["FailedRecordCount"] == 0


def landed(connection: SnowflakeConnection, table: str) -> int:
    with connection.cursor() as cursor:
        database = table.partition(".")[0]
        tables = f"{database}.INFORMATION_SCHEMA.TABLES"
        [[found]] = fetch(cursor, f"SELECT COUNT(*) FROM {tables} WHERE TABLE_NAME = 'RECORDS'")
        if not found:
            return 0
        [[count]] = fetch(cursor, f"SELECT COUNT(*) FROM {table}")
    return int(count)


def wait_until_landed(count: int, connection: SnowflakeConnection, table: str) -> None:
    wait_until(
        lambda: landed(connection, table) == count or None, timeout=180, what=f"{count} records in the table"
    )


def results(api: AirflowApi, dag_id: str, task_id: str) -> list[Any]:
    """What the task returned in each run that has ended, by run."""
    ended = [run for run in api.runs(dag_id) if run["state"] in ("success", "failed")]
    assert {run["state"] for run in ended} <= {"success"}
    tasks = [task for run in ended for task in api.task_instances(dag_id, run["dag_run_id"])]
    return [api.xcom(task) for task in tasks if task["task_id"] == task_id]


def metrics(statsd: socket.socket) -> dict[str, float]:
    """The sum of each metric that was sent so far."""
    sums: dict[str, float] = {}
    while True:
        try:
            datagram = statsd.recv(65_536).decode()
        except BlockingIOError:
            return sums
        for line in datagram.splitlines():
            name, _, value = line.partition(":")
            sums[name] = sums.get(name, 0) + float(value.partition("|")[0])


def test_records_are_drained_when_they_come_and_their_readers_told(
    api: AirflowApi,
    kinesis: KinesisClient,
    snowflake_connection: SnowflakeConnection,
    stream: str,
    application_name: str,
    table: str,
    statsd: socket.socket,
) -> None:
    put(kinesis, stream, 100)
    wait_until_landed(100, snowflake_connection, table)
    put(kinesis, stream, 50)
    wait_until_landed(150, snowflake_connection, table)

    def all_told() -> list[dict[str, Any]] | None:
        """The events of the table, when they are about all records."""
        for events in results(api, "read_clicks", "read"):
            if sum(event["records"] for event in events) == 150:
                return list(events)
        return None

    read = wait_until(all_told, timeout=120, what="events of 150 records")
    totals = results(api, "drain_clicks", "summarise")
    assert sum(total["records"] for total in totals) == landed(snowflake_connection, table) == 150
    assert {event["application_name"] for event in read} == {application_name}

    [run, *_] = api.runs("drain_clicks")
    [drain] = [
        task for task in api.task_instances("drain_clicks", run["dag_run_id"]) if task["task_id"] == "drain"
    ]
    links = api.links(drain)
    assert json.dumps(links).count(stream) == 2
    assert all(links.values())

    sums = metrics(statsd)
    named = f"airflow.kinesis_snowflake.{application_name}.{stream}"
    assert sums[f"{named}.records"] == sums["airflow.kinesis_snowflake.records"] == 150
    assert sums[f"{named}.bytes"] == 150
