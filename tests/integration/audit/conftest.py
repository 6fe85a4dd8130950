"""An audit of a pipeline on the local services."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import snowflake.connector

from airflow_kinesis_snowflake.audit.auditing import AuditRequest, audit, open_landed
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.identifiers import TableName
from local.services import wait_until_active
from tests.integration.stream.history import History, make_history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_kinesis import KinesisClient
    from snowflake.connector import SnowflakeConnection

    from airflow_kinesis_snowflake.audit.findings import AuditReport
    from local.services import LocalServices

__all__ = ["make_history"]


@pytest.fixture
def live(make_history: Callable[..., History]) -> History:
    """A history of two shards with ten numbers each, all landed."""
    return filled(make_history(2))


@pytest.fixture(scope="session")
def origin(services: LocalServices, kinesis: KinesisClient) -> Iterator[History]:
    """The same, for the tests that change nothing but copies of its tables."""
    name = f"audit-{uuid.uuid4().hex[:12]}"
    database = name.upper().replace("-", "_")
    with snowflake.connector.connect(**services.snowflake_parameters()) as connection:
        for statement in (f"CREATE DATABASE {database}", f"CREATE SCHEMA IF NOT EXISTS {database}.PUBLIC"):
            connection.cursor().execute(statement)
        kinesis.create_stream(StreamName=name, ShardCount=2)
        wait_until_active(kinesis, name)
        yield filled(History(kinesis, connection, name, name, TableName(database, "PUBLIC", "RECORDS")))
        kinesis.delete_stream(StreamName=name)


@pytest.fixture
def drained(origin: History, snowflake_connection: SnowflakeConnection) -> History:
    """A history of two shards with ten numbers each, all landed, whose tables are the test's own.

    Stream and state aren't: a test that changes these takes ``live``.
    """
    table = TableName(origin.table.database, f"copy-{uuid.uuid4().hex[:12]}", origin.table.name)
    copy = replace(origin, snowflake=snowflake_connection, table=table)
    copy.query(f"CREATE SCHEMA {table.schema_sql}")
    for name in (table.name, "KINESIS_OFFSETS", "KINESIS_DEAD_LETTERS"):
        copy.query(f"CREATE TABLE {table.beside(name).sql} AS SELECT * FROM {origin.table.beside(name).sql}")
    return copy


def filled(history: History) -> History:
    """Write ten numbers to each shard, and drain them."""
    for shard_id in history.open_shards:
        history.put(shard_id, 10)
    history.run()
    return history


@pytest.fixture
def audited() -> Callable[..., AuditReport]:
    """Function that audits a history."""

    def audit_of(history: History, *, together_with: tuple[str, ...] = (), **asked: Any) -> AuditReport:
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
