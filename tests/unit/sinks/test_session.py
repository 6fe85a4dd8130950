"""What a session makes of answers about dead letters, columns and files."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from snowflake.connector.errors import ProgrammingError

from airflow_kinesis_snowflake.exceptions import (
    InvalidSettingError,
    SnowflakeObjectNotFoundError,
    ValueRefusedError,
)
from airflow_kinesis_snowflake.formats.column_types import ColumnType
from airflow_kinesis_snowflake.formats.columns import ColumnsMapping
from airflow_kinesis_snowflake.formats.dead_letters import LetterFilter
from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
from airflow_kinesis_snowflake.formats.schema import (
    AddColumn,
    Change,
    ColumnsSettings,
    DropNotNull,
    WidenColumn,
)
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake import session as module
from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
from airflow_kinesis_snowflake.sinks.snowflake.table_options import TableOptions
from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET = LandingTarget.beside(TableName("DB", "S", "T"))
MEANT = LetterFilter(application="app", stream="orders")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Connection:
    """Answers statements by their first word and remembers them; an exception is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.executed: list[str] = []
        self.params: list[tuple[Any, ...]] = []
        self.rowcount = 2
        self.description = [("FILE",), ("ROWS_LOADED",)]

    def cursor(self) -> Any:
        return nullcontext(self)

    def execute(self, sql: str, params: Any = None, **_: Any) -> Connection:
        self.executed.append(sql)
        self.params.append(params or ())
        self.rows = self.answers.get(sql.split(maxsplit=1)[0], [])
        if isinstance(self.rows, list) and self.rows and isinstance(self.rows[0], list):
            self.rows = self.rows.pop(0)
        if isinstance(self.rows, BaseException):
            raise self.rows
        return self

    def fetchall(self) -> Any:
        return self.rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


def session(connection: Connection) -> SnowflakeSession:
    opened: Any = connection
    return SnowflakeSession(lambda: opened)


def columns(*names: str) -> list[tuple[str, ...]]:
    return [("T", "S", name, json.dumps({"type": "VARIANT", "nullable": True}), "NULL") for name in names]


def letter(number: int, payload: str = "text", encoding: str = "utf-8") -> tuple[Any, ...]:
    return (f"id-{number}", "shard", str(number), None, "key", 1_500, payload, encoding)


@pytest.mark.parametrize("unnamed", [0, 3])
def test_dead_letters_get_ids_where_some_have_none(unnamed: int) -> None:
    connection = Connection(SELECT=[[(unnamed,)], [(NOW,)]])
    assert session(connection).name_dead_letters(TARGET) == NOW
    changes = [sql.split()[0] for sql in connection.executed if not sql.startswith("SELECT")]
    assert changes == (["UPDATE", "COMMIT"] if unnamed else [])


def test_dead_letters_are_read_as_the_records_they_were() -> None:
    connection = Connection(SELECT=[letter(1), letter(2, "AAE=", "base64")])
    letters = session(connection).read_dead_letters(TARGET, MEANT)
    assert [(each.id, each.shard_id, each.record.data) for each in letters] == [
        ("id-1", "shard", b"text"),
        ("id-2", "shard", b"\x00\x01"),
    ]
    assert letters[0].record.approximate_arrival == 1.5


def test_no_more_dead_letters_are_read_at_once_than_memory_has_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_LETTER_BYTES_AT_ONCE", 8)
    connection = Connection(SELECT=[letter(number) for number in range(5)])
    assert len(session(connection).read_dead_letters(TARGET, MEANT)) == 2


def test_dead_letters_are_looked_for_and_deleted_by_their_ids() -> None:
    connection = Connection(SELECT=[letter(1), letter(2)])
    snowflake = session(connection)
    letters = snowflake.read_dead_letters(TARGET, MEANT)

    connection.answers["SELECT"] = [("id-1",)]
    assert snowflake.list_dead_letters(TARGET, MEANT, letters) == ["id-1"]
    assert snowflake.delete_dead_letters(TARGET, MEANT, letters, transaction="17") == 2
    assert connection.params[-1] == ("app", "orders", "id-1", "id-2", "17")


@pytest.mark.parametrize(
    ("change", "end"),
    [
        (AddColumn("N", ColumnType.parse("NUMBER(38,0)")), 'ADD COLUMN IF NOT EXISTS "N" NUMBER(38, 0)'),
        (WidenColumn("N", ColumnType.parse("NUMBER(38,0)")), 'ALTER COLUMN "N" SET DATA TYPE NUMBER(38, 0)'),
        (DropNotNull("N"), 'ALTER COLUMN "N" DROP NOT NULL'),
    ],
)
def test_a_change_is_one_statement(change: Change, end: str) -> None:
    connection = Connection()
    session(connection).alter_landing_table(TARGET, change)
    [sql] = connection.executed
    assert sql.startswith('ALTER TABLE "DB"."S"."T" ')
    assert sql.endswith(end)


def test_a_file_that_is_tried_is_taken_back_whether_it_fits_or_not() -> None:
    mapping = EnvelopeMapping()
    fits = Connection(COPY=[("f", 1)])
    session(fits).try_landing(TARGET, mapping=mapping, folder="f")
    refused = Connection(COPY=ProgrammingError(msg="m", errno=100038, send_telemetry=False))
    with pytest.raises(ValueRefusedError):
        session(refused).try_landing(TARGET, mapping=mapping, folder="f")
    for connection in (fits, refused):
        assert [sql.split()[0] for sql in connection.executed] == ["BEGIN", "COPY", "ROLLBACK"]


def test_a_folder_without_files_loads_nothing() -> None:
    connection = Connection()
    connection.description = [("status",)]
    assert session(connection).copy_dead_letters(TARGET, folder="f") == 0


def test_offsets_of_no_keys_ask_nobody() -> None:
    connection = Connection()
    found = session(connection).read_offsets(TARGET, application="app", stream="orders", keys=())
    session(connection).ensure_offsets(TARGET, application="app", stream="orders", keys=())
    assert (found.found, found.refused, connection.executed) == ({}, {}, [])


MISSING = ProgrammingError(msg="no such table", errno=2003, send_telemetry=False)


def test_what_is_missing_is_made_and_nothing_else() -> None:
    connection = Connection(SHOW=MISSING)
    session(connection).ensure_objects(TARGET, mapping=EnvelopeMapping(), companions=False)
    made = [sql for sql in connection.executed if sql.startswith("CREATE TABLE")]
    assert ['"T"' in made[0], "KINESIS_DEAD_LETTERS" in made[1]] == [True, True]
    assert len(made) == 2


def test_dead_letters_of_an_earlier_version_get_the_columns_they_lack() -> None:
    envelope = columns("RECORD_CONTENT", "KINESISMETADATA")
    connection = Connection(SHOW=[envelope, columns("KIND")])
    session(connection).ensure_objects(TARGET, mapping=EnvelopeMapping(), companions=False)
    assert [sql for sql in connection.executed if not sql.startswith("SHOW")] == [
        'ALTER TABLE "DB"."S"."KINESIS_DEAD_LETTERS" ADD COLUMN IF NOT EXISTS "ID" VARCHAR'
    ]


def test_what_must_not_be_made_is_named_with_its_ddl() -> None:
    target = replace(TARGET, options=TableOptions(create=False))
    connection = Connection(SHOW=MISSING)
    with pytest.raises(SnowflakeObjectNotFoundError, match=r"changing .*: CREATE TABLE "):
        session(connection).ensure_objects(target, mapping=EnvelopeMapping(), companions=False)
    assert not [sql for sql in connection.executed if sql.startswith("CREATE")]


def test_a_table_is_not_made_of_columns_that_nobody_has_named() -> None:
    mapping = ColumnsMapping(ColumnsSettings(schema_evolution=False), read_columns=dict)
    with pytest.raises(InvalidSettingError, match=r"^Create the landing table"):
        session(Connection(SHOW=MISSING)).ensure_objects(TARGET, mapping=mapping)


def test_a_schema_that_is_missing_is_a_matter_of_privileges() -> None:
    connection = Connection(SHOW=MISSING, CREATE=MISSING)
    with pytest.raises(SnowflakeObjectNotFoundError, match=r"^Run CREATE DATABASE"):
        session(connection).ensure_objects(TARGET, mapping=EnvelopeMapping(), companions=False)
