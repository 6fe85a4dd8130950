"""The wheel in Airflow of other minor versions: one drain through the scheduler, and the page.

``test_first_dag.py`` does it with the latest.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import requests

from local.airflow import AirflowApi, LocalAirflow
from local.transfer import BY_HAND_ONLY, DAG_ID, transfer
from tests.install.conftest import ONLY_INSTALLED, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mypy_boto3_kinesis import KinesisClient

    from local.services import LocalServices

pytestmark = pytest.mark.install

RECORDS = 100


@pytest.fixture(params=["3.1", "3.2"], ids=lambda version: f"airflow-{version}")
def airflow(
    request: pytest.FixtureRequest, environment: Callable[[str], Path], services: LocalServices
) -> Iterator[LocalAirflow]:
    commands = environment(request.param)
    [dags] = commands.parent.glob("lib/*/site-packages/airflow_kinesis_snowflake/example_dags")
    with LocalAirflow(
        env={**services.airflow_connections(), **BY_HAND_ONLY, **ONLY_INSTALLED},
        dags=dags,
        program=commands / "airflow",
    ) as airflow:
        version = requests.get(f"{airflow.url}/api/v2/version", timeout=60).json()["version"]
        assert version.startswith(request.param)
        yield airflow


def test_a_drain_moves_a_stream_and_the_page_shows_it(
    airflow: LocalAirflow,
    services: LocalServices,
    kinesis: KinesisClient,
    make_stream: Callable[..., str],
    application_name: str,
    table: str,
) -> None:
    stream, api = make_stream(), airflow.api()
    kinesis.put_records(
        StreamName=stream,
        Records=[{"Data": json.dumps({"n": n}).encode(), "PartitionKey": str(n)} for n in range(RECORDS)],
    )

    without_settings = states_after_a_run(api)
    moved = transfer(
        api,
        services,
        conf={"stream_name": stream, "application_name": application_name, "table": table},
    )

    assert without_settings == {"plan": "success", "drain": "skipped", "summarise": "skipped"}
    assert (moved.records, moved.dead_letters) == (RECORDS, 0)
    assert "<html" in opened(f"{airflow.url}/kinesis-snowflake/", api)
    assert application_name in opened(f"{airflow.url}/kinesis-snowflake/api/applications", api)


def states_after_a_run(api: AirflowApi) -> dict[str, str]:
    """Run the DAG without any setting, and return how its tasks ended."""
    api.wait_for_dag(DAG_ID)
    api.unpause(DAG_ID)
    run_id = api.trigger(DAG_ID)
    api.wait_for_run(DAG_ID, run_id)
    return {task["task_id"]: task["state"] for task in api.task_instances(DAG_ID, run_id)}
