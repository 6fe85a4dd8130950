"""Where a first drain begins, and where any drain stops."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from airflow_kinesis_snowflake.stream import times
from airflow_kinesis_snowflake.stream.positions import initial_position
from tests.integration.stream.history import later, rows_of_another_consumer

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_dynamodb import DynamoDBClient

    from tests.integration.stream.history import History

pytestmark = pytest.mark.slow


def test_trim_horizon_reads_what_was_written_before_the_first_run(
    make_history: Callable[..., History],
) -> None:
    history = make_history(shards=2)
    for shard_id in history.open_shards:
        history.put(shard_id, 2)

    history.run()

    assert history.landed == history.sent


def test_latest_skips_what_was_there_and_nothing_that_comes_between_two_drains(
    make_history: Callable[..., History],
) -> None:
    history = make_history(shards=2)
    one, other = history.open_shards
    history.put(one, 2)
    assert history.run(initial_position=history.latest()).records == 0
    history.put(one, 2)
    history.put(other, 2)
    history.run(initial_position=history.latest())

    assert history.landed == history.sent[2:]


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda moment: moment.astimezone(ZoneInfo("Asia/Kathmandu")), id="a datetime in Nepal"),
        pytest.param(
            lambda moment: moment.astimezone(ZoneInfo("America/St_Johns")).isoformat(),
            id="text in Newfoundland",
        ),
    ],
)
def test_at_timestamp_begins_at_that_millisecond_in_any_time_zone(
    make_history: Callable[..., History], write: Callable[[datetime], str | datetime]
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    arrivals = history.put_apart(shard_id, 4)
    start = initial_position("AT_TIMESTAMP", write(arrivals[2]), now=datetime.now(UTC))

    history.run(initial_position=start)

    assert history.landed == [2, 3]


def test_consecutive_intervals_partition_the_stream(make_history: Callable[..., History]) -> None:
    history = make_history(shards=2)
    one, other = history.open_shards
    first = history.put_apart(one, 2)
    second = history.put_apart(other, 2)
    third = history.put_apart(one, 1)

    landed = []
    for stop in (first[1], second[1], third[0]):
        history.run(stop_at=stop)
        landed.append(history.landed)

    assert landed == [[0], [0, 1, 2], [0, 1, 2, 3]]
    history.run()
    assert history.landed == history.sent


def test_children_wait_for_records_of_their_parent_that_belong_to_a_later_interval(
    make_history: Callable[..., History],
) -> None:
    history = make_history()
    (parent,) = history.open_shards
    arrivals = history.put_apart(parent, 3)
    child, _ = history.split(parent)
    history.put(child, 2)

    report = history.run(stop_at=arrivals[1])
    assert history.landed == [0]
    assert report.shards.keys() == {parent}
    assert report.shards[parent].outcome == "caught_up"

    history.run()
    assert history.landed == history.sent


@pytest.mark.parametrize("emulator", ["kinesalite"])
def test_rows_that_another_consumer_left_without_a_checkpoint_start_where_the_first_drain_says(
    make_history: Callable[..., History], dynamodb: DynamoDBClient, caplog: pytest.LogCaptureFixture
) -> None:
    history = make_history(shards=2)
    one, other = history.open_shards
    rows_of_another_consumer(dynamodb, history, {one: None})
    history.put(one, 2)
    history.put(other, 1)
    with caplog.at_level(logging.INFO):
        report = history.drain(initial_position=history.latest(), stop_at=later()).run()
    assert report.records == 0
    assert any(one in line and "saved no checkpoint" in line for line in caplog.messages)
    history.put(one, 2)
    history.put(other, 1)

    history.run(initial_position=history.latest())

    assert history.landed == [3, 4, 5]


@pytest.mark.parametrize("emulator", ["kinesalite"])
def test_a_closed_parent_that_another_consumer_left_out_is_read_before_its_children(
    make_history: Callable[..., History], dynamodb: DynamoDBClient
) -> None:
    history = make_history()
    (parent,) = history.open_shards
    history.put(parent, 3)
    children = history.split(parent)
    for child in children:
        history.put(child, 2)
    rows_of_another_consumer(dynamodb, history, dict.fromkeys(children))

    history.run()

    assert history.landed == history.sent


@pytest.fixture
def clock_off(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Function that puts this worker's clock forward by so many seconds."""

    def put_forward(seconds: int) -> None:
        clock = SimpleNamespace(time_ns=lambda: time.time_ns() + seconds * 1_000_000_000)
        monkeypatch.setattr(times, "time", clock)

    return put_forward


@pytest.mark.parametrize("emulator", ["kinesalite"])
def test_a_worker_whose_clock_is_ahead_promises_nothing_of_the_future(
    make_history: Callable[..., History], clock_off: Callable[[int], None]
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    history.put(shard_id, 1)
    clock_off(240)

    history.run(stop_at=datetime.now(UTC) + timedelta(minutes=10))

    caught_up_at = history.state.shards[shard_id].caught_up_at
    assert caught_up_at is not None
    assert caught_up_at <= time.time_ns() // 1_000_000


@pytest.mark.parametrize("emulator", ["kinesalite"])
def test_a_worker_whose_clock_is_late_reads_what_came_since_the_last_drain(
    make_history: Callable[..., History], clock_off: Callable[[int], None]
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    history.put(shard_id, 1)
    history.run()
    history.put(shard_id, 1)
    clock_off(-240)

    history.run()

    assert history.landed == history.sent
