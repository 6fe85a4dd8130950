"""DAG ``kinesis_to_snowflake``, started through the REST API of a real Airflow, moves a stream once."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import requests

from local import flights
from local.airflow import RunFailedError
from local.transfer import transfer

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_kinesis import KinesisClient

    from local.airflow import LocalAirflow
    from local.services import LocalServices

pytestmark = pytest.mark.e2e

DRAIN = "kinesis_to_snowflake"
MANY_STREAMS = """
from airflow.sdk import DAG
from airflow_kinesis_snowflake.operators.kinesis_streams_to_snowflake import KinesisStreamsToSnowflakeOperator

with DAG("many_streams", schedule=None, params={"application": "", "pattern": "", "table": ""}):
    KinesisStreamsToSnowflakeOperator(
        task_id="drain",
        application_name="{{ params.application }}",
        stream_pattern="{{ params.pattern }}",
        table="{{ params.table }}",
    )
"""


def test_flights_land_once_and_a_run_without_news_leaves_snowflake_alone(
    services: LocalServices, airflow: LocalAirflow, kinesis: KinesisClient, application_name: str, table: str
) -> None:
    sample = flights.january().head(3_000)
    stream = f"flights-of-{application_name}"
    flights.put(kinesis, stream, sample)
    conf = {"stream_name": stream, "application_name": application_name, "table": table}

    first = transfer(airflow.api(), services, conf=conf)
    second = transfer(airflow.api(), services, conf=conf)

    assert flights.landed(services, table) == flights.figures(sample)
    assert (first.records, first.dead_letters, first.shards) == (3_000, 0, flights.SHARDS + 2)
    assert (second.records, second.snowflake_logins) == (0, 0)


def test_a_drain_that_fails_says_in_one_line_what_to_do_and_in_its_label_that_it_failed(
    airflow: LocalAirflow, application_name: str, table: str
) -> None:
    api = airflow.api()
    conf = {"stream_name": "clikcs", "application_name": application_name, "table": table}
    api.wait_for_dag(DRAIN)
    api.unpause(DRAIN)
    run_id = api.trigger(DRAIN, conf=conf)
    with pytest.raises(RunFailedError):
        api.wait_for_run(DRAIN, run_id)

    [drain] = [each for each in api.task_instances(DRAIN, run_id) if each["task_id"] == "drain"]
    assert drain["rendered_map_index"] == "failed: StreamNotFoundError"
    events = [json.loads(line) for line in api.log(drain).splitlines()]
    [ours] = [
        event["event"]
        for event in events
        if event.get("level") == "error" and event.get("logger", "").startswith("airflow_kinesis_snowflake.")
    ]
    assert ours.startswith("Check its name or ARN")
    assert "(connection 'aws_default')" in ours
    # What Airflow itself says of the failure doesn't say it twice.
    causes = [error["exc_type"] for event in events for error in event.get("error_detail", ())]
    assert causes == ["AirflowFailException"]


def test_ten_streams_are_drained_by_one_task_and_the_page_has_a_line_for_each(
    airflow: LocalAirflow,
    add_dags: Callable[[str, str], None],
    services: LocalServices,
    kinesis: KinesisClient,
    make_stream: Callable[..., str],
    application_name: str,
    database: str,
) -> None:
    streams = sorted(make_stream() for _ in range(10))
    for stream in streams:
        kinesis.put_record(StreamName=stream, PartitionKey="k", Data=b'{"n": 1}')
    conf = {
        "application": application_name,
        "pattern": "|".join(map(re.escape, streams)),
        "table": f"{database}.PUBLIC.{{stream}}",
    }
    add_dags("many_streams.py", MANY_STREAMS)
    api = airflow.api()
    api.wait_for_dag("many_streams")
    api.unpause("many_streams")
    logins = services.snowflake_logins()

    def run() -> dict[str, Any]:
        run_id = api.trigger("many_streams", conf=conf)
        api.wait_for_run("many_streams", run_id)
        [drain] = api.task_instances("many_streams", run_id)
        returned: dict[str, Any] = api.xcom(drain)
        return returned

    first = run()
    assert sorted(first["streams"]) == streams
    assert first["totals"]["records"] == 10
    assert 0 < services.snowflake_logins() - logins < 10

    logins = services.snowflake_logins()
    second = run()
    assert (second["streams"], second["idle"], services.snowflake_logins()) == ({}, streams, logins)

    shown = requests.get(
        f"{airflow.url}/kinesis-snowflake/api/applications",
        headers={"Authorization": f"Bearer {api.token}"},
        timeout=60,
    ).json()["applications"]
    lines = [line for line in shown if line["application"] == application_name]
    assert sorted(line["stream"] for line in lines) == streams
    assert {line["last_state"] for line in lines} == {"success"}
