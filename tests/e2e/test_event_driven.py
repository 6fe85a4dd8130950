"""A whole Airflow drains a stream by itself when there is something in it, and starts who waits for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from local.airflow import wait_until
from tests.helpers import fetch

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_kinesis import KinesisClient
    from snowflake.connector import SnowflakeConnection

    from local.airflow import AirflowApi, LocalAirflow
    from tests.e2e.conftest import Metrics

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
def api(
    airflow: LocalAirflow,
    add_dags: Callable[[str, str], None],
    stream: str,
    application_name: str,
    table: str,
) -> AirflowApi:
    """An Airflow with the example and a DAG that reads the landing table; nobody starts them."""
    api = airflow.api()
    for name, value in {"stream_name": stream, "application_name": application_name, "table": table}.items():
        api.set_variable(f"drain_clicks_{name}", value)
    text = EXAMPLE.read_text()
    text = text.replace("clicks-to-snowflake", application_name)
    text = text.replace('stream_name="clicks",', f'stream_name="{stream}", poll_seconds=1,')
    add_dags("drain.py", text)
    add_dags("read.py", READER.format(table=table.replace(".", "/")))
    for dag_id in ("drain_clicks", "read_clicks"):
        api.wait_for_dag(dag_id)
        api.unpause(dag_id)
    return api


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


def test_records_are_drained_when_they_come_and_their_readers_told(
    api: AirflowApi,
    kinesis: KinesisClient,
    snowflake_connection: SnowflakeConnection,
    stream: str,
    application_name: str,
    table: str,
    metrics: Metrics,
) -> None:
    metrics.sums()
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

    sums = metrics.sums()
    named = f"airflow.kinesis_snowflake.{application_name}.{stream}"
    assert sums[f"{named}.records"] == sums["airflow.kinesis_snowflake.records"] == 150
    assert sums[f"{named}.bytes"] == 150
