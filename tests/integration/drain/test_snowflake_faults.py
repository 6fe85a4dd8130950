"""Snowflake fails at any point of a load: it is waited out, or raised by class; nothing lands twice."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.engine import retries
from airflow_kinesis_snowflake.exceptions import (
    IncompleteLoadError,
    OffsetWentBackError,
    ServiceRefusedError,
    ServiceUnavailableError,
    UnknownOutcomeError,
)
from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
from tests.faults.actions import (
    ALREADY_MADE,
    CANCELLED,
    LOCK_WAITERS,
    NO_WAREHOUSE,
    SESSION_EXPIRED,
    SESSION_GONE,
    cut,
    http_error,
    lose_answer,
    renew_session,
    snowflake_error,
    truncate,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.proxy import Action, Answer, FaultProxy, Forward, Request

    from .conftest import Pipeline

pytestmark = pytest.mark.slow

pytest_plugins = ["tests.faults.fixtures", "tests.preloaded"]

STATEMENTS = ["login-request", "UPLOAD", "BEGIN", "COPY", "UPDATE", "COMMIT"]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "MAX_WAIT_SECONDS", 0.01)


@pytest.fixture(scope="module")
def lasting(make_lasting_pipeline: Callable[..., Pipeline]) -> Pipeline:
    """A pipeline of two shards with a drain behind it."""
    lasting = make_lasting_pipeline(shards=2)
    lasting.send(50)
    lasting.drain().run()
    return lasting


@pytest.fixture
def pipeline(lasting: Pipeline, snowflake_proxy: FaultProxy) -> Pipeline:
    """The lasting pipeline, through the proxy, with records before it, all of which the test loads."""
    lasting.send(50)
    return lasting


def done_but(failing: Action) -> Action:
    """Do what is asked, and answer as another action does."""

    async def action(request: Request, forward: Forward) -> Answer:
        await forward(request)
        return await failing(request, forward)

    return action


def undone_and(failing: Action) -> Action:
    """End the session's transaction, and answer as another action does; the service never sees the statement.

    So does a session that goes.
    """

    async def action(request: Request, forward: Forward) -> Answer:
        await end_transaction(request, forward)
        return await failing(request, forward)

    return action


async def after_the_transaction_was_ended(request: Request, forward: Forward) -> Answer:
    """End the session's transaction before the statement arrives.

    Snowflake does so when a transaction is idle, because the connection is broken, while others wait for its
    locks. It tells nobody: what follows runs on its own, and COMMIT has nothing to do and says so to nobody.
    """
    await end_transaction(request, forward)
    return await forward(request)


async def end_transaction(request: Request, forward: Forward) -> None:
    other_id = re.sub(r"requestId=\w+", f"requestId={uuid.uuid4().hex}", request.path, count=1)
    await forward(replace(request.with_json({**request.json, "sqlText": "ROLLBACK"}), path=other_id))


# --- waited out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [cut, lose_answer, truncate], ids=["cut", "lost", "truncated"])
@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_connection_that_breaks_once_is_made_again(
    pipeline: Pipeline, snowflake_proxy: FaultProxy, statement: str, fault: Action
) -> None:
    rule = snowflake_proxy.add(fault, operation=statement, times=1)

    report = pipeline.drain().run()

    assert rule.hits == 1
    assert pipeline.landed == pipeline.sent
    assert report.records == 50


@pytest.mark.parametrize("code", [LOCK_WAITERS, ALREADY_MADE], ids=["locked", "made by the other"])
def test_a_worker_that_makes_tables_at_the_same_time_as_another_goes_on(
    make_pipeline: Callable[..., Pipeline], snowflake_proxy: FaultProxy, code: tuple[str, str, str]
) -> None:
    pipeline = make_pipeline()
    pipeline.send(3)
    rule = snowflake_proxy.add(snowflake_error(*code), operation="CREATE", skip=1, times=2)

    pipeline.drain().run()

    assert rule.hits == 2
    assert pipeline.landed == pipeline.sent


@pytest.mark.parametrize("code", [LOCK_WAITERS, CANCELLED, SESSION_GONE], ids=["locked", "cancelled", "gone"])
@pytest.mark.parametrize("statement", ["COPY", "UPDATE", "COMMIT"])
def test_a_statement_that_fails_for_now_is_tried_again_from_the_start(
    pipeline: Pipeline, snowflake_proxy: FaultProxy, statement: str, code: tuple[str, str, str]
) -> None:
    snowflake_proxy.add(undone_and(snowflake_error(*code)), operation=statement, times=2)

    report = pipeline.drain().run()

    assert pipeline.landed == pipeline.sent
    assert report.snowflake_connections == 3


@pytest.mark.parametrize("statement", ["COPY", "COMMIT"])
def test_a_session_that_expires_is_renewed(
    pipeline: Pipeline, snowflake_proxy: FaultProxy, statement: str
) -> None:
    snowflake_proxy.add(snowflake_error(*SESSION_EXPIRED), operation=statement, times=1)
    snowflake_proxy.add(renew_session, operation="token-request")

    report = pipeline.drain().run()

    assert pipeline.landed == pipeline.sent
    assert report.snowflake_connections == 1


@pytest.mark.parametrize("fault", [SESSION_GONE, LOCK_WAITERS], ids=["gone", "locked"])
def test_a_commit_whose_answer_is_lost_for_good_is_found_in_the_offsets(
    pipeline: Pipeline, snowflake_proxy: FaultProxy, fault: tuple[str, str, str]
) -> None:
    snowflake_proxy.add(done_but(snowflake_error(*fault)), operation="COMMIT", times=1)
    snowflake_proxy.calls.clear()

    report = pipeline.drain().run()

    assert pipeline.landed == pipeline.sent
    assert (report.records, report.fenced) == (50, 0)
    assert snowflake_proxy.calls["COPY"] == 1


def test_a_transaction_that_snowflake_ended_before_its_commit_is_loaded_again(
    pipeline: Pipeline, snowflake_proxy: FaultProxy
) -> None:
    rule = snowflake_proxy.add(after_the_transaction_was_ended, operation="COMMIT", times=1)

    report = pipeline.drain().run()

    assert rule.hits == 1
    assert pipeline.landed == pipeline.sent
    assert report.records == 50


def test_an_upload_that_fails_half_way_is_tried_again(
    pipeline: Pipeline, snowflake_proxy: FaultProxy
) -> None:
    uploads = snowflake_proxy.add(http_error(503), operation="UPLOAD", times=2)

    pipeline.drain().run()

    assert uploads.hits == 2
    assert pipeline.landed == pipeline.sent


# --- raised ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"),
    [(LOCK_WAITERS, ServiceUnavailableError), (NO_WAREHOUSE, ServiceRefusedError)],
    ids=["locked", "warehouse suspended"],
)
@pytest.mark.parametrize("statement", ["COPY", "UPDATE"])
def test_what_goes_on_failing_is_raised_by_class_and_the_next_drain_loads(
    pipeline: Pipeline,
    snowflake_proxy: FaultProxy,
    statement: str,
    fault: tuple[str, str, str],
    error: type[Exception],
) -> None:
    landed = pipeline.landed
    with snowflake_proxy.add(snowflake_error(*fault), operation=statement), pytest.raises(error):
        pipeline.drain().run()
    assert pipeline.landed == landed

    report = pipeline.drain().run()

    assert pipeline.landed == pipeline.sent
    assert report.records == 50


def test_after_commits_of_unknown_outcome_the_next_drain_reads_the_offsets_first(
    pipeline: Pipeline, snowflake_proxy: FaultProxy
) -> None:
    with (
        snowflake_proxy.add(done_but(snowflake_error(*SESSION_GONE)), operation="COMMIT"),
        snowflake_proxy.add(snowflake_error(*LOCK_WAITERS), operation="SELECT", skip=3),
        pytest.raises((UnknownOutcomeError, ServiceUnavailableError)),
    ):
        pipeline.drain().run()
    assert pipeline.landed == pipeline.sent
    assert {shard.unsettled for shard in pipeline.state.shards.values()} == {True}

    report = pipeline.drain().run()

    assert pipeline.landed == pipeline.sent
    assert (report.records, report.takeovers, report.fenced) == (0, 2, 0)


def test_a_copy_that_reports_too_few_rows_commits_nothing(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stub at the session: no local service loads less than it was given."""
    landed, copy_landing = pipeline.landed, SnowflakeSession.copy_landing

    def short(*args: Any, **kwargs: Any) -> int:
        return copy_landing(*args, **kwargs) - 1

    with monkeypatch.context() as patch:
        patch.setattr(SnowflakeSession, "copy_landing", short)
        with pytest.raises(IncompleteLoadError, match="49 of 50 rows"):
            pipeline.drain().run()
    assert pipeline.landed == landed

    pipeline.drain().run()

    assert pipeline.landed == pipeline.sent


def test_offsets_that_somebody_deleted_meanwhile_are_an_error(
    make_pipeline: Callable[..., Pipeline], snowflake_proxy: FaultProxy
) -> None:
    pipeline = make_pipeline(shards=2)
    pipeline.send(2)
    pipeline.drain().run()
    pipeline.send(2)

    async def delete_offsets(request: Request, forward: Forward) -> Answer:
        pipeline.query("DELETE FROM {offsets}")
        return await forward(request)

    snowflake_proxy.add(delete_offsets, operation="BEGIN", times=1)
    landed = pipeline.landed

    for _ in range(2):
        with pytest.raises(OffsetWentBackError, match="KINESIS_OFFSETS"):
            pipeline.drain().run()
        assert pipeline.landed == landed
