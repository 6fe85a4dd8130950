"""What checks work with: sessions, a scratch schema, a scratch table, and the user's stream."""

from __future__ import annotations

import itertools
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict

from airflow_kinesis_snowflake.check.checks import Needs
from airflow_kinesis_snowflake.check.scratch import (
    LEFT_AFTER,
    create_schema,
    drop_schema,
    leftovers,
    list_schemas,
    scratch_name,
)
from airflow_kinesis_snowflake.check.sessions import SnowflakeCheckHook
from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    InvalidSettingError,
    KinesisSnowflakeError,
    ServiceRefusedError,
    SnowflakeObjectNotFoundError,
)
from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
from airflow_kinesis_snowflake.hooks.aws import parameters_of_state
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.statements import create_landing_table
from airflow_kinesis_snowflake.sinks.snowflake.table_options import PLAIN, TableOptions
from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime, timedelta
    from pathlib import Path

    from airflow_kinesis_snowflake.check.sessions import CheckSession
    from airflow_kinesis_snowflake.stream.facts import StreamFacts

# That of a stand-in: no AWS account has this number.
_NO_ACCOUNT = "000000000000"


class Names(TypedDict):
    """The names under which offsets are kept."""

    application: str
    stream: str


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """What to check.

    :param database: where the scratch schema is created, as in SQL; by default the landing table's
    :param table: landing table whose privileges are checked
    :param stream: name or ARN of the stream to read from
    :param application: whose table in DynamoDB is inspected
    :param slow: run the slow checks too
    :param only: names of the checks to run; empty: all
    :param scratch_table: create a scratch table in DynamoDB
    :param left_after: age beyond which something counts as left by an earlier check
    :param aws: how the hook of the stream reaches AWS
    :param dynamodb_conn_id: Airflow connection for the state; by default that of the stream
    """

    database: str | None = None
    table: TableName | None = None
    stream: str | None = None
    application: str | None = None
    slow: bool = False
    only: tuple[str, ...] = ()
    scratch_table: bool = True
    left_after: timedelta = LEFT_AFTER
    snowflake_conn_id: str = "snowflake_default"
    aws: Mapping[str, Any] = field(default_factory=dict)
    dynamodb_conn_id: str | None = None

    def names(self, needed: Needs) -> bool:
        """Whether what a check needs was named."""
        match needed:
            case Needs.DATABASE:
                return bool(self.scratch_database)
            case Needs.TABLE:
                return self.table is not None
            case Needs.STREAM:
                return bool(self.stream)
            case Needs.APPLICATION:
                return bool(self.application)
            case Needs.SCRATCH_TABLE:
                return self.scratch_table and bool(self.stream or self.application)

    @property
    def aws_of_state(self) -> dict[str, Any]:
        """How the hooks of the state reach AWS."""
        return parameters_of_state(self.aws, self.dynamodb_conn_id)

    @property
    def scratch_database(self) -> str | None:
        """Where the scratch schema is created, as Snowflake stores the name.

        :raises InvalidSettingError: not a name
        """
        if not self.database:
            return self.table.database if self.table else None
        try:
            return TableName.parse(f"{self.database}.PUBLIC.ANY").database
        except InvalidSettingError:
            raise InvalidSettingError(
                f"Write the name of the database as in SQL: {self.database!r} isn't one"
            ) from None


class Bench:
    """Creates what checks work with when it is first needed, and removes it.

    :param folder: for files
    :param now: aware
    """

    def __init__(self, settings: CheckSettings, *, folder: Path, now: datetime) -> None:
        self.settings = settings
        self.folder = folder
        self.name = scratch_name(now, uuid.uuid4().hex[:8].upper())
        self._now = now
        self._numbers = itertools.count(1)
        self._idle: list[CheckSession] = []
        self._schema_tried = False
        self._table_tried = False

    # --- Snowflake ---

    @cached_property
    def snowflake(self) -> SnowflakeCheckHook:
        """The user's connection."""
        return SnowflakeCheckHook(
            snowflake_conn_id=self.settings.snowflake_conn_id, database=self.settings.scratch_database
        )

    @contextmanager
    def session(self) -> Iterator[CheckSession]:
        """A session for exclusive use, perhaps reused from an earlier check: a login takes a second.

        A transaction that the block leaves open is rolled back.
        """
        session = self._idle.pop() if self._idle else self.snowflake.open_check_session()
        try:
            yield session
            if not session.closed:
                session.roll_back()
        except BaseException:
            session.close()
            raise
        if not session.closed:
            self._idle.append(session)

    def new_session(self) -> CheckSession:
        """A new session, to be closed by the caller: it has no history, and its settings may be changed."""
        return self.snowflake.open_check_session()

    @cached_property
    def snowflake_stand_in(self) -> bool:
        """Whether this isn't Snowflake: it doesn't know its account and region, as Snowflake always does."""
        with self.session() as session:
            try:
                session.rows("SELECT CURRENT_ACCOUNT(), CURRENT_REGION()")
            except (SnowflakeObjectNotFoundError, ServiceRefusedError):
                return True
        return False

    def make_schema(self) -> None:
        """Create the scratch schema."""
        with self.session() as session:
            self._schema_tried = True
            session.rows(create_schema(self.settings.scratch_database or "", self.name))

    def remove_schemas(self) -> list[str]:
        """Remove the schemas that earlier checks left behind.

        :return: names of those that were removed
        """
        database = self.settings.scratch_database or ""
        with self.session() as session:
            names = [row[1] for row in session.rows(list_schemas(database))]
            left = leftovers(names, now=self._now, after=self.settings.left_after)
            for name in left:
                session.rows(drop_schema(database, name))
        return [f"schema {database}.{name}" for name in left]

    def scratch(self, name: str) -> TableName:
        """Name of an object in the scratch schema."""
        return TableName(self.settings.scratch_database or "", self.name, name)

    @cached_property
    def target(self) -> LandingTarget:
        """Landing table and companions in the scratch schema, created as a drain creates them."""
        target = LandingTarget.beside(self.scratch("RECORDS"))
        with self.session() as session:
            session.ensure_objects(target, mapping=EnvelopeMapping())
        return target

    def landing(self, session: CheckSession, options: TableOptions = PLAIN) -> LandingTarget:
        """Another landing table beside the same companions."""
        shared, name = self.target, f"RECORDS_{next(self._numbers)}"
        session.rows(create_landing_table(self.scratch(name), EnvelopeMapping.columns, options))
        return LandingTarget(
            self.scratch(name), shared.offsets, shared.dead_letters, shared.stage, options=options
        )

    def offset_names(self) -> Names:
        """An application and a stream that no other check of this run has."""
        return {"application": self.name, "stream": f"check-{next(self._numbers)}"}

    # --- AWS ---

    @cached_property
    def kinesis(self) -> KinesisStreamHook:
        """The user's stream."""
        return KinesisStreamHook(self.settings.stream or "", **self.settings.aws)

    @cached_property
    def stream(self) -> StreamFacts:
        """What the service reports about it."""
        return self.kinesis.describe()

    @cached_property
    def aws_stand_in(self) -> bool:
        """Whether this isn't AWS: the stream's account number is nobody's."""
        return f":{_NO_ACCOUNT}:" in self.stream.arn

    @cached_property
    def scratch_store(self) -> CheckpointStoreHook:
        """The state of a scratch application, in a table that is removed afterwards."""
        store = CheckpointStoreHook(self.name, **self.settings.aws_of_state)
        self._table_tried = True
        store.create_table()
        return store

    @property
    def store(self) -> CheckpointStoreHook:
        """The state of the user's application, for inspection."""
        return CheckpointStoreHook(self.settings.application or "", **self.settings.aws_of_state)

    def remove_tables(self) -> list[str]:
        """Remove the tables in DynamoDB that earlier checks left behind.

        :return: names of those that were removed
        """
        tables = DynamoDBTablesHook(**self.settings.aws_of_state)
        left = leftovers(tables.names(), now=self._now, after=self.settings.left_after)
        for name in left:
            tables.delete(name)
        return [f"DynamoDB table {name}" for name in left]

    # --- the end ---

    def close(self) -> list[str]:
        """Remove what was created.

        :return: what couldn't be removed, and why
        """
        left = []
        if self._schema_tried:
            try:
                with self.session() as session:
                    session.rows(drop_schema(self.settings.scratch_database or "", self.name))
            except KinesisSnowflakeError as error:
                left.append(f"schema {self.settings.scratch_database}.{self.name}: {error}")
        for session in self._idle:
            session.close()
        if self._table_tried:
            try:
                DynamoDBTablesHook(**self.settings.aws_of_state).delete(self.name)
            except AccessDeniedError as error:
                # Whoever may not create the table may not remove it either, and then there is none.
                if "scratch_store" in vars(self):
                    left.append(f"DynamoDB table {self.name}: {error}")
            except KinesisSnowflakeError as error:
                left.append(f"DynamoDB table {self.name}: {error}")
        return left
