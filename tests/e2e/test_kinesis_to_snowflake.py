"""DAG ``kinesis_to_snowflake``, started through the REST API of a real Airflow, moves a stream once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from local import flights
from local.airflow import LocalAirflow, RunFailedError
from local.transfer import BY_HAND_ONLY, transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_kinesis import KinesisClient

    from local.services import LocalServices

pytestmark = pytest.mark.e2e

DRAIN = "kinesis_to_snowflake"


@pytest.fixture(scope="module")
def airflow(services: LocalServices) -> Iterator[LocalAirflow]:
    with LocalAirflow(env=services.airflow_connections() | BY_HAND_ONLY) as airflow:
        yield airflow


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
