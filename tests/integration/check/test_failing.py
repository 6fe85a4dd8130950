"""Checks fail where a service doesn't keep what loads rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.check.checks import Verdict
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.sinks.snowflake import statements
from tests.faults.actions import aws_error
from tests.helpers import CONNECTOR_TELLS_OF_TRIES
from tests.torture import mutants

if TYPE_CHECKING:
    from collections.abc import Callable

    from snowflake.connector import SnowflakeConnection

    from airflow_kinesis_snowflake.check.checks import Outcome
    from tests.faults.proxy import FaultProxy
    from tests.faults.snowflake import NastySnowflake

pytest_plugins = ["tests.faults.fixtures"]
pytestmark = pytest.mark.usefixtures("services")
# The first COMMIT of a contest is that of the row it adds.
FIRST_COMMIT = {"skip": 1, "times": 1}


def test_a_compare_and_set_that_does_not_look_again_is_noted_and_the_fence_holds(
    nasty: NastySnowflake, outcome: Callable[[str], Outcome]
) -> None:
    with nasty.never_look_again("^UPDATE .*POSITION", skip=1) as fault:
        bare = outcome("compare-and-set-after-commit")
    assert (fault.hits, fault.outcomes) == (1, ["waits"])
    assert (bare.verdict, "moved 1 row" in bare.text) == (Verdict.NOTED, True)

    with nasty.never_look_again("^UPDATE"):
        assert outcome("fence-after-commit").verdict == Verdict.HELD


@pytest.mark.parametrize("name", ["fence-after-commit", "settled-doubt"])
def test_a_commit_that_is_lost_without_a_word_is_found(
    nasty: NastySnowflake, outcome: Callable[[str], Outcome], name: str
) -> None:
    with nasty.end_transaction(before="^COMMIT", **FIRST_COMMIT) as fault:
        assert outcome(name).verdict == Verdict.FAILED
    assert fault.outcomes == ["rolled back"]


def test_a_second_that_does_not_wait_is_found(
    outcome: Callable[[str], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "lock_offsets", lambda *_, **__: statements.Statement("SELECT 1"))
    tried = outcome("fence-after-commit")
    assert (tried.verdict, "didn't wait" in tried.text) == (Verdict.FAILED, True)


def test_offsets_that_move_outside_their_transaction_are_found(
    outcome: Callable[[str], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "move_offsets", statements.move_offsets)
    mutants.without_guard()
    assert outcome("ended-transaction").verdict == Verdict.FAILED
    assert outcome("counted-rows").verdict == Verdict.FAILED


def test_a_copy_that_loads_twice_is_found(
    outcome: Callable[[str], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_landing = statements.copy_landing

    def forced(*args: Any, **kwargs: Any) -> statements.Statement:
        return statements.Statement(f"{copy_landing(*args, **kwargs).sql} FORCE = TRUE")

    monkeypatch.setattr(statements, "copy_landing", forced)
    tried = outcome("copy-twice")
    assert (tried.verdict, "4 without" in tried.text) == (Verdict.FAILED, True)


def test_a_copy_that_outlives_its_rollback_is_found(
    nasty: NastySnowflake, outcome: Callable[[str], Outcome]
) -> None:
    with nasty.deliver_twice("^COPY", answer="second", times=1) as fault:
        assert outcome("copy-rolls-back").verdict == Verdict.FAILED
    assert fault.hits == 1


def test_tables_with_error_logging_that_refuse_copy_are_found(
    nasty: NastySnowflake, outcome: Callable[[str], Outcome]
) -> None:
    with nasty.refuse_error_logging() as fault:
        assert outcome("error-logging").verdict == Verdict.HELD
        assert fault.hits == 2
        with nasty.refuse_parameter("OPT_OUT_ERROR_LOGGING"):
            assert outcome("error-logging").verdict == Verdict.FAILED


@pytest.mark.skipif(not CONNECTOR_TELLS_OF_TRIES, reason="connector 5 sends nothing twice on request")
def test_a_request_that_runs_twice_is_noted(nasty: NastySnowflake, outcome: Callable[[str], Outcome]) -> None:
    with nasty.deliver_twice("^INSERT .*SENT_TWICE", times=1):
        tried = outcome("same-request")
    assert (tried.verdict, tried.text) == (Verdict.NOTED, "it ran 2 times")


def test_a_missing_privilege_is_named(nasty: NastySnowflake, outcome: Callable[[str], Outcome]) -> None:
    with nasty.answer_error("^UPDATE .*AND FALSE", code="003001"):
        tried = outcome("privileges")
    assert (tried.verdict, "UPDATE of the offsets" in tried.text) == (Verdict.FAILED, True)


def test_an_error_of_another_kind_than_loads_expect_is_found(
    nasty: NastySnowflake, outcome: Callable[[str], Outcome]
) -> None:
    with nasty.answer_error("^COPY", code="002000", times=1):
        assert outcome("refused-values").verdict == Verdict.FAILED


@pytest.mark.parametrize(
    ("name", "statement", "verdict"),
    [
        ("objects", "^ALTER TABLE", Verdict.FAILED),
        ("odd-folders", "^REMOVE", Verdict.FAILED),
        ("golden-values", "^COPY .*SCANNER = FALSE", Verdict.FAILED),
        ("golden-columns", "^COPY", Verdict.FAILED),
        ("alter-beside-copy", "^ALTER TABLE", Verdict.FAILED),
        ("merge-twice", "^MERGE", Verdict.FAILED),
        ("same-request", "^INSERT", Verdict.NOTED if CONNECTOR_TELLS_OF_TRIES else Verdict.NOT_SHOWN),
    ],
)
def test_a_statement_that_is_refused_fails_its_check(
    nasty: NastySnowflake, outcome: Callable[[str], Outcome], name: str, statement: str, verdict: Verdict
) -> None:
    with nasty.answer_error(statement, code="002000"):
        assert outcome(name).verdict == verdict


def test_a_landing_table_that_takes_no_copy_is_found(
    nasty: NastySnowflake,
    outcome: Callable[[str], Outcome],
    table: str,
    snowflake_connection: SnowflakeConnection,
) -> None:
    with snowflake_connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table} (RECORD_CONTENT VARIANT, KINESISMETADATA OBJECT)")
    assert outcome("landing-table").verdict == Verdict.HELD
    with nasty.answer_error("^COPY", code="003001"):
        assert outcome("landing-table").verdict == Verdict.FAILED


def test_a_refused_call_of_kinesis_is_named(
    outcome: Callable[[str], Outcome], kinesis_proxy: FaultProxy
) -> None:
    with kinesis_proxy.add(aws_error("AccessDeniedException"), operation="GetRecords"):
        tried = outcome("records")
    assert (tried.verdict, "kinesis:GetRecords" in tried.text) == (Verdict.BROKEN, True)


def test_two_workers_with_one_lease_are_found(
    outcome: Callable[[str], Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    take = CheckpointStoreHook.take_lease

    def forced(*args: Any, **kwargs: Any) -> Any:
        return take(*args, **kwargs) or object()

    monkeypatch.setattr(CheckpointStoreHook, "take_lease", forced)
    assert outcome("lease").verdict == Verdict.FAILED
