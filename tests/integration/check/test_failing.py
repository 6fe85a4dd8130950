"""Checks fail where a service doesn't keep what loads rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.check.checks import CheckVerdict
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.sinks.snowflake import statements
from tests.faults.actions import aws_error
from tests.helpers import CONNECTOR_TELLS_OF_TRIES
from tests.torture import mutants

if TYPE_CHECKING:
    from collections.abc import Callable

    from snowflake.connector import SnowflakeConnection

    from airflow_kinesis_snowflake.check.checks import CheckResult
    from tests.faults.proxy import FaultProxy
    from tests.faults.snowflake import NastySnowflake

pytest_plugins = ["tests.faults.fixtures"]
pytestmark = pytest.mark.usefixtures("services")
# The first COMMIT of a contest is that of the row it adds.
FIRST_COMMIT = {"skip": 1, "times": 1}


def test_a_compare_and_set_that_does_not_look_again_is_noted_and_the_fence_holds(
    nasty: NastySnowflake, result: Callable[[str], CheckResult]
) -> None:
    with nasty.never_look_again("^UPDATE .*POSITION", skip=1) as fault:
        bare = result("compare-and-set-after-commit")
    assert (fault.hits, fault.outcomes) == (1, ["waits"])
    assert (bare.verdict, "moved 1 row" in bare.text) == (CheckVerdict.NOTED, True)

    with nasty.never_look_again("^UPDATE"):
        assert result("fence-after-commit").verdict == CheckVerdict.HELD


@pytest.mark.parametrize("name", ["fence-after-commit", "settled-doubt"])
def test_a_commit_that_is_lost_without_a_word_is_found(
    nasty: NastySnowflake, result: Callable[[str], CheckResult], name: str
) -> None:
    with nasty.end_transaction(before="^COMMIT", **FIRST_COMMIT) as fault:
        assert result(name).verdict == CheckVerdict.FAILED
    assert fault.outcomes == ["rolled back"]


def test_a_second_that_does_not_wait_is_found(
    result: Callable[[str], CheckResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "lock_offsets", lambda *_, **__: statements.Statement("SELECT 1"))
    tried = result("fence-after-commit")
    assert (tried.verdict, "didn't wait" in tried.text) == (CheckVerdict.FAILED, True)


def test_offsets_that_move_outside_their_transaction_are_found(
    result: Callable[[str], CheckResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "move_offsets", statements.move_offsets)
    mutants.without_guard()
    assert result("ended-transaction").verdict == CheckVerdict.FAILED
    assert result("counted-rows").verdict == CheckVerdict.FAILED


def test_a_copy_that_loads_twice_is_found(
    result: Callable[[str], CheckResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_landing = statements.copy_landing

    def forced(*args: Any, **kwargs: Any) -> statements.Statement:
        return statements.Statement(f"{copy_landing(*args, **kwargs).sql} FORCE = TRUE")

    monkeypatch.setattr(statements, "copy_landing", forced)
    tried = result("copy-twice")
    assert (tried.verdict, "4 without" in tried.text) == (CheckVerdict.FAILED, True)


def test_a_copy_that_outlives_its_rollback_is_found(
    nasty: NastySnowflake, result: Callable[[str], CheckResult]
) -> None:
    with nasty.deliver_twice("^COPY", answer="second", times=1) as fault:
        assert result("copy-rolls-back").verdict == CheckVerdict.FAILED
    assert fault.hits == 1


def test_tables_with_error_logging_that_refuse_copy_are_found(
    nasty: NastySnowflake, result: Callable[[str], CheckResult]
) -> None:
    with nasty.refuse_error_logging() as fault:
        assert result("error-logging").verdict == CheckVerdict.HELD
        assert fault.hits == 2
        with nasty.refuse_parameter("OPT_OUT_ERROR_LOGGING"):
            assert result("error-logging").verdict == CheckVerdict.FAILED


@pytest.mark.skipif(
    not CONNECTOR_TELLS_OF_TRIES, reason="connector 5 can't send a statement twice on request"
)
def test_a_request_that_runs_twice_is_noted(
    nasty: NastySnowflake, result: Callable[[str], CheckResult]
) -> None:
    with nasty.deliver_twice("^INSERT .*SENT_TWICE", times=1):
        tried = result("same-request")
    assert (tried.verdict, tried.text) == (CheckVerdict.NOTED, "it ran 2 times")


def test_a_missing_privilege_is_named(nasty: NastySnowflake, result: Callable[[str], CheckResult]) -> None:
    with nasty.answer_error("^UPDATE .*AND FALSE", code="003001"):
        tried = result("privileges")
    assert (tried.verdict, "UPDATE of the offsets" in tried.text) == (CheckVerdict.FAILED, True)


def test_an_error_of_another_kind_than_loads_expect_is_found(
    nasty: NastySnowflake, result: Callable[[str], CheckResult]
) -> None:
    with nasty.answer_error("^COPY", code="002000", times=1):
        assert result("refused-values").verdict == CheckVerdict.FAILED


@pytest.mark.parametrize(
    ("name", "statement", "verdict"),
    [
        ("objects", "^ALTER TABLE", CheckVerdict.FAILED),
        ("odd-folders", "^REMOVE", CheckVerdict.FAILED),
        ("golden-values", "^COPY .*SCANNER = FALSE", CheckVerdict.FAILED),
        ("golden-columns", "^COPY", CheckVerdict.FAILED),
        ("alter-beside-copy", "^ALTER TABLE", CheckVerdict.FAILED),
        ("merge-twice", "^MERGE", CheckVerdict.FAILED),
        (
            "same-request",
            "^INSERT",
            CheckVerdict.NOTED if CONNECTOR_TELLS_OF_TRIES else CheckVerdict.NOT_SHOWN,
        ),
    ],
)
def test_a_statement_that_is_refused_fails_its_check(
    nasty: NastySnowflake,
    result: Callable[[str], CheckResult],
    name: str,
    statement: str,
    verdict: CheckVerdict,
) -> None:
    with nasty.answer_error(statement, code="002000"):
        assert result(name).verdict == verdict


def test_a_landing_table_that_takes_no_copy_is_found(
    nasty: NastySnowflake,
    result: Callable[[str], CheckResult],
    table: str,
    snowflake_connection: SnowflakeConnection,
) -> None:
    with snowflake_connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table} (RECORD_CONTENT VARIANT, KINESISMETADATA OBJECT)")
    assert result("landing-table").verdict == CheckVerdict.HELD
    with nasty.answer_error("^COPY", code="003001"):
        assert result("landing-table").verdict == CheckVerdict.FAILED


def test_a_refused_call_of_kinesis_is_named(
    result: Callable[[str], CheckResult], kinesis_proxy: FaultProxy
) -> None:
    with kinesis_proxy.add(aws_error("AccessDeniedException"), operation="GetRecords"):
        tried = result("records")
    assert (tried.verdict, "kinesis:GetRecords" in tried.text) == (CheckVerdict.BROKEN, True)


def test_two_workers_with_one_lease_are_found(
    result: Callable[[str], CheckResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    take = CheckpointStoreHook.take_lease

    def forced(*args: Any, **kwargs: Any) -> Any:
        return take(*args, **kwargs) or object()

    monkeypatch.setattr(CheckpointStoreHook, "take_lease", forced)
    assert result("lease").verdict == CheckVerdict.FAILED
