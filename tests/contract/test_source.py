"""What the engine may expect of every source: of those for Kinesis, on local services, and of the fake."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol

import pytest
from aiokpl.aggregation import UserRecord, encode_aggregated

from airflow_kinesis_snowflake.exceptions import ForeignCheckpointError, ThrottledError, TransientError
from airflow_kinesis_snowflake.hooks.fan_out import FanOutHook
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.sources.fan_out import FanOutLimits, FanOutSource
from airflow_kinesis_snowflake.sources.polling import PollingSource
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position, StartAt
from airflow_kinesis_snowflake.testing.source import FakeSource
from local.services import wait_until_active
from tests.faults.actions import THROTTLED, aws_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mypy_boto3_kinesis import KinesisClient

    from airflow_kinesis_snowflake.engine.ports import Cursor, Source
    from airflow_kinesis_snowflake.stream.lineage import Shard
    from airflow_kinesis_snowflake.stream.records import Delivery, Record
    from local.fan_out import FanOut
    from tests.faults.proxy import FaultProxy

PATIENCE_SECONDS = 30.0


class Stream(Protocol):
    """A stream of two shards, and a source that reads it."""

    source: Source

    def put(self, shard_id: str, *payloads: bytes) -> list[str]:
        """Write records; returns their sequence numbers."""

    def split(self, shard_id: str) -> None:
        """Split a shard."""

    def fail(self) -> None:
        """Let a read of each open cursor, or of the next one, fail soon."""


class InMemory:
    def __init__(self) -> None:
        self.source: Source = (fake := FakeSource(2))
        self._fake = fake

    def put(self, shard_id: str, *payloads: bytes) -> list[str]:
        return self._fake.put(shard_id, *payloads)

    def split(self, shard_id: str) -> None:
        self._fake.split(shard_id)

    def fail(self) -> None:
        self._fake.fail(ThrottledError("once"))


class OnKinesis:
    """A stream of the local Kinesis."""

    def __init__(self, kinesis: KinesisClient, name: str, source: Source, fail: Callable[[], object]) -> None:
        self.source = source
        self.fail = fail
        self._kinesis = kinesis
        self._name = name

    def put(self, shard_id: str, *payloads: bytes) -> list[str]:
        key = str(self._shard(shard_id).starting_hash_key)
        answer = self._kinesis.put_records(
            StreamName=self._name,
            Records=[{"PartitionKey": "key", "ExplicitHashKey": key, "Data": each} for each in payloads],
        )
        assert {each["ShardId"] for each in answer["Records"]} == {shard_id}
        return [each["SequenceNumber"] for each in answer["Records"]]

    def split(self, shard_id: str) -> None:
        shard = self._shard(shard_id)
        middle = (shard.starting_hash_key + shard.ending_hash_key + 1) // 2
        self._kinesis.split_shard(
            StreamName=self._name, ShardToSplit=shard_id, NewStartingHashKey=str(middle)
        )
        wait_until_active(self._kinesis, self._name)

    def _shard(self, shard_id: str) -> Shard:
        return next(each for each in self.source.list_shards() if each.shard_id == shard_id)


@pytest.fixture
def in_memory() -> InMemory:
    return InMemory()


@pytest.fixture
def polled(kinesis: KinesisClient, make_stream: Callable[..., str], kinesis_proxy: FaultProxy) -> OnKinesis:
    name = make_stream(2)
    fail = partial(kinesis_proxy.add, aws_error(THROTTLED), operation="GetRecords", times=1)
    return OnKinesis(kinesis, name, PollingSource(KinesisStreamHook(name)), fail)


@pytest.fixture
def pushed(kinesis: KinesisClient, make_stream: Callable[..., str], fan_out: FanOut) -> Iterator[OnKinesis]:
    name = make_stream(2)
    source = FanOutSource(FanOutHook(name), application_name="app", limits=FanOutLimits(between_seconds=0))
    yield OnKinesis(kinesis, name, source, fan_out.cut_off)
    source.close()


@pytest.fixture(params=["in_memory", "polled", "pushed"])
def stream(request: pytest.FixtureRequest) -> Stream:
    found: Stream = request.getfixturevalue(request.param)
    return found


def shards_of(stream: Stream) -> list[str]:
    return [shard.shard_id for shard in stream.source.list_shards()]


def read(
    cursor: Cursor,
    until: Callable[[list[Record], Delivery], bool],
    *,
    limit: int = 1000,
    before: Sequence[Record] = (),
) -> list[Record]:
    """Read until something is so; returns what came, behind what came before."""
    records = [*before]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        delivery = cursor.read(limit=limit)
        assert len(delivery.records) <= limit
        records += delivery.records
        if until(records, delivery):
            return records
        time.sleep(0.01)
    raise TimeoutError(f"{len(records)} records came")


def payloads_of(records: list[Record]) -> list[bytes]:
    return [record.data for record in records]


def to_the_tip(records: list[Record], delivery: Delivery) -> bool:
    return not delivery.records and not delivery.millis_behind


def to_the_end(records: list[Record], delivery: Delivery) -> bool:
    return delivery.ended


def so_many(count: int) -> Callable[[list[Record], Delivery], bool]:
    return lambda records, _: len(records) >= count


def numbered(count: int, *, since: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(since, since + count)]


def test_records_come_in_order_each_once(stream: Stream) -> None:
    shard, _ = shards_of(stream)
    numbers = stream.put(shard, *numbered(50))
    cursor = stream.source.open(shard, TRIM_HORIZON)

    records = read(cursor, to_the_tip, limit=7)

    assert payloads_of(records) == numbered(50)
    assert [record.sequence_number for record in records] == numbers
    assert {record.partition_key for record in records} == {"key"}


def test_a_limit_of_one_record_is_kept(stream: Stream) -> None:
    shard, _ = shards_of(stream)
    stream.put(shard, *numbered(5))

    assert payloads_of(read(stream.source.open(shard, TRIM_HORIZON), to_the_tip, limit=1)) == numbered(5)


def test_each_shard_has_its_own_records(stream: Stream) -> None:
    one, other = shards_of(stream)
    stream.put(one, b"one")
    stream.put(other, b"other")

    assert payloads_of(read(stream.source.open(one, TRIM_HORIZON), to_the_tip)) == [b"one"]
    assert payloads_of(read(stream.source.open(other, TRIM_HORIZON), to_the_tip)) == [b"other"]


def test_whatever_bytes_a_record_holds_arrive(stream: Stream) -> None:
    shard, _ = shards_of(stream)
    payloads = [b"\x00\xff\xfe", "žluťoučký".encode(), b"x" * 200_000, b"{}"]
    stream.put(shard, *payloads)

    assert payloads_of(read(stream.source.open(shard, TRIM_HORIZON), to_the_tip)) == payloads


def test_an_empty_shard_is_at_its_tip_and_not_at_its_end(stream: Stream) -> None:
    shard, _ = shards_of(stream)
    cursor = stream.source.open(shard, TRIM_HORIZON)

    assert read(cursor, to_the_tip) == []
    assert not cursor.read(limit=10).ended
    stream.put(shard, b"later")
    assert payloads_of(read(cursor, so_many(1))) == [b"later"]


def test_a_shard_is_opened_after_a_record(stream: Stream) -> None:
    shard, _ = shards_of(stream)
    numbers = stream.put(shard, *numbered(4))

    records = read(stream.source.open(shard, Position(numbers[1])), to_the_tip)

    assert payloads_of(records) == [b"2", b"3"]


def test_a_shard_is_opened_after_its_last_record(stream: Stream) -> None:
    shard, _ = shards_of(stream)
    cursor = stream.source.open(shard, Position(stream.put(shard, *numbered(3))[-1]))

    assert read(cursor, to_the_tip) == []
    stream.put(shard, b"3")
    assert payloads_of(read(cursor, so_many(1))) == [b"3"]


def test_a_shard_is_opened_with_a_record(stream: Stream) -> None:
    shard, _ = shards_of(stream)
    numbers = stream.put(shard, *numbered(4))

    records = read(stream.source.open(shard, Position(numbers[1]), with_start=True), to_the_tip)

    assert payloads_of(records) == [b"1", b"2", b"3"]


def test_a_shard_is_opened_inside_an_aggregate_with_the_whole_of_it(stream: Stream) -> None:
    shard, _ = shards_of(stream)
    aggregate = encode_aggregated([UserRecord("key", each, None) for each in numbered(3)])
    _, number, _ = stream.put(shard, b"before", aggregate, b"behind")

    records = read(stream.source.open(shard, Position(number, 1)), to_the_tip)

    assert payloads_of(records) == [aggregate, b"behind"]


def test_a_shard_is_opened_at_a_moment(stream: Stream) -> None:
    """A second and more apart, because moments may be cut down to the second."""
    shard, _ = shards_of(stream)
    stream.put(shard, b"early")
    (early,) = read(stream.source.open(shard, TRIM_HORIZON), so_many(1))
    moment = datetime.fromtimestamp(int(early.approximate_arrival) + 1, UTC)
    while datetime.now(UTC) < moment + timedelta(milliseconds=50):
        time.sleep(0.01)
    stream.put(shard, b"late")

    assert payloads_of(read(stream.source.open(shard, StartAt(moment)), to_the_tip)) == [b"late"]
    beginning = StartAt(moment - timedelta(hours=1))
    assert payloads_of(read(reopened(stream, shard, beginning), to_the_tip)) == [b"early", b"late"]


def reopened(stream: Stream, shard_id: str, start: Position | StartAt) -> Cursor:
    """A cursor behind others of the same shard, which are closed as the engine closes them."""
    stream.source.close()
    return stream.source.open(shard_id, start)


def test_a_shard_that_is_opened_at_a_moment_behind_its_records_waits_for_more(stream: Stream) -> None:
    shard, _ = shards_of(stream)
    stream.put(shard, b"early")
    (early,) = read(stream.source.open(shard, TRIM_HORIZON), so_many(1))
    moment = datetime.fromtimestamp(int(early.approximate_arrival) + 1, UTC)
    while datetime.now(UTC) < moment + timedelta(milliseconds=50):
        time.sleep(0.01)
    cursor = reopened(stream, shard, StartAt(moment))

    assert read(cursor, to_the_tip) == []
    stream.put(shard, b"late")
    assert payloads_of(read(cursor, so_many(1))) == [b"late"]


def test_a_sequence_number_of_another_shard_is_refused(stream: Stream) -> None:
    one, other = shards_of(stream)
    (number,) = stream.put(one, b"one")

    with pytest.raises(ForeignCheckpointError):
        stream.source.open(other, Position(number))


def test_after_an_error_reading_goes_on_without_a_gap_and_without_doubles(stream: Stream) -> None:
    shard, _ = shards_of(stream)
    stream.put(shard, *numbered(20))
    cursor = stream.source.open(shard, TRIM_HORIZON)
    records = read(cursor, so_many(5), limit=5)

    stream.fail()
    failed = False
    while not failed:
        try:
            records = read(cursor, lambda *_: True, before=records)
        except TransientError:
            failed = True
    stream.put(shard, *numbered(20, since=20))

    assert payloads_of(read(cursor, to_the_tip, before=records)) == numbered(40)


def test_a_closed_shard_ends_with_its_last_record(stream: Stream) -> None:
    shard, _ = shards_of(stream)
    stream.put(shard, *numbered(10))
    stream.split(shard)
    cursor = stream.source.open(shard, TRIM_HORIZON)

    assert payloads_of(read(cursor, to_the_end, limit=3)) == numbered(10)
    again = cursor.read(limit=3)
    assert (again.records, again.ended) == ((), True)


def test_a_shard_that_is_closed_while_it_is_read_ends(stream: Stream) -> None:
    shard, _ = shards_of(stream)
    stream.put(shard, b"0")
    cursor = stream.source.open(shard, TRIM_HORIZON)
    assert payloads_of(read(cursor, to_the_tip)) == [b"0"]

    stream.put(shard, b"1")
    stream.split(shard)

    assert payloads_of(read(cursor, to_the_end)) == [b"1"]


def test_a_closed_shard_that_is_opened_behind_its_last_record_ends(stream: Stream) -> None:
    shard, _ = shards_of(stream)
    (number,) = stream.put(shard, b"last")
    stream.split(shard)

    assert read(stream.source.open(shard, Position(number)), to_the_end) == []


def test_children_say_who_their_parents_are_and_have_their_own_records(stream: Stream) -> None:
    shard, _ = shards_of(stream)
    stream.put(shard, b"parent")
    stream.split(shard)
    children = [each for each in stream.source.list_shards() if shard in each.parents]

    assert [each.closed for each in stream.source.list_shards() if each.shard_id == shard] == [True]
    assert [each.closed for each in children] == [False, False]
    for child in children:
        stream.put(child.shard_id, child.shard_id.encode())
        records = read(stream.source.open(child.shard_id, TRIM_HORIZON), to_the_tip)
        assert payloads_of(records) == [child.shard_id.encode()]


def test_a_record_is_read_again_by_its_number(stream: Stream) -> None:
    shard, _ = shards_of(stream)
    aggregate = encode_aggregated([UserRecord("key", each, None) for each in numbered(3)])
    plain, aggregated, _ = stream.put(shard, b"plain", aggregate, b"behind")

    assert [each.data for each in stream.source.read_again(shard, plain)] == [b"plain"]
    again = stream.source.read_again(shard, aggregated)
    assert [(each.data, each.sub_sequence_number) for each in again] == [(b"0", 0), (b"1", 1), (b"2", 2)]


def test_a_shard_is_opened_again_where_it_was_left(stream: Stream) -> None:
    shard, _ = shards_of(stream)
    stream.put(shard, *numbered(10))
    cursor = stream.source.open(shard, TRIM_HORIZON)
    before = read(cursor, so_many(3), limit=3)
    cursor.close()

    again = stream.source.open(shard, Position(before[-1].sequence_number))

    assert payloads_of([*before, *read(again, to_the_tip)]) == numbered(10)


def test_a_cursor_is_closed_any_number_of_times_and_from_any_thread(stream: Stream) -> None:
    shard, _ = shards_of(stream)
    stream.put(shard, *numbered(3))
    cursor = stream.source.open(shard, TRIM_HORIZON)
    read(cursor, to_the_tip)
    threads = [threading.Thread(target=cursor.close) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cursor.close()
    stream.source.close()
    stream.source.close()


def test_two_shards_are_read_on_two_threads(stream: Stream) -> None:
    shards = shards_of(stream)
    for shard in shards:
        stream.put(shard, *numbered(30))
    found: dict[str, list[bytes]] = {}

    def work(shard_id: str) -> None:
        found[shard_id] = payloads_of(read(stream.source.open(shard_id, TRIM_HORIZON), to_the_tip, limit=4))

    threads = [threading.Thread(target=work, args=[shard]) for shard in shards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == dict.fromkeys(shards, numbered(30))


def test_the_facts_of_the_stream(stream: Stream) -> None:
    facts = stream.source.describe()

    assert facts.name == stream.source.stream_name
    assert facts.arn.endswith(f":stream/{facts.name}")
    assert abs(datetime.now(UTC) - facts.created) < timedelta(minutes=5)
    assert len(shards_of(stream)) == 2
