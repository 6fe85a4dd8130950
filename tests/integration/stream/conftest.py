"""Streams with a past, on both emulators of Kinesis."""

from __future__ import annotations

import os
from copy import copy
from typing import TYPE_CHECKING

import pytest

from local.processes import Process
from local.services import HERE, REGION, find_node, wait_until_it_answers
from tests.faults.fixtures import detour, kinesis_proxy, lead_airflow_there
from tests.integration.stream.history import make_history

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

    from local.services import LocalServices

__all__ = ["detour", "kinesis_proxy", "make_history"]


@pytest.fixture(scope="session")
def kinesis_local_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the other emulator."""
    command: list[str | Path] = [find_node(), HERE / "serve.cjs", "kinesis-local"]
    folder = tmp_path_factory.mktemp("kinesis-local")
    env = {**os.environ, "AWS_REGION": REGION}
    with Process("kinesis-local", command, folder=folder, env=env) as process:
        yield f"http://127.0.0.1:{wait_until_it_answers(process)}"


@pytest.fixture(params=["kinesalite", "kinesis-local"])
def emulator(request: pytest.FixtureRequest) -> str:
    """Name of the emulator. A test that needs one of them says ``parametrize("emulator", [name])``."""
    return str(request.param)


@pytest.fixture
def services(
    emulator: str, services: LocalServices, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> LocalServices:
    """The local services with one emulator of Kinesis or the other; Airflow's connections lead there."""
    if emulator == "kinesalite":
        return services
    other = copy(services)
    other.kinesis_url = request.getfixturevalue("kinesis_local_url")
    lead_airflow_there(other, monkeypatch)
    return other


@pytest.fixture
def kinesis(services: LocalServices) -> KinesisClient:
    """A plain client of the emulator."""
    return services.kinesis_client()


@pytest.fixture
def dynamodb(services: LocalServices) -> DynamoDBClient:
    """A plain client of the local DynamoDB."""
    return services.dynamodb_client()
