"""The Snowflake hook against a local Snowflake."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.engine.offsets import Offset, OffsetKey, OffsetMove
from airflow_kinesis_snowflake.exceptions import FencedError, SnowflakeObjectNotFoundError
from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.files import BatchFiles
from airflow_kinesis_snowflake.sinks.snowflake.statements import LOCK, stage_folder
from airflow_kinesis_snowflake.sinks.snowflake.table_options import TableOptions
from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget
from airflow_kinesis_snowflake.stream.positions import Position
from airflow_kinesis_snowflake.stream.records import Record
from tests.faults.snowflake import NastySnowflake
from tests.helpers import fetch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from snowflake.connector import SnowflakeConnection

    from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
    from local.services import LocalServices

MAPPING = EnvelopeMapping()
SHARD = "shardId-000000000000"
KEY = OffsetKey(SHARD, "first")
OF_THE_APPLICATION: dict[str, Any] = {"application": "loader's %s", "stream": "clicks"}


@pytest.fixture
def target(table: str) -> LandingTarget:
    return LandingTarget.beside(TableName.parse(table))


@pytest.fixture
def hook(snowflake_conn: str, database: str) -> SnowflakeLoadHook:
    """A hook in the database of the test: the local Snowflake can't load into two in one transaction."""
    return SnowflakeLoadHook(snowflake_conn_id=snowflake_conn, database=database)


@pytest.fixture
def session(hook: SnowflakeLoadHook) -> Iterator[SnowflakeSession]:
    with hook.open_session() as session:
        yield session


@pytest.fixture
def made(session: SnowflakeSession, target: LandingTarget) -> LandingTarget:
    """A target whose objects exist, with an offset for one shard and a row to lock."""
    session.ensure_objects(target, mapping=MAPPING)
    session.ensure_offsets(target, keys=[OffsetKey(*LOCK), KEY], **OF_THE_APPLICATION)
    return target


def upload(
    session: SnowflakeSession, target: LandingTarget, directory: Path, *payloads: bytes, batch_id: str = "1"
) -> str:
    """Encode and upload one batch, and return its folder."""
    records = [
        Record(
            sequence_number=str(number), approximate_arrival=1700000000.123, partition_key="\\N", data=data
        )
        for number, data in enumerate(payloads, start=1)
    ]
    folder = stage_folder("loader", batch_id)
    with BatchFiles(directory, application="loader", stream_name="clicks") as batch:
        batch.append(MAPPING.encode(records, stream_name="clicks", shard_id=SHARD), shard_id=SHARD)
        for file in batch.close():
            session.upload(file, target=target, folder=folder)
    return folder


def load(
    session: SnowflakeSession, target: LandingTarget, folder: str, move: OffsetMove, *, batch_id: str = "1"
) -> tuple[int, int]:
    """Load one uploaded batch as a drain does."""
    with session.transaction() as transaction:
        rows = session.copy_landing(target, mapping=MAPPING, folder=folder)
        dead_letters = session.copy_dead_letters(target, folder=folder)
        session.lock_offsets(target, **OF_THE_APPLICATION)
        session.move_offsets(
            target, batch_id=batch_id, transaction=transaction, moves=[move], **OF_THE_APPLICATION
        )
        if offset(session, target).batch_id != batch_id:
            raise FencedError("the offset moved")
    return rows, dead_letters


def commit_moves(
    session: SnowflakeSession, target: LandingTarget, *moves: OffsetMove, batch_id: str = "1"
) -> None:
    """Move the offsets that stand where they are expected."""
    with session.transaction() as transaction:
        session.move_offsets(
            target, batch_id=batch_id, transaction=transaction, moves=moves, **OF_THE_APPLICATION
        )


def move(expected: str | None, through: str, *, records: int = 1) -> OffsetMove:
    return OffsetMove(
        KEY.shard_id,
        KEY.incarnation,
        None if expected is None else Position(expected),
        Position(through),
        records,
    )


def rows(connection: SnowflakeConnection, sql: str) -> list[Any]:
    with connection.cursor() as cursor:
        return fetch(cursor, sql)


def count(connection: SnowflakeConnection, table: TableName) -> int:
    [[found]] = rows(connection, f"SELECT COUNT(*) FROM {table.sql}")
    return int(found)


def offset(session: SnowflakeSession, target: LandingTarget) -> Offset:
    return session.read_offsets(target, keys=[KEY], **OF_THE_APPLICATION).found[KEY]


def test_the_connection_test_says_that_snowflake_answers(hook: SnowflakeLoadHook) -> None:
    ok, message = hook.test_connection()
    assert ok, message


def test_objects_are_made_once_and_kept(
    session: SnowflakeSession, made: LandingTarget, snowflake_connection: SnowflakeConnection
) -> None:
    session.ensure_objects(made, mapping=MAPPING)
    assert offset(session, made) == Offset(SHARD, "first", None, None)
    assert count(snowflake_connection, made.table) == 0
    assert count(snowflake_connection, made.dead_letters) == 0


@pytest.mark.parametrize("name", ["NOWHERE.PUBLIC.RECORDS", "{database}.NOWHERE.RECORDS"])
def test_a_missing_database_or_schema_is_named_with_what_to_run(
    session: SnowflakeSession, database: str, name: str
) -> None:
    target = LandingTarget.beside(TableName.parse(name.format(database=database)))
    with pytest.raises(SnowflakeObjectNotFoundError, match=r'CREATE SCHEMA .*"NOWHERE".*GRANT'):
        session.ensure_objects(target, mapping=MAPPING)


def test_a_batch_lands_with_its_metadata_and_moves_the_offset(
    session: SnowflakeSession, made: LandingTarget, tmp_path: Path, snowflake_connection: SnowflakeConnection
) -> None:
    folder = upload(session, made, tmp_path, b'{"a": [1, "\xc3\xa9"]}', b'"text"')
    assert load(session, made, folder, move(None, "2", records=2)) == (2, 0)
    landed = rows(
        snowflake_connection,
        f"SELECT RECORD_CONTENT, KINESISMETADATA FROM {made.table.sql} "
        'ORDER BY KINESISMETADATA:"sequenceNumber"',
    )
    assert [json.loads(content) for content, _ in landed] == [{"a": [1, "é"]}, "text"]
    assert [json.loads(metadata) for _, metadata in landed] == [
        {
            "stream": "clicks",
            "shardId": SHARD,
            "approximateArrival": 1700000000123,
            "partitionKey": "\\N",
            "sequenceNumber": number,
            "subSequenceNumber": 0,
            "shardedSequenceNumber": number + "0" * 20,
        }
        for number in ("1", "2")
    ]
    assert offset(session, made) == Offset(SHARD, "first", Position("2"), "1")


def test_dead_letters_commit_with_the_rows(
    session: SnowflakeSession, made: LandingTarget, tmp_path: Path, snowflake_connection: SnowflakeConnection
) -> None:
    folder = upload(session, made, tmp_path, b"1", b"no json", b"\xff")
    assert load(session, made, folder, move(None, "3", records=3)) == (1, 2)
    letters = rows(
        snowflake_connection,
        "SELECT STREAM, SHARD_ID, SEQUENCE_NUMBER, PARTITION_KEY, APPROXIMATE_ARRIVAL, "
        f"PAYLOAD, PAYLOAD_ENCODING, FAILED_AT IS NOT NULL FROM {made.dead_letters.sql} "
        "ORDER BY SEQUENCE_NUMBER",
    )
    assert letters == [
        ("clicks", SHARD, "2", "\\N", 1700000000123, "no json", "utf-8", True),
        ("clicks", SHARD, "3", "\\N", 1700000000123, "/w==", "base64", True),
    ]


def test_dead_letters_do_not_outlive_a_rollback(
    session: SnowflakeSession, made: LandingTarget, tmp_path: Path, snowflake_connection: SnowflakeConnection
) -> None:
    commit_moves(session, made, move(None, "9"))
    folder = upload(session, made, tmp_path, b"1", b"no json")
    with pytest.raises(FencedError):
        load(session, made, folder, move(None, "2"), batch_id="2")
    assert count(snowflake_connection, made.table) == 0
    assert count(snowflake_connection, made.dead_letters) == 0


def test_a_batch_that_began_before_the_offset_moves_nothing_and_leaves_no_rows(
    session: SnowflakeSession,
    made: LandingTarget,
    tmp_path: Path,
    hook: SnowflakeLoadHook,
    snowflake_connection: SnowflakeConnection,
) -> None:
    load(session, made, upload(session, made, tmp_path, b"1"), move(None, "9"))
    late = upload(session, made, tmp_path, b"2", batch_id="late")
    with pytest.raises(FencedError):
        load(session, made, late, move("8", "10"), batch_id="late")
    assert count(snowflake_connection, made.table) == 1
    assert session.closed
    with hook.open_session() as another:
        assert offset(another, made) == Offset(SHARD, "first", Position("9"), "1")


def test_an_offset_moves_from_where_it_is_expected_only(
    session: SnowflakeSession, made: LandingTarget
) -> None:
    commit_moves(session, made, move(None, "9"))
    for elsewhere in (None, "8", "10"):
        commit_moves(session, made, move(elsewhere, "100"), batch_id="2")
    assert offset(session, made).position == Position("9")


def test_positions_inside_an_aggregate_are_kept_and_fence(
    session: SnowflakeSession, made: LandingTarget
) -> None:
    commit_moves(session, made, OffsetMove(SHARD, "first", None, Position("7", 3), 4))
    assert offset(session, made).position == Position("7", 3)
    commit_moves(session, made, OffsetMove(SHARD, "first", Position("7", 2), Position("8"), 1))
    assert offset(session, made).position == Position("7", 3)
    commit_moves(session, made, OffsetMove(SHARD, "first", Position("7", 3), Position("7"), 1))
    assert offset(session, made).position == Position("7")


def test_offsets_move_each_on_its_own(session: SnowflakeSession, made: LandingTarget) -> None:
    others = [OffsetKey(f"shardId-{number:012d}", "first") for number in range(1, 4)]
    session.ensure_offsets(made, keys=others, **OF_THE_APPLICATION)
    commit_moves(session, made, move(None, "9"))
    moves = [OffsetMove(key.shard_id, "first", None, Position("5"), 1) for key in others]
    commit_moves(session, made, move(None, "5"), *moves, batch_id="2")
    found = session.read_offsets(made, keys=[KEY, *others], **OF_THE_APPLICATION).found
    assert [offset.position for _, offset in sorted(found.items(), key=str)] == [
        Position(digits) for digits in "9555"
    ]


@pytest.mark.parametrize("transaction", ["0", "1760000000000000000"])
def test_nothing_moves_outside_the_transaction_that_was_meant(
    session: SnowflakeSession, made: LandingTarget, transaction: str
) -> None:
    session.move_offsets(
        made, batch_id="1", transaction=transaction, moves=[move(None, "9")], **OF_THE_APPLICATION
    )
    with session.transaction():
        session.move_offsets(
            made, batch_id="1", transaction=transaction, moves=[move(None, "9")], **OF_THE_APPLICATION
        )
    assert offset(session, made).position is None


def test_what_is_loaded_outside_a_transaction_is_committed_by_nobody(
    hook: SnowflakeLoadHook,
    session: SnowflakeSession,
    made: LandingTarget,
    tmp_path: Path,
    snowflake_connection: SnowflakeConnection,
) -> None:
    folder = upload(session, made, tmp_path, b"1")
    with hook.open_session() as late:
        assert late.copy_landing(made, mapping=MAPPING, folder=folder) == 1
    assert count(snowflake_connection, made.table) == 0


def test_a_second_copy_of_a_folder_loads_nothing(
    session: SnowflakeSession, made: LandingTarget, tmp_path: Path
) -> None:
    folder = upload(session, made, tmp_path, b"1")
    with session.transaction():
        assert session.copy_landing(made, mapping=MAPPING, folder=folder) == 1
        assert session.copy_landing(made, mapping=MAPPING, folder=folder) == 0


def test_a_key_that_is_there_twice_is_refused(
    session: SnowflakeSession, made: LandingTarget, snowflake_connection: SnowflakeConnection
) -> None:
    rows(snowflake_connection, f"INSERT INTO {made.offsets.sql} SELECT * FROM {made.offsets.sql}")
    offsets = session.read_offsets(made, keys=[KEY], **OF_THE_APPLICATION)
    assert (dict(offsets.found), set(offsets.refused)) == ({}, {KEY})


def test_a_lock_is_waited_for_and_what_follows_sees_what_was_committed(
    hook: SnowflakeLoadHook, session: SnowflakeSession, made: LandingTarget
) -> None:
    def second() -> Offset:
        with hook.open_session() as other, other.transaction():
            began.set()
            other.lock_offsets(made, **OF_THE_APPLICATION)
            return offset(other, made)

    began = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        with session.transaction() as transaction:
            session.lock_offsets(made, **OF_THE_APPLICATION)
            waiting = threads.submit(second)
            began.wait()
            session.move_offsets(
                made, batch_id="1", transaction=transaction, moves=[move(None, "9")], **OF_THE_APPLICATION
            )
            assert not waiting.done()
        assert waiting.result().position == Position("9")


def test_a_table_with_error_logging_is_loaded(
    services: LocalServices, hook: SnowflakeLoadHook, target: LandingTarget, tmp_path: Path, database: str
) -> None:
    logging = LandingTarget.beside(target.table, TableOptions(error_logging=True))
    with (
        NastySnowflake(services, session={"database": database}).refuse_error_logging(),
        hook.open_session() as session,
    ):
        session.ensure_objects(logging, mapping=MAPPING)
        folder = upload(session, logging, tmp_path, b"1")
        assert session.copy_landing(logging, mapping=MAPPING, folder=folder) == 1


def test_a_server_that_does_not_know_the_opt_out_is_loaded_into(
    services: LocalServices, hook: SnowflakeLoadHook, target: LandingTarget, tmp_path: Path
) -> None:
    query_tag = {"query_tag": "old server"}
    hook = SnowflakeLoadHook(
        snowflake_conn_id=hook.get_conn_id(), database=target.table.database, query_tag="old server"
    )
    nasty = NastySnowflake(services, session=query_tag)
    with nasty.refuse_parameter("OPT_OUT_ERROR_LOGGING") as fault, hook.open_session() as session:
        session.ensure_objects(target, mapping=MAPPING)
        folder = upload(session, target, tmp_path, b"1")
        assert session.copy_landing(target, mapping=MAPPING, folder=folder) == 1
    assert fault.hits == 1


def test_the_second_of_two_sessions_is_fenced(
    session: SnowflakeSession,
    made: LandingTarget,
    tmp_path: Path,
    hook: SnowflakeLoadHook,
    snowflake_connection: SnowflakeConnection,
) -> None:
    with hook.open_session() as zombie:
        same = move(None, "1")
        stale = upload(zombie, made, tmp_path, b"1", batch_id="zombie")
        load(session, made, upload(session, made, tmp_path, b"1"), same)
        with pytest.raises(FencedError):
            load(zombie, made, stale, same, batch_id="zombie")
    assert count(snowflake_connection, made.table) == 1
    assert offset(session, made).batch_id == "1"


def test_offsets_of_others_are_neither_read_nor_moved(session: SnowflakeSession, made: LandingTarget) -> None:
    commit_moves(session, made, move(None, "5"))
    for other in (
        {"application": "other", "stream": "clicks"},
        {"application": "loader's %s", "stream": "o"},
    ):
        assert session.read_offsets(made, keys=[KEY], **other).found == {}
        with session.transaction() as transaction:
            session.move_offsets(
                made, batch_id="2", transaction=transaction, moves=[move("5", "10")], **other
            )
    reset = OffsetKey(SHARD, "second")
    assert session.read_offsets(made, keys=[reset], **OF_THE_APPLICATION).found == {}
    session.ensure_offsets(made, keys=[KEY, reset], **OF_THE_APPLICATION)
    assert session.read_offsets(made, keys=[KEY, reset], **OF_THE_APPLICATION).found == {
        KEY: Offset(SHARD, "first", Position("5"), "1"),
        reset: Offset(SHARD, "second", None, None),
    }


def test_records_add_up_over_batches(
    session: SnowflakeSession, made: LandingTarget, snowflake_connection: SnowflakeConnection
) -> None:
    for expected, through in ((None, "1"), ("1", "2")):
        commit_moves(session, made, move(expected, through, records=21))
    assert rows(snowflake_connection, f"SELECT SUM(RECORDS) FROM {made.offsets.sql}") == [(42,)]


def test_a_folder_without_files_loads_nothing(session: SnowflakeSession, made: LandingTarget) -> None:
    assert session.copy_landing(made, mapping=MAPPING, folder="empty") == 0
    assert session.copy_dead_letters(made, folder="empty") == 0


def test_loaded_files_leave_the_stage(session: SnowflakeSession, made: LandingTarget, tmp_path: Path) -> None:
    folder = upload(session, made, tmp_path, b"1")
    with session.transaction():
        assert session.copy_landing(made, mapping=MAPPING, folder=folder) == 1
    assert session.copy_landing(made, mapping=MAPPING, folder=folder) == 0


def test_a_folder_is_removed_with_the_folders_in_it(
    session: SnowflakeSession, made: LandingTarget, tmp_path: Path
) -> None:
    folder = upload(session, made, tmp_path, b"1")
    inside = folder.removeprefix("loader/")
    assert session.list_folder(made.stage, folder="loader") == [f"{inside}/landing.parquet"]
    session.remove_folder(made.stage, folder="loader")
    assert session.list_folder(made.stage, folder="loader") == []
    assert session.copy_landing(made, mapping=MAPPING, folder=folder) == 0


def test_a_folder_is_not_loaded_with_another_that_begins_alike(
    session: SnowflakeSession, made: LandingTarget, tmp_path: Path
) -> None:
    first = upload(session, made, tmp_path, b"1", batch_id="1")
    upload(session, made, tmp_path, b"1", b"2", batch_id="11")
    assert session.copy_landing(made, mapping=MAPPING, folder=first) == 1


@pytest.mark.parametrize("name", ['we"ird', "per%cent %s", "; DROP TABLE x; --", "lower", "é\\"])
def test_a_table_with_any_name_is_made_and_loaded(
    session: SnowflakeSession,
    target: LandingTarget,
    tmp_path: Path,
    name: str,
    snowflake_connection: SnowflakeConnection,
) -> None:
    hostile = LandingTarget.beside(target.table.beside(name))
    session.ensure_objects(hostile, mapping=MAPPING)
    session.ensure_objects(hostile, mapping=MAPPING)
    folder = upload(session, hostile, tmp_path, b"1")
    with session.transaction():
        assert session.copy_landing(hostile, mapping=MAPPING, folder=folder) == 1
    assert count(snowflake_connection, hostile.table) == 1


@pytest.mark.parametrize("name", ['off"sets', "per%cent %s", "lower"])
def test_an_offsets_table_with_any_name_works(
    session: SnowflakeSession, target: LandingTarget, name: str
) -> None:
    hostile = LandingTarget(target.table, target.table.beside(name), target.dead_letters, target.stage)
    session.ensure_objects(hostile, mapping=MAPPING)
    session.ensure_offsets(hostile, keys=[KEY], **OF_THE_APPLICATION)
    commit_moves(session, hostile, move(None, "1"), batch_id="%s")
    assert offset(session, hostile) == Offset(SHARD, "first", Position("1"), "%s")
