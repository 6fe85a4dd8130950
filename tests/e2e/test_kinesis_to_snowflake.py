"""DAG ``kinesis_to_snowflake``, started through the REST API of a real Airflow, moves a stream once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local import flights
from local.airflow import LocalAirflow
from local.transfer import BY_HAND_ONLY, transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_kinesis import KinesisClient

    from local.services import LocalServices

pytestmark = pytest.mark.e2e


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
