"""Fixtures that put proxies in front of the local services.

A plugin of pytest; a test module or the topmost conftest says ``pytest_plugins = ["tests.faults.fixtures"]``.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import pytest

from local.fan_out import FanOut
from tests.faults.detours import port_of
from tests.faults.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.services import LocalServices


@pytest.fixture
def detour(services: LocalServices) -> LocalServices:
    """The local services, reached through the proxies of the test, as by Airflow's default connections."""
    return copy(services)


@pytest.fixture
def kinesis_proxy(
    services: LocalServices, detour: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    """A proxy before Kinesis."""
    with FaultProxy(services.kinesis_url) as proxy:
        detour.kinesis_url = proxy.url
        lead_airflow_there(detour, monkeypatch)
        yield proxy


@pytest.fixture
def dynamodb_proxy(
    services: LocalServices, detour: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    """A proxy before DynamoDB."""
    with FaultProxy(services.dynamodb_url) as proxy:
        detour.dynamodb_url = proxy.url
        lead_airflow_there(detour, monkeypatch)
        yield proxy


@pytest.fixture
def snowflake_proxy(
    services: LocalServices, detour: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    """A proxy before Snowflake, and before the storage behind its stages."""
    with FaultProxy(f"http://{services.snowflake_host}:{services.snowflake_port}") as proxy:
        detour.snowflake_port = port_of(proxy.url)
        lead_airflow_there(detour, monkeypatch)
        yield proxy


@pytest.fixture
def fan_out(
    services: LocalServices, detour: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FanOut]:
    """Enhanced fan-out before Kinesis; a shard may be subscribed to again at once."""
    with FanOut(services.kinesis_url) as server:
        server.rules.between_seconds = 0
        detour.kinesis_url = server.url
        lead_airflow_there(detour, monkeypatch)
        yield server


def lead_airflow_there(services: LocalServices, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in services.airflow_connections().items():
        monkeypatch.setenv(name, value)
