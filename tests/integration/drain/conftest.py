"""A drain on the local services, and what it left behind."""

from __future__ import annotations

import json
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import snowflake.connector

from airflow_kinesis_snowflake.engine.drain import Drain
from airflow_kinesis_snowflake.engine.runtime import MACHINE
from airflow_kinesis_snowflake.engine.settings import DrainSettings, Worker
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.factories import Copy, Landing, Streaming
from airflow_kinesis_snowflake.sources.polling import PollingSource
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON
from tests.conftest import application_in, database_at, streams_of
from tests.helpers import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient
    from snowflake.connector import SnowflakeConnection

    from airflow_kinesis_snowflake.engine.ports import Source
    from airflow_kinesis_snowflake.engine.runtime import Runtime
    from airflow_kinesis_snowflake.state.shards import StreamState
    from local.services import LocalServices


@dataclass
class Pipeline:
    """One stream, one application, one landing table; numbered records go in."""

    kinesis: KinesisClient
    snowflake: SnowflakeConnection
    stream: str
    application: str
    table: TableName
    sent: list[int] = field(default_factory=list)

    def send(self, count: int, *, key: Callable[[int], str] = str) -> None:
        """Put the next ``count`` numbers into the stream."""
        numbers = range(len(self.sent), len(self.sent) + count)
        for start in range(0, count, 500):
            self.send_payloads(
                [(key(number), json.dumps({"n": number}).encode()) for number in numbers[start : start + 500]]
            )
        self.sent += numbers

    def send_payloads(self, payloads: list[tuple[str, bytes]]) -> None:
        """Put payloads as they are, with their partition keys."""
        answer = self.kinesis.put_records(
            StreamName=self.stream, Records=[{"PartitionKey": key, "Data": data} for key, data in payloads]
        )
        assert answer["FailedRecordCount"] == 0

    def drain(
        self,
        *,
        worker: Worker | None = None,
        source: Source | None = None,
        sink: str = "copy",
        runtime: Runtime = MACHINE,
        **settings: Any,
    ) -> Drain:
        """A drain that hasn't begun; by default of all that was sent, also in this very millisecond."""
        how = {field.name: settings.pop(field.name) for field in fields(Landing) if field.name in settings}
        landing = Landing(**{"table": self.table} | how)
        snowflake = SnowflakeLoadHook(database=landing.table.database, waits=(0, 0, 0))
        sinks: dict[str, Any] = {
            "copy": Copy(landing, snowflake.open_session),
            "streaming": Streaming(landing, snowflake.open_session, snowflake.open_channels),
        }
        of_all: dict[str, Any] = {
            "stream_name": self.stream,
            "application_name": self.application,
            "initial_position": TRIM_HORIZON,
            "stop_at": datetime.now(UTC) + timedelta(milliseconds=1),
        }
        return Drain(
            DrainSettings(**of_all | settings),
            worker=worker or Worker("test", uuid.uuid4().hex),
            source=source or PollingSource(KinesisStreamHook(self.stream)),
            store=self.store,
            sink=sinks[sink],
            runtime=runtime,
        )

    @property
    def store(self) -> CheckpointStoreHook:
        return CheckpointStoreHook(self.application)

    @property
    def state(self) -> StreamState:
        return self.store.read_state(self.stream)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query; ``{table}`` and the like stand for quoted names."""
        names = {
            "table": self.table.sql,
            "offsets": self.table.beside("KINESIS_OFFSETS").sql,
            "dead_letters": self.table.beside("KINESIS_DEAD_LETTERS").sql,
        }
        with self.snowflake.cursor() as cursor:
            return fetch(cursor, sql.format(**names))

    @property
    def landed(self) -> list[int]:
        """The numbers in the landing table, sorted; a number that landed twice is there twice."""
        return sorted(int(row[0]) for row in self.query('SELECT "RECORD_CONTENT":n::NUMBER FROM {table}'))


@pytest.fixture
def make_pipeline(
    make_stream: Callable[..., str],
    kinesis: KinesisClient,
    snowflake_connection: SnowflakeConnection,
    application_name: str,
    table: str,
) -> Callable[..., Pipeline]:
    """Function that makes a pipeline over a stream with so many shards."""

    def make(shards: int = 1) -> Pipeline:
        return Pipeline(
            kinesis, snowflake_connection, make_stream(shards), application_name, TableName.parse(table)
        )

    return make


@pytest.fixture(scope="module")
def make_lasting_pipeline(
    services: LocalServices, kinesis: KinesisClient, dynamodb: DynamoDBClient
) -> Iterator[Callable[..., Pipeline]]:
    """The same of pipelines that last for all tests of a module; a test leaves nothing that others find."""
    with ExitStack() as lasting:
        make_stream = lasting.enter_context(streams_of(kinesis))
        connection = lasting.enter_context(snowflake.connector.connect(**services.snowflake_parameters()))

        def make(shards: int = 1) -> Pipeline:
            application = lasting.enter_context(application_in(dynamodb))
            table = TableName(lasting.enter_context(database_at(connection)), "PUBLIC", "RECORDS")
            return Pipeline(kinesis, connection, make_stream(shards), application, table)

        yield make
