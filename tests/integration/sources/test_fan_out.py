"""Enhanced fan-out over HTTP: what AWS refuses, ends, repeats and cuts off."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    ConsumerUnusableError,
    InvalidSettingError,
    ServiceUnavailableError,
    ThrottledError,
    TransientError,
)
from airflow_kinesis_snowflake.hooks.fan_out import FanOutHook
from airflow_kinesis_snowflake.sources.fan_out import MAX_FRUITLESS, FanOutCursor, FanOutLimits, FanOutSource
from airflow_kinesis_snowflake.sources.polling import PollingCursor
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position
from local.fan_out import CutOffError, event, exception

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_kinesis import KinesisClient

    from airflow_kinesis_snowflake.engine.ports import Cursor
    from airflow_kinesis_snowflake.stream.records import Record
    from local.fan_out import FanOut

pytestmark = pytest.mark.slow

SHARD = "shardId-000000000000"
AT_ONCE = FanOutLimits(between_seconds=0)
PATIENCE_SECONDS = 30.0


@pytest.fixture
def stream(make_stream: Callable[..., str]) -> str:
    return make_stream()


@pytest.fixture
def make_source(stream: str, fan_out: FanOut) -> Iterator[Callable[..., FanOutSource]]:
    """Function that makes a source; each is closed at the end."""
    made = []

    def make(limits: FanOutLimits = AT_ONCE, **settings: Any) -> FanOutSource:
        source = FanOutSource(FanOutHook(stream), application_name="app", limits=limits, **settings)
        made.append(source)
        return source

    yield make
    for source in made:
        source.close()


def put(kinesis: KinesisClient, stream: str, *payloads: bytes, key: str = "0") -> list[str]:
    answer = kinesis.put_records(
        StreamName=stream,
        Records=[{"PartitionKey": "key", "ExplicitHashKey": key, "Data": each} for each in payloads],
    )
    return [each["SequenceNumber"] for each in answer["Records"]]


def numbered(number: int, *, since: int = 0) -> list[bytes]:
    return [b"%d" % each for each in range(since, since + number)]


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it doesn't come to hold"
        time.sleep(0.01)


def read(cursor: Cursor, number: int, *, tolerate: bool = False) -> list[bytes]:
    """Read so many records; perhaps with failures on the way."""
    records: list[Record] = []

    def enough() -> bool:
        try:
            records.extend(cursor.read(limit=1000).records)
        except TransientError:
            if not tolerate:
                raise
        return len(records) >= number

    wait_until(enough)
    return [record.data for record in records]


def failure_of(cursor: Cursor) -> Exception:
    """The next error of a read."""
    errors: list[Exception] = []

    def failed() -> bool:
        try:
            cursor.read(limit=1000)
        except Exception as error:
            errors.append(error)
        return bool(errors)

    wait_until(failed)
    return errors[0]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = [record for record in caplog.records if record.name.startswith("airflow_kinesis_snowflake")]
    return [record.getMessage() for record in ours if record.levelno == logging.WARNING]


# --- the consumer ------------------------------------------------------------------------------------------


def test_the_consumer_is_registered_waited_for_and_used_again(
    make_source: Callable[..., FanOutSource], fan_out: FanOut, kinesis: KinesisClient, stream: str
) -> None:
    put(kinesis, stream, *numbered(3))

    for _ in range(2):
        source = make_source()
        assert read(source.open(SHARD, TRIM_HORIZON), 3) == numbered(3)
        source.close()

    assert [name for _, name in fan_out.consumers] == ["app"]
    assert fan_out.calls.count("RegisterStreamConsumer") == 1
    assert "GetRecords" not in fan_out.calls


@pytest.mark.parametrize(
    "operation", ["DescribeStreamConsumer", "RegisterStreamConsumer", "SubscribeToShard"]
)
def test_where_fan_out_isnt_allowed_shards_are_polled_with_one_warning(
    make_source: Callable[..., FanOutSource],
    fan_out: FanOut,
    kinesis: KinesisClient,
    stream: str,
    caplog: pytest.LogCaptureFixture,
    operation: str,
) -> None:
    put(kinesis, stream, *numbered(3))
    fan_out.rules.denied.add(operation)
    source = make_source()

    cursors = [source.open(SHARD, TRIM_HORIZON) for _ in range(2)]

    assert [read(cursor, 3) for cursor in cursors] == [numbered(3)] * 2
    (warning,) = warnings(caplog)
    assert f"kinesis:{operation}" in warning
    assert "iam --consumer-type enhanced_fan_out" in warning
    assert source.idle_seconds == 1.0


def test_when_the_stream_has_all_the_consumers_it_may_have_shards_are_polled(
    make_source: Callable[..., FanOutSource],
    fan_out: FanOut,
    kinesis: KinesisClient,
    stream: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put(kinesis, stream, *numbered(3))
    fan_out.rules.most_consumers = 0

    assert read(make_source().open(SHARD, TRIM_HORIZON), 3) == numbered(3)

    (warning,) = warnings(caplog)
    assert "at most 20" in warning


def test_a_consumer_that_is_deregistered_is_registered_again(
    make_source: Callable[..., FanOutSource], fan_out: FanOut, kinesis: KinesisClient, stream: str
) -> None:
    put(kinesis, stream, *numbered(3))
    cursor = make_source().open(SHARD, TRIM_HORIZON)
    assert read(cursor, 3) == numbered(3)
    fan_out.consumers.clear()
    put(kinesis, stream, *numbered(3, since=3))
    fan_out.cut_off()

    assert isinstance(failure_of(cursor), ServiceUnavailableError)
    assert read(cursor, 3, tolerate=True) == numbered(3, since=3)
    assert fan_out.calls.count("RegisterStreamConsumer") == 2


def given_consumer(fan_out: FanOut, stream: str) -> str:
    """A consumer that somebody registered."""
    arn = fan_out.kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamARN"]
    registered = fan_out.register({"StreamARN": arn, "ConsumerName": "given"})["Consumer"]
    consumer: str = registered["ConsumerARN"]
    fan_out.describe({"ConsumerARN": consumer})
    return consumer


def test_a_given_consumer_is_used_without_other_calls(
    make_source: Callable[..., FanOutSource], fan_out: FanOut, kinesis: KinesisClient, stream: str
) -> None:
    put(kinesis, stream, *numbered(3))

    cursor = make_source(consumer_arn=given_consumer(fan_out, stream)).open(SHARD, TRIM_HORIZON)

    assert read(cursor, 3) == numbered(3)
    assert fan_out.calls == ["SubscribeToShard"]


def test_a_given_consumer_that_mayn_t_be_used_is_an_error(
    make_source: Callable[..., FanOutSource], fan_out: FanOut, stream: str
) -> None:
    fan_out.rules.denied.add("SubscribeToShard")

    with pytest.raises(AccessDeniedError, match="Allow kinesis:SubscribeToShard"):
        make_source(consumer_arn=given_consumer(fan_out, stream)).open(SHARD, TRIM_HORIZON)


def test_a_given_consumer_that_is_deleted_is_an_error(
    make_source: Callable[..., FanOutSource], fan_out: FanOut, stream: str
) -> None:
    arn = given_consumer(fan_out, stream)
    fan_out.consumers.clear()

    with pytest.raises(ConsumerUnusableError, match="Register consumer given again"):
        make_source(consumer_arn=arn).open(SHARD, TRIM_HORIZON)


@pytest.mark.parametrize(
    ("arn", "said"),
    [
        ("arn:aws:kinesis:us-east-1:000000000000:stream/other/consumer/app:1", "one of stream other"),
        ("arn:aws:sqs:us-east-1:000000000000:queue", "of the service 'sqs'"),
        ("arn:aws:kinesis:us-east-1:000000000000:stream/other", "of a stream"),
        ("app", "RegisterStreamConsumer"),
    ],
)
def test_an_arn_of_something_else_is_refused(
    make_source: Callable[..., FanOutSource], arn: str, said: str
) -> None:
    with pytest.raises(InvalidSettingError, match=said):
        make_source(consumer_arn=arn)


def test_an_application_whose_name_is_too_long_needs_a_consumer_of_its_own(stream: str) -> None:
    with pytest.raises(InvalidSettingError, match="consumer_arn"):
        FanOutSource(FanOutHook(stream), application_name="a" * 129)


# --- subscriptions that end --------------------------------------------------------------------------------


def test_a_subscription_is_renewed_when_the_service_ends_it(
    make_source: Callable[..., FanOutSource], fan_out: FanOut, kinesis: KinesisClient, stream: str
) -> None:
    fan_out.rules.lifetime_seconds = 0.3
    cursor = make_source().open(SHARD, TRIM_HORIZON)

    for number in range(5):
        put(kinesis, stream, b"%d" % number)
        assert read(cursor, 1) == [b"%d" % number]
        subscribed = fan_out.calls.count("SubscribeToShard")
        wait_until(
            partial(
                lambda before: (
                    not cursor.read(limit=10).records and fan_out.calls.count("SubscribeToShard") > before
                ),
                subscribed,
            )
        )


def test_a_subscription_is_renewed_before_the_service_ends_it(
    make_source: Callable[..., FanOutSource], fan_out: FanOut, kinesis: KinesisClient, stream: str
) -> None:
    fan_out.rules.heartbeat_seconds = 0.05
    cursor = make_source(FanOutLimits(between_seconds=0, renewal_seconds=0.2)).open(SHARD, TRIM_HORIZON)

    wait_until(lambda: cursor.read(limit=10) and fan_out.calls.count("SubscribeToShard") > 3)
    put(kinesis, stream, *numbered(3))

    assert read(cursor, 3) == numbered(3)


def test_a_shard_isnt_subscribed_to_again_before_it_may_be(
    make_source: Callable[..., FanOutSource], fan_out: FanOut, kinesis: KinesisClient, stream: str
) -> None:
    fan_out.rules.between_seconds = 5
    source = make_source(FanOutLimits())
    (number,) = put(kinesis, stream, b"0")
    cursor = source.open(SHARD, TRIM_HORIZON)
    assert read(cursor, 1) == [b"0"]
    cursor.close()

    again = source.open(SHARD, Position(number))

    assert again.read(limit=10).millis_behind > 0
    assert fan_out.calls.count("SubscribeToShard") == 1


def test_another_worker_that_subscribes_first_is_a_passing_fault(
    make_source: Callable[..., FanOutSource], fan_out: FanOut, kinesis: KinesisClient, stream: str
) -> None:
    fan_out.rules.between_seconds = 3_600
    put(kinesis, stream, *numbered(3))
    make_source().open(SHARD, TRIM_HORIZON)
    other = make_source()

    with pytest.raises(ThrottledError, match="another program reads as consumer app"):
        other.open(SHARD, TRIM_HORIZON)

    fan_out.rules.between_seconds = 0
    assert read(other.open(SHARD, TRIM_HORIZON), 3) == numbered(3)


def test_whose_subscription_is_taken_over_learns_it(
    make_source: Callable[..., FanOutSource], kinesis: KinesisClient, stream: str
) -> None:
    put(kinesis, stream, *numbered(3))
    first = make_source().open(SHARD, TRIM_HORIZON)
    assert read(first, 3) == numbered(3)

    second = make_source().open(SHARD, TRIM_HORIZON)

    assert "another program" in str(failure_of(first))
    assert read(second, 3) == numbered(3)


def test_a_shard_whose_subscriptions_bring_nothing_is_polled(
    make_source: Callable[..., FanOutSource],
    fan_out: FanOut,
    kinesis: KinesisClient,
    stream: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put(kinesis, stream, *numbered(3))
    fan_out.rules.alter = cut_after(1)
    cursor = make_source().open(SHARD, TRIM_HORIZON)

    assert read(cursor, 3, tolerate=True) == numbered(3)

    (warning,) = warnings(caplog)
    assert f"{MAX_FRUITLESS} subscriptions in a row" in warning
    assert fan_out.calls.count("SubscribeToShard") == MAX_FRUITLESS


def test_a_given_consumer_that_brings_nothing_is_an_error(
    make_source: Callable[..., FanOutSource], fan_out: FanOut, stream: str
) -> None:
    fan_out.rules.alter = cut_after(1)
    cursor = make_source(consumer_arn=given_consumer(fan_out, stream)).open(SHARD, TRIM_HORIZON)

    errors = [failure_of(cursor) for _ in range(MAX_FRUITLESS)]

    assert isinstance(errors[-1], ConsumerUnusableError)
    assert not any(isinstance(error, ConsumerUnusableError) for error in errors[:-1])


# --- events that are late, repeated, cut off, broken -------------------------------------------------------


def cut_after(number: int, *, of_each: bool = True) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    """Break the connection of each subscription, or of the first, after so many messages."""
    turns = count()

    def alter(messages: Iterator[bytes]) -> Iterator[bytes]:
        if not of_each and next(turns):
            yield from messages
        yield from islice(messages, number)
        raise CutOffError

    return alter


def within(messages: Iterator[bytes]) -> Iterator[bytes]:
    """Break the connection in the middle of the first event with records."""
    yield next(messages)
    for each in messages:
        if len(each) > 500:
            yield each[: len(each) // 2]
            raise CutOffError
        yield each


def ended_within(messages: Iterator[bytes]) -> Iterator[bytes]:
    """End the answer, as if it were complete, in the middle of the first event with records."""
    try:
        yield from within(messages)
    except CutOffError:
        return


def damaged(messages: Iterator[bytes]) -> Iterator[bytes]:
    """Change a byte of the first event with records."""
    yield next(messages)
    for each in messages:
        if len(each) > 500:
            yield each[:200] + bytes([each[200] ^ 1]) + each[201:]
        else:
            yield each


def nonsense(messages: Iterator[bytes]) -> Iterator[bytes]:
    """Send what isn't a message."""
    yield next(messages)
    yield b"<html>" * 1000


def pointless(messages: Iterator[bytes]) -> Iterator[bytes]:
    """Send an event that doesn't say how to go on."""
    yield next(messages)
    yield event("SubscribeToShardEvent", {"Records": [], "MillisBehindLatest": 0})


def failed(messages: Iterator[bytes]) -> Iterator[bytes]:
    """Fail as AWS does."""
    yield next(messages)
    yield exception("InternalFailureException", "Internal failure")


@pytest.mark.parametrize("fault", [cut_after(1), within, ended_within, damaged, nonsense, pointless, failed])
def test_after_a_fault_of_a_subscription_the_next_one_goes_on(
    make_source: Callable[..., FanOutSource],
    fan_out: FanOut,
    kinesis: KinesisClient,
    stream: str,
    fault: Callable[[Iterator[bytes]], Iterator[bytes]],
) -> None:
    put(kinesis, stream, *numbered(20))
    fan_out.rules.alter = fault
    cursor = make_source().open(SHARD, TRIM_HORIZON)
    assert isinstance(failure_of(cursor), ServiceUnavailableError)
    fan_out.rules.alter = iter

    assert read(cursor, 20, tolerate=True) == numbered(20)


def test_events_that_come_again_are_dropped(
    make_source: Callable[..., FanOutSource], fan_out: FanOut, kinesis: KinesisClient, stream: str
) -> None:
    def twice(messages: Iterator[bytes]) -> Iterator[bytes]:
        yield next(messages)
        before = b""
        for each in messages:
            yield from (each, each, before) if before else (each, each)
            before = each

    fan_out.rules.alter = twice
    cursor = make_source().open(SHARD, TRIM_HORIZON)

    for number in range(0, 9, 3):
        put(kinesis, stream, *numbered(3, since=number))
        assert read(cursor, 3) == numbered(3, since=number)
    assert cursor.read(limit=10).records == ()


def test_a_key_that_is_disabled_is_an_error_of_the_shard(
    make_source: Callable[..., FanOutSource], fan_out: FanOut
) -> None:
    def without_key(messages: Iterator[bytes]) -> Iterator[bytes]:
        yield next(messages)
        yield exception("KMSDisabledException", "The key is disabled")

    fan_out.rules.alter = without_key

    error = failure_of(make_source().open(SHARD, TRIM_HORIZON))

    assert isinstance(error, AccessDeniedError)
    assert "kms:Decrypt" in str(error)


# --- memory ------------------------------------------------------------------------------------------------


def test_events_wait_in_their_sockets_while_there_is_no_room(
    make_source: Callable[..., FanOutSource],
    kinesis: KinesisClient,
    make_stream: Callable[..., str],
    fan_out: FanOut,
) -> None:
    """10 MiB of events come, and at most 1 MiB of them is held."""
    name = make_stream(2)
    keys = ["0", str(2**127)]
    for number in range(64):
        for key in keys:
            records = [b"%05d" % each + b"x" * 30_000 for each in (2 * number, 2 * number + 1)]
            put(kinesis, name, *records, key=key)
    fan_out.rules.event_records = 5
    limits = FanOutLimits(total_bytes=2**20, shard_bytes=2**19, between_seconds=0)
    source = FanOutSource(FanOutHook(name), application_name="app", limits=limits)

    cursors = [source.open(shard.shard_id, TRIM_HORIZON) for shard in source.list_shards()]
    held: list[int] = []

    def some() -> bool:
        held.append(source.held_bytes)
        return held[-1] > 0 and len(held) > 50

    wait_until(some)
    found: list[list[bytes]] = [[], []]

    def all_of_them() -> bool:
        for cursor, of_shard in zip(cursors, found, strict=True):
            of_shard += [record.data[:5] for record in cursor.read(limit=5).records]
            held.append(source.held_bytes)
        return all(len(of_shard) == 128 for of_shard in found)

    wait_until(all_of_them)
    source.close()

    assert found == [[b"%05d" % number for number in range(128)]] * 2
    assert 2**19 < max(held) <= 2**20
    wait_until(lambda: source.held_bytes == 0)


def test_more_shards_than_may_be_subscribed_to_are_polled(
    kinesis: KinesisClient, make_stream: Callable[..., str], fan_out: FanOut
) -> None:
    name = make_stream(3)
    source = FanOutSource(
        FanOutHook(name), application_name="app", limits=FanOutLimits(subscriptions=2, between_seconds=0)
    )
    put(kinesis, name, *numbered(3), key=str(2**128 - 1))

    cursors = [source.open(shard.shard_id, TRIM_HORIZON) for shard in source.list_shards()]

    assert [type(cursor) for cursor in cursors] == [FanOutCursor, FanOutCursor, PollingCursor]
    assert read(cursors[2], 3) == numbered(3)
    cursors[0].close()
    assert isinstance(source.open(SHARD, TRIM_HORIZON), FanOutCursor)
    source.close()


def test_closing_a_cursor_ends_its_connection_and_its_thread(
    make_source: Callable[..., FanOutSource], fan_out: FanOut
) -> None:
    fan_out.rules.heartbeat_seconds = 0.05
    source = make_source()
    cursor = source.open(SHARD, TRIM_HORIZON)
    wait_until(lambda: fan_out.open_subscriptions == 1)

    cursor.close()

    wait_until(lambda: not [each for each in threading.enumerate() if each.name == f"fan-out-{SHARD}"])
    wait_until(lambda: fan_out.open_subscriptions == 0)
    assert cursor.read(limit=10).records == ()
