"""Drains beside rows that others wrote wrongly, and beside others who hold what is to be read."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.engine import leases
from airflow_kinesis_snowflake.engine.intake import Intake
from airflow_kinesis_snowflake.engine.report import summary
from airflow_kinesis_snowflake.exceptions import AccessDeniedError, CorruptStateError
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_dynamodb import DynamoDBClient

    from .conftest import Pipeline

FIRST, SECOND = "shardId-000000000000", "shardId-000000000001"


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    """Two shards: 40 records are loaded, 40 aren't."""
    pipeline = make_pipeline(shards=2)
    pipeline.send(40)
    pipeline.drain().run()
    pipeline.send(40)
    return pipeline


@pytest.fixture
def spoil(pipeline: Pipeline, dynamodb: DynamoDBClient) -> Callable[..., None]:
    """Function that writes attributes of the first shard's row."""

    def write(**attributes: dict[str, Any]) -> None:
        dynamodb.update_item(
            TableName=pipeline.application,
            Key={"streamName": {"S": pipeline.stream}, "shardId": {"S": FIRST}},
            AttributeUpdates={name: {"Value": value, "Action": "PUT"} for name, value in attributes.items()},
        )

    return write


def test_an_open_shard_that_its_row_gives_up_fails_the_drain_after_the_others(
    pipeline: Pipeline, spoil: Callable[..., None]
) -> None:
    spoil(shardEnded={"BOOL": True}, lastUpdateTimestamp={"N": "1"})

    with pytest.raises(CorruptStateError, match=f"{FIRST}.* but the shard is open"):
        pipeline.drain().run()

    assert 40 < len(pipeline.landed) < 80


@pytest.mark.parametrize(
    "value",
    [{"N": str(now_millis() + 240_000)}, {"N": "9" * 30}, {"N": f"-{'9' * 30}"}, {"S": "tomorrow"}],
    ids=["four minutes ahead", "no year", "no year before", "text"],
)
def test_a_shard_that_was_drained_in_the_future_is_read(
    pipeline: Pipeline, spoil: Callable[..., None], value: dict[str, str]
) -> None:
    spoil(caughtUpAt=value)

    assert pipeline.drain().run().records == 40
    assert pipeline.landed == pipeline.sent


def test_a_lease_until_the_end_of_time_is_taken_once_it_stands_still(
    pipeline: Pipeline,
    spoil: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", 3.0)
    monkeypatch.setattr("airflow_kinesis_snowflake.engine.assignment.LATE_MILLIS", 0)
    microseconds = now_millis() * 1000
    spoil(leaseOwner={"S": "somebody"}, leaseExpiry={"N": str(microseconds)})

    with caplog.at_level(logging.INFO):
        report = pipeline.drain().run()

    assert pipeline.landed == pipeline.sent
    assert (report.takeovers, report.held_by_others) == (1, {})


def test_a_drain_says_who_holds_what_it_left(
    pipeline: Pipeline,
    spoil: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    look = Intake.look

    def look_after_a_renewal(intake: Intake, **how: Any) -> Any:
        for shard_id in (FIRST, SECOND):
            now = now_millis()
            assert pipeline.store.hold(pipeline.stream, shard_id, owner="node", expiry=now + 25_000, now=now)
        return look(intake, **how)

    monkeypatch.setattr(Intake, "look", look_after_a_renewal)

    with caplog.at_level(logging.INFO):
        report = pipeline.drain().run()

    assert report.records == 0
    assert report.held_by_others == {"node": 2}
    assert "2 shards were left to others that have leased them: node (2)" in summary(report)
    (waiting,) = [line for line in caplog.messages if "are leased by others" in line]
    assert "node holds 2 until " in waiting
    assert waiting.endswith(" s")


def test_a_refused_renewal_fails_the_task(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RENEW_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(leases, name, 0.05)

    def refuse(*_: Any, **__: Any) -> bool:
        raise AccessDeniedError("dynamodb:UpdateItem isn't allowed any more")

    monkeypatch.setattr(CheckpointStoreHook, "renew_lease", refuse)

    with pytest.raises(AccessDeniedError, match="any more"):
        pipeline.drain(stop_at=datetime.now(UTC) + timedelta(hours=1)).run()

    assert {row.lease_owner for row in pipeline.state.shards.values()} == {None}
