"""When a stream has something to drain, and what finding out costs, on the local services."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.sources import backlog
from airflow_kinesis_snowflake.sources.backlog import Backlog, BacklogWatch
from airflow_kinesis_snowflake.stream.times import now_millis
from airflow_kinesis_snowflake.triggers.backlog import KinesisBacklogTrigger
from tests.integration.drain.conftest import make_pipeline  # noqa: F401 -- a fixture

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_kinesis import KinesisClient

    from tests.integration.drain.conftest import Pipeline


class Calls:
    """A watch over a pipeline that counts its calls of Kinesis."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.kinesis = KinesisStreamHook(pipeline.stream)
        self.watch = BacklogWatch(kinesis=self.kinesis, store=pipeline.store)
        self.counts: Counter[str] = Counter()
        for client in (self.kinesis._client_for_control(), self.kinesis._client_for_records()):
            client.meta.events.register("before-call.kinesis", self._count)

    def _count(self, model: Any, **_: Any) -> None:
        self.counts[model.name] += 1

    def look(self) -> Backlog:
        """Look until it is clear."""
        while (found := self.watch.look(now=now_millis())).unclear:
            continue
        return found


def test_an_application_that_has_not_begun_has_something_to_drain(
    make_pipeline: Callable[..., Pipeline],  # noqa: F811
) -> None:
    assert Calls(make_pipeline()).look().reason == "it has no checkpoints yet"


def test_there_is_something_from_the_first_record_to_the_drain(
    make_pipeline: Callable[..., Pipeline],  # noqa: F811
) -> None:
    pipeline = make_pipeline(2)
    pipeline.drain().run()
    calls = Calls(pipeline)
    assert calls.look().reason is None

    pipeline.send(1)
    found = calls.look()
    assert found.reason is not None
    assert found.reason.endswith("has records")
    assert calls.look() == found

    pipeline.drain().run()
    after = calls.look()
    assert after.reason is None
    assert after.mark != found.mark


def test_looking_at_an_idle_stream_costs_one_call_per_shard(
    make_pipeline: Callable[..., Pipeline],  # noqa: F811
) -> None:
    pipeline = make_pipeline(3)
    pipeline.send(10)
    pipeline.drain().run()
    calls = Calls(pipeline)
    calls.look()
    calls.counts.clear()

    calls.look()

    assert calls.counts == {"ListShards": 1, "GetRecords": 3}


def test_a_stream_with_many_shards_is_looked_at_bit_by_bit(
    make_pipeline: Callable[..., Pipeline],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backlog, "SHARDS_PER_LOOK", 2)
    pipeline = make_pipeline(5)
    pipeline.drain().run()
    calls = Calls(pipeline)
    for _ in range(3):
        calls.counts.clear()
        found = calls.look()
        assert (found.reason, found.partial) == (None, True)
        assert calls.counts["GetRecords"] <= 2
    pipeline.send(1, key=lambda _: "always the same")
    assert any(calls.look().reason for _ in range(3))


def test_nothing_is_asked_while_a_worker_holds_a_lease(
    make_pipeline: Callable[..., Pipeline],  # noqa: F811
) -> None:
    pipeline = make_pipeline(2)
    pipeline.drain().run()
    pipeline.send(10)
    [first, _] = pipeline.state.shards.values()
    now = now_millis()
    pipeline.store.take_lease(
        pipeline.stream, first, owner="worker", expiry=now + 30_000, now=now, incarnation="i"
    )
    calls = Calls(pipeline)

    found = calls.look()
    assert (found.reason, found.leased) == (None, True)
    assert calls.counts == {}
    assert calls.watch.look(now=now + 30_001).reason is not None


def test_new_shards_and_shards_that_closed_count(
    make_pipeline: Callable[..., Pipeline],  # noqa: F811
    kinesis: KinesisClient,
) -> None:
    pipeline = make_pipeline()
    pipeline.drain().run()
    kinesis.split_shard(
        StreamName=pipeline.stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**127)
    )
    kinesis.get_waiter("stream_exists").wait(StreamName=pipeline.stream, WaiterConfig={"Delay": 0})
    calls = Calls(pipeline)

    assert calls.look().reason == "there are new shards"
    pipeline.drain().run()
    assert calls.look().reason is None


async def next_event(trigger: KinesisBacklogTrigger) -> Any:
    """The first event; fails after a minute."""
    async with asyncio.timeout(60):
        return await anext(aiter(trigger.run()))


def test_the_trigger_fires_with_names_and_no_record(
    make_pipeline: Callable[..., Pipeline],  # noqa: F811
) -> None:
    pipeline = make_pipeline()
    pipeline.drain().run()
    pipeline.send(1)
    trigger = KinesisBacklogTrigger(stream_name=pipeline.stream, application_name=pipeline.application)

    event = asyncio.run(next_event(trigger))

    assert event.payload == {
        "stream_name": pipeline.stream,
        "application_name": pipeline.application,
        "reason": "shardId-000000000000 has records",
    }


def test_the_trigger_survives_errors_and_says_them_once(
    make_pipeline: Callable[..., Pipeline],  # noqa: F811
    kinesis: KinesisClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline = make_pipeline()
    pipeline.drain().run()
    looks: list[float] = []

    def look(self: BacklogWatch, *, now: int) -> Backlog:
        looks.append(time.monotonic())
        if len(looks) < 4:
            KinesisStreamHook("no-such-stream").describe()
        return Backlog("at last")

    monkeypatch.setattr(BacklogWatch, "look", look)
    trigger = KinesisBacklogTrigger(
        stream_name=pipeline.stream, application_name=pipeline.application, poll_seconds=1
    )
    trigger.poll_seconds = 0.01

    event = asyncio.run(next_event(trigger))

    assert event.payload["reason"] == "at last"
    assert len(looks) == 4
    assert [record for record in caplog.messages if "no-such-stream" in record][1:] == []


@pytest.mark.parametrize("found", [Backlog(None, partial=True), Backlog(None, leased=True)])
def test_the_trigger_looks_no_sooner_at_what_it_could_not_see(
    found: Backlog,
    make_pipeline: Callable[..., Pipeline],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline = make_pipeline()
    trigger = KinesisBacklogTrigger(stream_name=pipeline.stream, application_name=pipeline.application)
    looks = iter([found, Backlog("at last")])
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(BacklogWatch, "look", lambda *_, **__: next(looks))
    monkeypatch.setattr("airflow_kinesis_snowflake.triggers.backlog.asyncio.sleep", sleep)

    assert asyncio.run(next_event(trigger)).payload["reason"] == "at last"
    assert waits == [trigger.poll_seconds]


def test_a_trigger_without_its_connection_waits_for_it(
    make_pipeline: Callable[..., Pipeline],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline = make_pipeline()
    trigger = KinesisBacklogTrigger(
        stream_name=pipeline.stream, application_name=pipeline.application, aws_conn_id="missing"
    )
    trigger.poll_seconds = 0.01
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        trigger.source.settings["aws_conn_id"] = "aws_default"

    monkeypatch.setattr("airflow_kinesis_snowflake.triggers.backlog.asyncio.sleep", sleep)

    assert asyncio.run(next_event(trigger)).payload["reason"] == "it has no checkpoints yet"
    assert waits == [0.01]


def test_the_triggerer_makes_the_trigger_anew_from_what_it_serialized() -> None:
    trigger = KinesisBacklogTrigger(
        stream_name="stream", application_name="app", poll_seconds=5, verify=False
    )
    path, settings = trigger.serialize()
    assert path == "airflow_kinesis_snowflake.triggers.backlog.KinesisBacklogTrigger"
    assert KinesisBacklogTrigger(**settings).serialize() == (path, settings)


def test_polling_all_the_time_is_refused() -> None:
    with pytest.raises(InvalidSettingError, match="poll_seconds"):
        KinesisBacklogTrigger(stream_name="stream", application_name="app", poll_seconds=0)
