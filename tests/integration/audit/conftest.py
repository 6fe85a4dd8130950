"""An audit of a pipeline on the local services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.audit.auditing import AuditRequest, audit, open_landed
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.landing.identifiers import TableName
from tests.integration.stream.history import History

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_kinesis import KinesisClient
    from snowflake.connector import SnowflakeConnection

    from airflow_kinesis_snowflake.audit.findings import Report


@pytest.fixture
def make_history(
    make_stream: Callable[..., str],
    kinesis: KinesisClient,
    snowflake_connection: SnowflakeConnection,
    application_name: str,
    table: str,
) -> Callable[..., History]:
    """Function that makes a history that begins with so many shards."""

    def make(shards: int = 1) -> History:
        return History(
            kinesis, snowflake_connection, make_stream(shards), application_name, TableName.parse(table)
        )

    return make


@pytest.fixture
def drained(make_history: Callable[..., History]) -> History:
    """A history of two shards with ten numbers each, all landed."""
    history = make_history(2)
    for shard_id in history.open_shards:
        history.put(shard_id, 10)
    history.run()
    return history


@pytest.fixture
def audited() -> Callable[..., Report]:
    """Function that audits a history."""

    def audit_of(history: History, *, together_with: tuple[str, ...] = (), **asked: Any) -> Report:
        request = AuditRequest(
            stream=history.stream, applications=(history.application, *together_with), **asked
        )
        with open_landed(str(history.table), snowflake_conn_id="snowflake_default") as landed:
            return audit(
                request,
                landed=landed,
                open_store=CheckpointStoreHook,
                kinesis=KinesisStreamHook(history.stream),
            )

    return audit_of
