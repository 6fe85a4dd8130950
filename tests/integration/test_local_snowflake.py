"""The local Snowflake keeps to the rules of the real one, as far as loads rest on them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import snowflake.connector
from snowflake.connector.constants import QueryStatus
from snowflake.connector.errors import Error, OperationalError, ProgrammingError

from tests.faults.snowflake import NastySnowflake
from tests.helpers import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from snowflake.connector import SnowflakeConnection

    from local.services import LocalServices


@pytest.fixture
def connect(services: LocalServices, database: str) -> Iterator[Callable[..., SnowflakeConnection]]:
    """Function that opens a session in a schema of the test's own."""
    opened = []

    def open_connection(*, session_parameters: dict[str, Any] | None = None, **params: Any) -> Any:
        given = services.snowflake_parameters()
        given["session_parameters"] |= session_parameters or {}
        connection = snowflake.connector.connect(
            **given | {"network_timeout": 60} | params, database=database, schema="PUBLIC"
        )
        opened.append(connection)
        return connection

    yield open_connection
    for connection in opened:
        connection.close()


@pytest.fixture
def one(connect: Callable[..., SnowflakeConnection]) -> SnowflakeConnection:
    """A session in whose schema there is a table T (K, V) with a row ('a', 0)."""
    connection = connect()
    run(connection, "CREATE TABLE T (K VARCHAR, V NUMBER(38, 0))")
    run(connection, "INSERT INTO T VALUES ('a', 0)")
    return connection


@pytest.fixture
def two(connect: Callable[..., SnowflakeConnection], one: SnowflakeConnection) -> SnowflakeConnection:
    """Another session in the same schema."""
    return connect()


def run(connection: SnowflakeConnection, sql: str, *params: object) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        return fetch(cursor, sql, params or None)


def changed(connection: SnowflakeConnection, sql: str, *params: object) -> int | None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params or None)
        return cursor.rowcount


def rows(connection: SnowflakeConnection) -> list[tuple[Any, ...]]:
    return run(connection, "SELECT K, V FROM T ORDER BY K, V")


def transaction(connection: SnowflakeConnection) -> str | None:
    id_: str | None = run(connection, "SELECT CURRENT_TRANSACTION()")[0][0]
    return id_


# --- transactions ------------------------------------------------------------------------------------------


def test_a_transaction_has_an_id_of_its_own(one: SnowflakeConnection) -> None:
    assert transaction(one) is None
    ids = []
    for _ in range(2):
        run(one, "BEGIN")
        ids += [transaction(one), transaction(one)]
        run(one, "COMMIT")

    assert ids[0] == ids[1] != ids[2] == ids[3]
    assert all(id_ and id_.isdecimal() for id_ in ids)
    assert transaction(one) is None


def test_a_statement_can_ask_for_its_transaction(one: SnowflakeConnection) -> None:
    run(one, "BEGIN")
    id_ = transaction(one)
    guarded = "UPDATE T SET V = V + 1 WHERE K = 'a' AND CURRENT_TRANSACTION() = %s"

    assert changed(one, guarded, id_) == 1
    run(one, "ROLLBACK")
    assert changed(one, guarded, id_) == 0
    assert changed(one, "DELETE FROM T WHERE CURRENT_TRANSACTION() = %s", id_) == 0


def test_a_transaction_can_be_described_and_aborted(
    one: SnowflakeConnection, two: SnowflakeConnection
) -> None:
    def state(id_: str | None) -> str:
        with two.cursor(snowflake.connector.DictCursor) as cursor:
            [described] = fetch(cursor, f"DESCRIBE TRANSACTION {id_}")
            return str(described["state"])

    run(one, "BEGIN")
    committed = transaction(one)
    assert state(committed) == "running"
    run(one, "COMMIT")
    assert state(committed) == "committed"

    run(one, "BEGIN")
    run(one, "INSERT INTO T VALUES ('b', 1)")
    aborted = transaction(one)
    run(two, f"SELECT SYSTEM$ABORT_TRANSACTION({aborted})")
    assert state(aborted) == "rolled back"
    assert transaction(one) is None
    assert rows(one) == [("a", 0)]


@pytest.mark.parametrize("how", ["parameter", "argument", "statement", "method"])
def test_without_autocommit_only_commit_makes_visible(
    connect: Callable[..., SnowflakeConnection], one: SnowflakeConnection, how: str
) -> None:
    writer = connect(
        session_parameters={"AUTOCOMMIT": False} if how == "parameter" else None,
        **({"autocommit": False} if how == "argument" else {}),
    )
    if how == "statement":
        run(writer, "ALTER SESSION SET AUTOCOMMIT = FALSE")
    if how == "method":
        writer.autocommit(False)

    assert transaction(writer) is None
    run(writer, "INSERT INTO T VALUES ('b', 1)")
    id_ = transaction(writer)
    run(writer, "BEGIN")
    assert transaction(writer) == id_ is not None
    assert rows(one) == [("a", 0)]
    run(writer, "COMMIT")
    assert rows(one) == [("a", 0), ("b", 1)]
    assert transaction(writer) is None

    run(writer, "INSERT INTO T VALUES ('c', 2)")
    run(writer, "ROLLBACK")
    run(writer, "INSERT INTO T VALUES ('d', 3)")
    writer.close()
    assert rows(one) == [("a", 0), ("b", 1)]


def test_a_logout_rolls_back_and_lets_others_go_on(
    one: SnowflakeConnection, two: SnowflakeConnection
) -> None:
    run(one, "BEGIN")
    run(one, "UPDATE T SET V = 1")
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(changed, two, "UPDATE T SET V = V + 10")
        one.close()
        assert waiting.result() == 1

    assert rows(two) == [("a", 10)]


def test_ddl_commits_the_open_transaction(one: SnowflakeConnection, two: SnowflakeConnection) -> None:
    run(one, "BEGIN")
    run(one, "INSERT INTO T VALUES ('b', 1)")
    run(one, "CREATE TABLE U (A INT)")
    assert transaction(one) is None
    run(one, "ROLLBACK")

    assert rows(two) == [("a", 0), ("b", 1)]


def test_commit_and_rollback_without_a_transaction_do_nothing(one: SnowflakeConnection) -> None:
    run(one, "COMMIT")
    run(one, "ROLLBACK")

    assert rows(one) == [("a", 0)]


def test_a_failed_statement_leaves_the_rest_of_its_transaction(one: SnowflakeConnection) -> None:
    run(one, "BEGIN")
    id_ = transaction(one)
    run(one, "INSERT INTO T VALUES ('b', 1)")
    with pytest.raises(ProgrammingError):
        run(one, "INSERT INTO T SELECT 'c', CAST('x' AS NUMBER(38, 0))")
    assert transaction(one) == id_
    run(one, "COMMIT")

    assert rows(one) == [("a", 0), ("b", 1)]


def test_a_statement_nobody_waits_for_shows_as_blocked_and_then_how_it_ended(
    one: SnowflakeConnection, two: SnowflakeConnection
) -> None:
    run(one, "BEGIN")
    run(one, "UPDATE T SET V = 1")
    with two.cursor() as cursor:
        cursor.execute_async("UPDATE T SET V = V + 1")
        waiting = str(cursor.sfqid)
    while two.get_query_status(waiting) is QueryStatus.RUNNING:
        pass
    assert two.get_query_status(waiting) is QueryStatus.BLOCKED
    run(one, "COMMIT")
    while two.is_still_running(two.get_query_status(waiting)):
        pass
    assert two.get_query_status(waiting) is QueryStatus.SUCCESS
    assert rows(two) == [("a", 2)]

    with two.cursor() as cursor:
        cursor.execute_async("UPDATE T SET NOTHING = 1")
        refused = str(cursor.sfqid)
    while two.is_still_running(two.get_query_status(refused)):
        pass
    with pytest.raises(ProgrammingError):
        two.get_query_status_throw_if_error(refused)


# --- locks -------------------------------------------------------------------------------------------------

COMPARE_AND_SET = "UPDATE T SET V = 1 WHERE K = 'a' AND V = 0"


@pytest.mark.parametrize(("end", "moved"), [("COMMIT", 0), ("ROLLBACK", 1)])
def test_an_update_waits_for_the_table_and_looks_again(
    one: SnowflakeConnection, two: SnowflakeConnection, end: str, moved: int
) -> None:
    for connection in (one, two):
        run(connection, "BEGIN")
        run(connection, "INSERT INTO T VALUES (%s, 5)", str(connection is two))
    assert changed(one, COMPARE_AND_SET) == 1
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(changed, two, COMPARE_AND_SET)
        assert transaction(one) is not None
        run(one, end)
        assert waiting.result() == moved
    run(two, "COMMIT")

    assert ("a", 1) in rows(one)
    assert ("True", 5) in rows(one)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE T SET V = 2 WHERE K = 'no such'",
        "DELETE FROM T WHERE K = 'no such'",
        "MERGE INTO T USING (SELECT 'no such' AS K) N ON T.K = N.K WHEN MATCHED THEN UPDATE SET V = 1",
    ],
    ids=["update", "delete", "merge"],
)
def test_a_wait_ends_with_lock_timeout(
    one: SnowflakeConnection, connect: Callable[..., SnowflakeConnection], statement: str
) -> None:
    waiting = connect(session_parameters={"LOCK_TIMEOUT": 0})
    run(one, "BEGIN")
    run(one, statement)

    with pytest.raises(ProgrammingError) as caught:
        run(waiting, "UPDATE T SET V = 1")
    assert caught.value.errno == 625
    run(waiting, "INSERT INTO T VALUES ('b', 1)")
    run(one, "COMMIT")

    assert rows(one) == [("a", 0), ("b", 1)]


def test_a_holder_that_is_idle_is_rolled_back_for_those_who_wait(
    one: SnowflakeConnection, two: SnowflakeConnection
) -> None:
    run(one, "BEGIN")
    run(one, "UPDATE T SET V = 1")

    assert changed(two, "UPDATE T SET V = 7") == 1
    assert transaction(one) is None
    assert rows(one) == [("a", 7)]


def test_statements_of_a_transaction_see_what_was_committed_before_them(
    one: SnowflakeConnection, two: SnowflakeConnection
) -> None:
    run(one, "BEGIN")
    run(one, "INSERT INTO T VALUES ('mine', 1)")
    assert len(rows(one)) == 2
    run(two, "INSERT INTO T VALUES ('other', 2)")

    assert rows(one) == [("a", 0), ("mine", 1), ("other", 2)]
    assert rows(two) == [("a", 0), ("other", 2)]


def test_a_table_may_be_altered_beside_a_transaction(
    one: SnowflakeConnection, two: SnowflakeConnection
) -> None:
    run(one, "BEGIN")
    run(one, "INSERT INTO T (K, V) VALUES ('b', 1)")
    run(two, "ALTER TABLE T ADD COLUMN W INT")
    run(one, "COMMIT")

    assert run(two, "SELECT K, V, W FROM T ORDER BY K") == [("a", 0, None), ("b", 1, None)]


def test_two_that_wait_for_each_other_are_told_apart(
    one: SnowflakeConnection, two: SnowflakeConnection
) -> None:
    run(one, "CREATE TABLE U (A INT)")
    run(one, "BEGIN")
    run(two, "BEGIN")
    run(one, "UPDATE T SET V = 1")
    run(two, "UPDATE U SET A = 1")
    with ThreadPoolExecutor() as threads:
        both = [
            threads.submit(outcome, one, "UPDATE U SET A = 2"),
            threads.submit(outcome, two, "UPDATE T SET V = 2"),
        ]
        assert sorted(each.result() or 0 for each in both) == [0, 615]


def outcome(connection: SnowflakeConnection, sql: str) -> int | None:
    """Number of the error, if there is one; rolled back then."""
    try:
        run(connection, sql)
    except ProgrammingError as error:
        run(connection, "ROLLBACK")
        return error.errno
    return None


# --- files -------------------------------------------------------------------------------------------------

COPY = (
    "COPY INTO T (K, V) FROM (SELECT $1:K::VARCHAR, $1:V::NUMBER(38, 0) "
    'FROM \'@"{database}"."PUBLIC"."S"/f=1/\') '
    "FILE_FORMAT = (TYPE = PARQUET NULL_IF = () USE_VECTORIZED_SCANNER = TRUE) ON_ERROR = ABORT_STATEMENT"
)


@pytest.fixture
def copy(one: SnowflakeConnection, database: str, tmp_path: Path) -> str:
    """A COPY of a folder with one file of one row."""
    file = tmp_path / "odd %41#$NAME.parquet"
    pq.write_table(pa.table({"K": ["file"], "V": [1]}), file)
    run(one, "CREATE STAGE S")
    run(one, f'PUT \'file://{file}\' \'@"{database}"."PUBLIC"."S"/f=1/\' AUTO_COMPRESS=FALSE OVERWRITE=TRUE')
    return COPY.format(database=database)


def files(connection: SnowflakeConnection) -> list[str]:
    return [row[0] for row in run(connection, "LIST @S/f=1/")]


def test_a_file_is_loaded_once_even_within_a_transaction(one: SnowflakeConnection, copy: str) -> None:
    run(one, "BEGIN")
    assert run(one, copy)[0][:4] == ("s/f=1/odd %41#$NAME.parquet", "LOADED", 1, 1)
    assert run(one, copy) == [("Copy executed with 0 files processed.",)]
    run(one, "ROLLBACK")
    assert rows(one) == [("a", 0)]

    run(one, copy)
    assert run(one, copy) == [("Copy executed with 0 files processed.",)]
    assert run(one, f"{copy} FORCE = FALSE") == [("Copy executed with 0 files processed.",)]
    run(one, f"{copy} FORCE = TRUE")
    assert rows(one) == [("a", 0), ("file", 1), ("file", 1)]


def test_a_purged_file_is_gone_but_its_rows_stay(
    one: SnowflakeConnection, two: SnowflakeConnection, copy: str
) -> None:
    run(one, "BEGIN")
    run(one, f"{copy} PURGE = TRUE")
    assert files(two) == []
    run(two, "INSERT INTO T VALUES ('other', 2)")
    run(one, "UPDATE T SET V = 3 WHERE K = 'a'")
    run(one, "COMMIT")

    assert rows(two) == [("a", 3), ("file", 1), ("other", 2)]


def test_a_refused_copy_leaves_its_files(one: SnowflakeConnection, copy: str) -> None:
    run(one, "BEGIN")
    with pytest.raises(ProgrammingError):
        run(one, f"{copy.replace('$1:V::', '$1:K::')} PURGE = TRUE")

    assert files(one) == ["s/f=1/odd %41#$NAME.parquet"]


def test_files_are_listed_and_removed_by_folder(one: SnowflakeConnection, copy: str, database: str) -> None:
    assert run(one, "LIST @S/other/") == []
    assert run(one, "REMOVE @S/other/") == []
    assert files(one) == ["s/f=1/odd %41#$NAME.parquet"]
    assert run(one, f'REMOVE \'@"{database}"."PUBLIC"."S"/f=1/\'') == [
        ("s/f=1/odd %41#$NAME.parquet", "removed")
    ]
    assert files(one) == []


# --- parameters --------------------------------------------------------------------------------------------


def test_parameters_of_a_session_are_set(one: SnowflakeConnection) -> None:
    run(one, "ALTER SESSION SET QUERY_TAG = 'it''s {\"a\": 1}', LOCK_TIMEOUT = 900 TIMEZONE = 'UTC'")
    run(one, "ALTER SESSION UNSET QUERY_TAG")
    with pytest.raises(ProgrammingError, match="NO_SUCH"):
        run(one, "ALTER SESSION SET NO_SUCH = 1")


def test_a_table_with_error_logging_takes_a_copy_only_with_the_opt_out(
    one: SnowflakeConnection, copy: str, nasty: NastySnowflake
) -> None:
    run(one, "CREATE OR REPLACE TABLE T (K VARCHAR, V NUMBER(38, 0)) ERROR_LOGGING = TRUE")
    with nasty.refuse_error_logging(), pytest.raises(ProgrammingError, match="ERROR_LOGGING"):
        run(one, copy)
    with nasty.refuse_parameter("OPT_OUT_ERROR_LOGGING") as fault, pytest.raises(ProgrammingError) as caught:
        run(one, "ALTER SESSION SET OPT_OUT_ERROR_LOGGING = TRUE")
    assert (fault.hits, caught.value.errno) == (1, 1008)

    run(one, "ALTER SESSION SET OPT_OUT_ERROR_LOGGING = TRUE")
    with nasty.refuse_error_logging():
        run(one, copy)

    assert rows(one) == [("file", 1)]


def test_identity_columns_are_shown_without_a_default(one: SnowflakeConnection) -> None:
    run(one, "CREATE TABLE I (ID NUMBER(38, 0) NOT NULL IDENTITY, D INT DEFAULT 5)")

    shown = {row[2]: (row[4], row[5], row[10]) for row in run(one, "SHOW COLUMNS IN TABLE I")}

    assert shown["ID"] == ("NOT_NULL", "", "IDENTITY START 1 INCREMENT 1 NOORDER")
    assert shown["D"] == ("true", "5", "")


def test_keys_are_not_enforced(one: SnowflakeConnection) -> None:
    run(one, "CREATE TABLE P (A INT NOT NULL, PRIMARY KEY (A))")
    run(one, "INSERT INTO P VALUES (1)")
    run(one, "INSERT INTO P VALUES (1)")

    assert run(one, "SELECT A FROM P") == [(1,), (1,)]


# --- bad days ----------------------------------------------------------------------------------------------


@pytest.fixture
def nasty(services: LocalServices, database: str) -> NastySnowflake:
    """Bad days of the sessions that use the test's database."""
    return NastySnowflake(services, session={"database": database})


@pytest.fixture
def hasty(connect: Callable[..., SnowflakeConnection], one: SnowflakeConnection) -> SnowflakeConnection:
    """A session that gives up soon when nobody answers."""
    return connect(network_timeout=1)


def test_a_transaction_is_ended_and_nobody_is_told(
    one: SnowflakeConnection, two: SnowflakeConnection, nasty: NastySnowflake
) -> None:
    run(one, "BEGIN")
    run(one, "INSERT INTO T VALUES ('b', 1)")
    with nasty.end_transaction(before="^UPDATE"):
        assert changed(one, "UPDATE T SET V = 2 WHERE K = 'a'") == 1
    run(one, "COMMIT")

    assert rows(two) == [("a", 2)]


def test_without_autocommit_what_follows_an_ended_transaction_begins_another(
    connect: Callable[..., SnowflakeConnection], one: SnowflakeConnection, nasty: NastySnowflake
) -> None:
    other = connect(autocommit=False)
    run(other, "BEGIN")
    run(other, "INSERT INTO T VALUES ('b', 1)")
    with nasty.end_transaction(before="^UPDATE") as fault:
        run(other, "UPDATE T SET V = 2 WHERE K = 'a'")
        assert fault.outcomes == ["rolled back"]

    assert transaction(other) is not None
    assert rows(one) == [("a", 0)]
    run(other, "COMMIT")
    assert rows(one) == [("a", 2)]


def test_a_session_is_ended(
    one: SnowflakeConnection, two: SnowflakeConnection, nasty: NastySnowflake
) -> None:
    run(one, "BEGIN")
    run(one, "INSERT INTO T VALUES ('b', 1)")
    with nasty.end_session(before="^COMMIT", times=1):
        for statement in ("COMMIT", "SELECT 1"):
            with pytest.raises(Error) as caught:
                run(one, statement)
            assert caught.value.errno == 390111

    assert rows(two) == [("a", 0)]


def test_an_answer_is_lost_and_the_statement_runs_once(
    one: SnowflakeConnection, nasty: NastySnowflake
) -> None:
    with nasty.lose_answer("^INSERT", times=1) as fault:
        run(one, "INSERT INTO T VALUES ('b', 1)")
        assert fault.hits == 1

    assert rows(one) == [("a", 0), ("b", 1)]


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT INTO T VALUES ('b', 1)", "COMMIT", "ROLLBACK"])
def test_an_answer_is_lost_for_good(
    one: SnowflakeConnection, hasty: SnowflakeConnection, nasty: NastySnowflake, statement: str
) -> None:
    with nasty.lose_answer(f"^{statement[:5]}", for_good=True), pytest.raises(OperationalError):
        run(hasty, statement)

    assert len(rows(one)) == (2 if statement.startswith("INSERT") else 1)


def test_a_late_statement_runs_in_whatever_transaction_there_is(
    one: SnowflakeConnection, hasty: SnowflakeConnection, nasty: NastySnowflake
) -> None:
    run(hasty, "BEGIN")
    with nasty.deliver_late("^INSERT", after=1, after_statement="^ROLLBACK", times=1) as fault:
        with pytest.raises(OperationalError):
            run(hasty, "INSERT INTO T VALUES ('late', 1)")
        assert rows(one) == [("a", 0)]
        run(hasty, "ROLLBACK")
        assert fault.outcomes == ["done"]

    assert rows(one) == [("a", 0), ("late", 1)]


def test_a_late_statement_arrives_when_told_but_not_in_a_session_that_ended(
    connect: Callable[..., SnowflakeConnection], one: SnowflakeConnection, nasty: NastySnowflake
) -> None:
    for logged_out, outcome in ((False, "done"), (True, "refused")):
        session = connect(network_timeout=1)
        with nasty.deliver_late("^INSERT", times=1) as fault:
            with pytest.raises(OperationalError):
                run(session, "INSERT INTO T VALUES ('late', 1)")
            if logged_out:
                session.close()
            fault.deliver()
            assert fault.outcomes == [outcome]

    assert rows(one) == [("a", 0), ("late", 1)]


def test_a_statement_runs_twice(one: SnowflakeConnection, nasty: NastySnowflake) -> None:
    with nasty.deliver_twice("^UPDATE", answer="second") as fault:
        assert changed(one, "UPDATE T SET V = 1 WHERE V = 0") == 0
        assert fault.outcomes == ["done"]
    with nasty.deliver_twice("^INSERT"):
        assert changed(one, "INSERT INTO T VALUES ('b', 1)") == 1

    assert rows(one) == [("a", 1), ("b", 1), ("b", 1)]


def test_an_old_session_reads_the_past_until_it_writes(
    connect: Callable[..., SnowflakeConnection],
    one: SnowflakeConnection,
    two: SnowflakeConnection,
    database: str,
    nasty: NastySnowflake,
) -> None:
    with nasty.read_stale(f"{database}.PUBLIC.T"):
        run(one, "UPDATE T SET V = 1")
        assert rows(one) == [("a", 1)]
        assert rows(two) == [("a", 0)]
        assert rows(connect()) == [("a", 1)]
        run(two, "BEGIN")
        assert rows(two) == [("a", 1)]


def test_two_merges_insert_the_same_key(
    one: SnowflakeConnection, two: SnowflakeConnection, database: str, nasty: NastySnowflake
) -> None:
    merge = (
        "MERGE INTO T o USING (SELECT 'new' AS K) n ON o.K = n.K "
        "WHEN NOT MATCHED THEN INSERT (K, V) VALUES (n.K, 0)"
    )
    with nasty.race_merges(f"{database}.PUBLIC.T") as fault:
        assert [changed(connection, merge) for connection in (one, two, one)] == [1, 1, 0]
        assert fault.hits == 2

    assert rows(one) == [("a", 0), ("new", 0), ("new", 0)]


@pytest.mark.parametrize(
    "statement",
    ["UPDATE T SET V = V + 10 WHERE V = 0", "UPDATE T o SET V = n.V FROM (SELECT 10 AS V) n WHERE o.V = 0"],
)
def test_an_update_that_waited_does_not_look_again(
    one: SnowflakeConnection, two: SnowflakeConnection, nasty: NastySnowflake, statement: str
) -> None:
    run(one, "BEGIN")
    run(one, "UPDATE T SET V = 1")
    with nasty.never_look_again("^UPDATE") as fault, ThreadPoolExecutor() as threads:
        waiting = threads.submit(changed, two, statement)
        while fault.outcomes != ["waits"]:
            run(one, "SELECT 1")
        run(one, "COMMIT")
        assert waiting.result() == 1

    assert rows(one) == [("a", 10)]


def test_files_are_purged_at_commit(one: SnowflakeConnection, nasty: NastySnowflake, copy: str) -> None:
    with nasty.purge_at_commit():
        run(one, "BEGIN")
        run(one, f"{copy} PURGE = TRUE")
        run(one, "ROLLBACK")
        assert len(files(one)) == 1
        run(one, f"{copy} PURGE = TRUE")
        assert files(one) == []


def test_faults_of_one_test_leave_other_sessions_alone(
    services: LocalServices, one: SnowflakeConnection
) -> None:
    other = NastySnowflake(services, session={"query_tag": "nobody's"})
    with other.end_session(), other.answer_error("SELECT", code="000604"):
        assert rows(one) == [("a", 0)]


def test_an_expired_session_is_renewed_with_its_transaction(
    one: SnowflakeConnection, two: SnowflakeConnection, nasty: NastySnowflake
) -> None:
    run(one, "BEGIN")
    id_ = transaction(one)
    with nasty.answer_error("^INSERT", code="390112", times=1) as fault:
        run(one, "INSERT INTO T VALUES ('b', 1)")
    assert fault.hits == 1
    assert transaction(one) == id_
    run(one, "COMMIT")

    assert rows(two) == [("a", 0), ("b", 1)]


def test_a_dropped_database_is_gone(one: SnowflakeConnection) -> None:
    run(one, "CREATE DATABASE OF_THIS_TEST")
    run(one, "DROP DATABASE OF_THIS_TEST")
    assert "OF_THIS_TEST" not in {row[1] for row in run(one, "SHOW DATABASES")}
