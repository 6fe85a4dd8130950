"""The local services, reached through proxies."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from local.services import LocalServices


def through(
    services: LocalServices,
    *,
    kinesis: str | None = None,
    dynamodb: str | None = None,
    snowflake: str | None = None,
) -> LocalServices:
    """The same services at other addresses, for clients and Airflow connections that lead through proxies.

    The environment of another process: ``os.environ | through(services, ...).airflow_connections()``.

    :param kinesis: URL of a proxy before Kinesis; None: straight to it. The others likewise.
    """
    detour = copy(services)
    detour.kinesis_url = kinesis or services.kinesis_url
    detour.dynamodb_url = dynamodb or services.dynamodb_url
    detour.snowflake_port = port_of(snowflake) if snowflake else services.snowflake_port
    return detour


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port
