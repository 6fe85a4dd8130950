"""Up to which moment a stream is loaded, by its state rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_kinesis_snowflake.engine.lag import drained_until
from airflow_kinesis_snowflake.state.shards import ShardState, StreamState
from airflow_kinesis_snowflake.stream.lineage import Shard
from airflow_kinesis_snowflake.stream.positions import Position

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR_LATER = int((NOON + timedelta(hours=1)).timestamp() * 1000)
MADE = datetime(2026, 1, 1, tzinfo=UTC)


def written(minutes: int) -> Position:
    """A record of shard 0, which was made at midnight; written so many minutes after noon."""
    at = NOON + timedelta(minutes=minutes)
    digits = f"2{int(MADE.timestamp()):09x}0" + "0" * 18 + f"{int(at.timestamp()):09x}" + "0" * 8 + "2"
    return Position(str(int(digits, 16)))


HALF_PAST_NOON = written(30)


def row(number: int, *, minutes: int | None = None, **facts: object) -> ShardState:
    """A row that was caught up so many minutes after noon."""
    at = None if minutes is None else int(NOON.timestamp() * 1000) + minutes * 60_000
    return ShardState(f"shardId-{number:012d}", caught_up_at=at, **facts)  # type: ignore[arg-type]


def until(*rows: ShardState, listed: int | None = None) -> timedelta | None:
    """How long after noon everything is loaded."""
    count = len(rows) if listed is None else listed
    shards = [Shard(f"shardId-{number:012d}") for number in range(count)]
    state = StreamState({row.shard_id: row for row in rows})
    moment = drained_until(shards, state, now=HOUR_LATER)
    return None if moment is None else moment - NOON


def test_the_shard_furthest_behind_decides() -> None:
    assert until(row(0, minutes=5), row(1, minutes=3), row(2, minutes=9)) == timedelta(minutes=3)


def test_a_record_that_was_loaded_counts_as_well_as_a_look_that_found_none() -> None:
    assert until(row(0, minutes=5, checkpoint=HALF_PAST_NOON)) == timedelta(minutes=30)
    assert until(row(0, minutes=50, checkpoint=HALF_PAST_NOON)) == timedelta(minutes=50)


def test_shards_that_ended_are_not_waited_for() -> None:
    shards = [Shard("shardId-000000000000", closed=True), Shard("shardId-000000000001")]
    rows = (row(0, minutes=1, ended=True), row(1, minutes=8))
    state = StreamState({row.shard_id: row for row in rows})
    assert drained_until(shards, state, now=HOUR_LATER) == NOON + timedelta(minutes=8)


def test_a_moment_that_is_still_to_come_is_not_believed() -> None:
    assert until(row(0, minutes=61)) is None
    assert until(row(0, minutes=61, checkpoint=HALF_PAST_NOON)) == timedelta(minutes=30)
    assert until(row(0, minutes=10**9, checkpoint=HALF_PAST_NOON)) == timedelta(minutes=30)


def test_nothing_is_said_while_a_row_contradicts_the_stream() -> None:
    assert until(row(0, minutes=1, ended=True), row(1, minutes=8)) is None


@pytest.mark.parametrize(("minutes", "said"), [(65, timedelta(minutes=65)), (75, None), (10**6, None)])
def test_a_checkpoint_that_a_drain_refuses_promises_nothing(minutes: int, said: timedelta | None) -> None:
    shard = Shard("shardId-000000000000", starting_sequence_number=written(-720).sequence_number)
    state = StreamState({shard.shard_id: row(0, minutes=50, checkpoint=written(minutes))})

    moment = drained_until([shard], state, now=HOUR_LATER)

    assert moment == (None if said is None else NOON + said)


def test_nothing_is_said_of_a_stream_with_a_shard_that_was_not_begun() -> None:
    assert until(row(0, minutes=5), row(1)) is None
    assert until(row(0, minutes=5), listed=2) is None
