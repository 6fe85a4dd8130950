"""The Kinesis hook against a local Kinesis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from airflow_kinesis_snowflake.exceptions import ForeignCheckpointError, StreamNotFoundError
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position, StartAt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mypy_boto3_kinesis import KinesisClient

    from airflow_kinesis_snowflake.stream.records import Page, Record

FIRST_SHARD = "shardId-000000000000"


@pytest.fixture
def stream(make_stream: Callable[..., str]) -> str:
    return make_stream()


@pytest.fixture
def hook(stream: str, aws_conn: str) -> KinesisStreamHook:
    return KinesisStreamHook(stream, aws_conn_id=aws_conn)


def put(kinesis: KinesisClient, stream: str, payloads: Iterable[bytes]) -> list[str]:
    """Write records in this order and return their sequence numbers."""
    return [
        kinesis.put_record(StreamName=stream, PartitionKey="key", Data=payload)["SequenceNumber"]
        for payload in payloads
    ]


def wait_until_active(kinesis: KinesisClient, stream: str) -> None:
    kinesis.get_waiter("stream_exists").wait(
        StreamName=stream,
        WaiterConfig={"Delay": 0.01, "MaxAttempts": 1000},  # type: ignore[typeddict-item]
    )


def read(hook: KinesisStreamHook, start: Position | StartAt, *, shard_id: str = FIRST_SHARD) -> list[bytes]:
    return [record.data for record in hook.get_page(hook.get_iterator(shard_id, start)).records]


def test_the_facts_of_a_stream(hook: KinesisStreamHook, stream: str) -> None:
    facts = hook.describe()

    assert facts.name == stream
    assert facts.arn.startswith("arn:aws:kinesis:us-east-1:")
    assert facts.arn.endswith(f":stream/{stream}")
    assert facts.created.tzinfo is UTC
    assert abs(datetime.now(UTC) - facts.created) < timedelta(minutes=5)
    assert (facts.retention, facts.status, facts.encryption) == (timedelta(hours=24), "ACTIVE", False)
    assert hook.test_connection()[0]


@pytest.mark.usefixtures("aws_conn")
def test_a_stream_that_does_not_exist_is_named() -> None:
    hook = KinesisStreamHook("nothing-here")

    with pytest.raises(StreamNotFoundError, match="'nothing-here' in us-east-1"):
        hook.describe()
    works, message = hook.test_connection()
    assert not works
    assert "Check its name or ARN" in message


def test_shards_know_their_parents_and_whether_they_are_closed(
    kinesis: KinesisClient, hook: KinesisStreamHook, stream: str
) -> None:
    kinesis.split_shard(StreamName=stream, ShardToSplit=FIRST_SHARD, NewStartingHashKey=str(2**127))
    wait_until_active(kinesis, stream)
    kinesis.merge_shards(
        StreamName=stream, ShardToMerge="shardId-000000000001", AdjacentShardToMerge="shardId-000000000002"
    )
    wait_until_active(kinesis, stream)

    shards = hook.list_shards()

    assert [
        (shard.shard_id[-1], [parent[-1] for parent in shard.parents], shard.closed) for shard in shards
    ] == [
        ("0", [], True),
        ("1", ["0"], True),
        ("2", ["0"], True),
        ("3", ["1", "2"], False),
    ]
    assert (shards[1].starting_hash_key, shards[1].ending_hash_key) == (0, 2**127 - 1)


def test_records_come_as_plain_boto3_reads_them(
    kinesis: KinesisClient, hook: KinesisStreamHook, stream: str
) -> None:
    put(kinesis, stream, [b"", b"\x00\xff\xfe", "žluťoučký".encode(), b"x" * 100_000])
    iterator = hook.get_iterator(FIRST_SHARD, TRIM_HORIZON)

    page = hook.get_page(iterator)

    def facts(record: Record) -> tuple[str, bytes, str, float]:
        return record.sequence_number, record.data, record.partition_key, record.approximate_arrival

    assert [facts(record) for record in page.records] == [
        (
            plain["SequenceNumber"],
            plain["Data"],
            plain["PartitionKey"],
            plain["ApproximateArrivalTimestamp"].timestamp(),
        )
        for plain in kinesis.get_records(ShardIterator=iterator)["Records"]
    ]


def test_pages_follow_one_another_without_gap(
    kinesis: KinesisClient, hook: KinesisStreamHook, stream: str
) -> None:
    payloads = [b"%d" % number for number in range(7)]
    put(kinesis, stream, payloads)

    pages: list[Page] = []
    iterator: str | None = hook.get_iterator(FIRST_SHARD, TRIM_HORIZON)
    while iterator and (not pages or pages[-1].records):
        pages.append(hook.get_page(iterator, limit=3))
        iterator = pages[-1].next_iterator

    assert [len(page.records) for page in pages] == [3, 3, 1, 0]
    assert [record.data for page in pages for record in page.records] == payloads
    assert pages[-1].millis_behind == 0


def test_reading_starts_where_it_is_told(
    kinesis: KinesisClient, hook: KinesisStreamHook, stream: str
) -> None:
    first, second, _ = put(kinesis, stream, [b"a", b"b", b"c"])

    assert read(hook, TRIM_HORIZON) == [b"a", b"b", b"c"]
    assert read(hook, Position(first)) == [b"b", b"c"]
    assert read(hook, Position(first, 3)) == [b"a", b"b", b"c"]
    assert hook.get_page(hook.get_iterator_at(FIRST_SHARD, second)).records[0].data == b"b"
    assert read(hook, StartAt(datetime.now(UTC) - timedelta(hours=1))) == [b"a", b"b", b"c"]


def test_a_moment_leaves_out_what_came_before(
    kinesis: KinesisClient, hook: KinesisStreamHook, stream: str
) -> None:
    arrivals: list[int] = []
    while len(set(arrivals)) < 2:
        put(kinesis, stream, [b"%d" % len(arrivals)])
        records = hook.get_page(hook.get_iterator(FIRST_SHARD, TRIM_HORIZON)).records
        arrivals = [int(record.approximate_arrival) for record in records]

    moment = StartAt(datetime.fromtimestamp(arrivals[-1], UTC))

    assert read(hook, moment) == [records[-1].data]


def test_a_sequence_number_of_another_shard_is_foreign(
    kinesis: KinesisClient, make_stream: Callable[..., str], aws_conn: str
) -> None:
    stream = make_stream(shards=2)
    put_record = kinesis.put_record(StreamName=stream, PartitionKey="key", ExplicitHashKey="0", Data=b"x")
    hook = KinesisStreamHook(stream, aws_conn_id=aws_conn)

    with pytest.raises(ForeignCheckpointError, match="shardId-000000000001"):
        hook.get_iterator("shardId-000000000001", Position(put_record["SequenceNumber"]))


def test_a_closed_shard_ends(kinesis: KinesisClient, hook: KinesisStreamHook, stream: str) -> None:
    put(kinesis, stream, [b"last"])
    kinesis.split_shard(StreamName=stream, ShardToSplit=FIRST_SHARD, NewStartingHashKey=str(2**127))
    wait_until_active(kinesis, stream)

    payloads = []
    iterator: str | None = hook.get_iterator(FIRST_SHARD, TRIM_HORIZON)
    while iterator:
        page = hook.get_page(iterator)
        payloads += [record.data for record in page.records]
        iterator = page.next_iterator

    assert payloads == [b"last"]


def test_threads_read_through_one_hook(
    kinesis: KinesisClient, make_stream: Callable[..., str], aws_conn: str
) -> None:
    stream = make_stream(shards=16)
    for number in range(16):
        kinesis.put_record(
            StreamName=stream, PartitionKey="key", ExplicitHashKey=str(number * 2**124), Data=b"%d" % number
        )
    hook = KinesisStreamHook(stream, aws_conn_id=aws_conn)

    with ThreadPoolExecutor(16) as threads:
        payloads = threads.map(
            lambda number: read(hook, TRIM_HORIZON, shard_id=f"shardId-{number:012d}"), range(16)
        )

    assert list(payloads) == [[b"%d" % number] for number in range(16)]
