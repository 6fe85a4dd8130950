"""Drains whose records are pushed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.hooks.fan_out import FanOutHook
from airflow_kinesis_snowflake.sources.fan_out import FanOutLimits, FanOutSource
from local.services import wait_until_active
from tests.faults.fixtures import detour, fan_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_kinesis_snowflake.engine.drain import Drain
    from local.fan_out import FanOut
    from tests.integration.drain.conftest import Pipeline

pytestmark = pytest.mark.slow

__all__ = ["detour", "fan_out"]


def pushed(pipeline: Pipeline, **settings: Any) -> Drain:
    source = FanOutSource(
        FanOutHook(pipeline.stream),
        application_name=pipeline.application,
        limits=FanOutLimits(between_seconds=0),
    )
    settings.setdefault("stop_at", datetime.now(UTC) + timedelta(minutes=1))
    return pipeline.drain(source=source, **settings)


def split(pipeline: Pipeline, shard_id: str) -> None:
    pipeline.kinesis.split_shard(
        StreamName=pipeline.stream, ShardToSplit=shard_id, NewStartingHashKey=str(2**126)
    )
    wait_until_active(pipeline.kinesis, pipeline.stream)


def test_all_records_land_once_also_those_of_children(
    make_pipeline: Callable[..., Pipeline], fan_out: FanOut
) -> None:
    pipeline = make_pipeline(2)
    pipeline.send(500)
    split(pipeline, "shardId-000000000000")
    pipeline.send(500)

    report = pushed(pipeline).run()

    assert pipeline.landed == pipeline.sent
    assert (report.records, len(report.shards)) == (1000, 4)
    assert report.shards["shardId-000000000000"].outcome == "ended"
    assert "GetRecords" not in fan_out.calls


def test_a_drain_that_finds_nothing_opens_no_connection_and_goes_on_where_the_last_one_ended(
    make_pipeline: Callable[..., Pipeline], fan_out: FanOut
) -> None:
    pipeline = make_pipeline(2)
    pipeline.send(20)
    pushed(pipeline).run()

    report = pushed(pipeline).run()
    pipeline.send(20)
    pushed(pipeline).run()

    assert (report.records, report.snowflake_connections) == (0, 0)
    assert {shard.outcome for shard in report.shards.values()} == {"caught_up"}
    assert pipeline.landed == pipeline.sent
    assert [name for _, name in fan_out.consumers] == [pipeline.application]


def test_a_drain_that_polls_goes_on_behind_one_that_doesnt_and_the_reverse(
    make_pipeline: Callable[..., Pipeline], fan_out: FanOut
) -> None:
    pipeline = make_pipeline()
    later = datetime.now(UTC) + timedelta(minutes=1)
    for fan_out_again in (True, False, True):
        pipeline.send(10)
        drain = pushed(pipeline) if fan_out_again else pipeline.drain(stop_at=later)
        assert drain.run().records == 10

    assert pipeline.landed == pipeline.sent


def test_workers_share_the_shards_of_one_consumer(
    make_pipeline: Callable[..., Pipeline], fan_out: FanOut
) -> None:
    pipeline = make_pipeline(4)
    pipeline.send(400)

    with ThreadPoolExecutor(2) as workers:
        drains = [pushed(pipeline), pushed(pipeline)]
        list(workers.map(lambda drain: drain.run(), drains))

    assert pipeline.landed == pipeline.sent
    assert len(fan_out.consumers) == 1


def test_connections_that_break_lose_and_double_nothing(
    make_pipeline: Callable[..., Pipeline], fan_out: FanOut
) -> None:
    pipeline = make_pipeline(2)
    fan_out.rules.event_records = 3
    pipeline.send(200)

    def breaking(messages: Iterator[bytes]) -> Iterator[bytes]:
        for number, message in enumerate(messages):
            if number == 5:
                fan_out.cut_off()
            yield message

    fan_out.rules.alter = breaking
    # What had not come when a connection was cut off may be left to the next drain.
    while pushed(pipeline, max_batch_records=20).run().records:
        assert set(pipeline.landed) <= set(pipeline.sent)

    assert pipeline.landed == pipeline.sent


def test_a_drain_that_follows_loads_what_is_pushed_and_ends_its_connections(
    make_pipeline: Callable[..., Pipeline], fan_out: FanOut
) -> None:
    pipeline = make_pipeline(2)
    pipeline.send(10)
    stop_at = datetime.now(UTC) + timedelta(seconds=8)
    with ThreadPoolExecutor(1) as worker:
        drain = pushed(pipeline, follow_seconds=8, stop_at=stop_at, max_batch_seconds=0.5)
        done = worker.submit(drain.run)
        wait_until(lambda: drain.report.records or done.done())
        pipeline.send(10)
        report = done.result(60)

    assert report.records == 20
    assert pipeline.landed == pipeline.sent
    fan_out.cut_off()  # A client that has gone is noticed at the next message.
    wait_until(lambda: not fan_out.open_subscriptions)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fan-out")]


def wait_until(holds: Callable[[], object]) -> None:
    patience = threading.Event()
    for _ in range(600):
        if holds():
            return
        patience.wait(0.1)
    raise AssertionError("it never came true")
