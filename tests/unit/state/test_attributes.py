"""What rows say, and what they are made to say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_kinesis_snowflake.state.attributes import (
    OF_A_DRAIN,
    Row,
    key_of,
    key_of_row,
    lease,
    released,
    shard_rows,
    worker_of,
    written,
)
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream.positions import Position, StartAt

STREAM, SHARD = "orders", "shardId-000000000000"
FULL = ShardState(
    SHARD,
    checkpoint=Position("17", 3),
    start_at=StartAt(datetime(2026, 3, 4, tzinfo=UTC)),
    parents=("a", "b"),
    ended=True,
    incarnation="first",
    stream_created=7,
    stream_arn="arn:aws:kinesis:eu-west-1:123456789012:stream/orders",
    unsettled=True,
    caught_up_at=8,
    others_until=9,
    offset=Position("18"),
    offsets={"streaming": Position("19", 2)},
    sinks=frozenset({"copy", "streaming"}),
)


def item(**attributes: Any) -> dict[str, Any]:
    said = {name: value for name, value in attributes.items() if value is not None}
    return {**key_of_row(STREAM, SHARD), **said}


@pytest.mark.parametrize("shard", [FULL, ShardState(SHARD)], ids=["full", "empty"])
def test_a_row_is_read_as_it_was_written(shard: ShardState) -> None:
    assert Row("table", item(**written(shard))).shard_state() == shard


def test_a_row_that_names_no_sink_is_of_an_earlier_version_or_of_a_reset() -> None:
    before = item(incarnation={"S": "first"})
    assert Row("table", before).shard_state().sinks == {"copy"}
    begun = replace(FULL, sinks=frozenset())
    assert Row("table", item(**written(begun))).shard_state().sinks == frozenset()


def test_what_a_row_is_to_say_no_more_is_removed() -> None:
    assert written(ShardState(SHARD)) == dict.fromkeys(OF_A_DRAIN)


def test_a_lease_is_taken_and_given_back() -> None:
    taken = Row("table", item(**lease(owner="one", expiry=20, now=10))).shard_state()
    assert (taken.lease_owner, taken.lease_expiry, taken.last_update) == ("one", 20, 10)
    free = Row("table", item(**lease(owner="one", expiry=20, now=10) | released(30))).shard_state()
    assert (free.lease_owner, free.lease_expiry, free.last_update) == (None, None, 30)


def test_rows_of_workers_and_notes_are_no_shards() -> None:
    rows = [key_of_row(STREAM, shard_id) for shard_id in (SHARD, "__node__#me", "__note__")]
    assert shard_rows(rows).keys() == {(STREAM, SHARD)}
    assert [worker_of(row) for row in rows] == [None, "me", None]
    assert key_of(rows[0]) == (STREAM, SHARD)
