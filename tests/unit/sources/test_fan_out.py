"""What a cursor knows of the tip of its shard, and since when."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.engine.runtime import Machine
from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.sources.fan_out import FanOutCursor, FanOutSource
from airflow_kinesis_snowflake.sources.polling import PollingCursor
from airflow_kinesis_snowflake.stream.consumers import Consumer, ConsumerArn, ShardEvent
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position
from airflow_kinesis_snowflake.stream.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders/consumer/app:1"


class Clock(Machine):
    """The machine, whose monotonic clock the test sets."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class StubSubscription:
    """Brings what the test hands to it, and says when that has been kept."""

    admit: Callable[[int], bool]
    events: SimpleQueue[ShardEvent | None] = field(default_factory=SimpleQueue)
    waiting: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __iter__(self) -> Iterator[ShardEvent]:
        while True:
            self.waiting.release()
            event = self.events.get()
            if event is None or not self.admit(100):
                return
            yield event

    def bring(self, *events: ShardEvent) -> None:
        """Hand events over, and return when they are kept; a wait for the next one has begun."""
        for event in events:
            self.events.put(event)
        for _ in events:
            assert self.waiting.acquire(timeout=10)

    def close(self) -> None:
        self.events.put(None)


@dataclass
class StubKinesis:
    stream_name: str = "orders"
    subscriptions: list[StubSubscription] = field(default_factory=list)
    starts: list[object] = field(default_factory=list)
    iterators: list[str] = field(default_factory=list)

    def get_iterator_at(self, shard_id: str, sequence_number: str) -> str:
        self.iterators.append(sequence_number)
        return "iterator"

    def find_consumer(self, name: str) -> Consumer:
        return Consumer(ARN, "ACTIVE")

    def subscribe(
        self, consumer_arn: str, shard_id: str, start: object, *, with_start: bool, admit: Any
    ) -> StubSubscription:
        self.starts.append((start, with_start))
        self.subscriptions.append(StubSubscription(admit))
        return self.subscriptions[-1]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kinesis() -> StubKinesis:
    return StubKinesis()


@pytest.fixture
def cursor(kinesis: StubKinesis, clock: Clock) -> Iterator[FanOutCursor]:
    source = FanOutSource(kinesis, application_name="app", runtime=clock)  # type: ignore[arg-type]
    opened = source.open("shard", TRIM_HORIZON)
    assert kinesis.subscriptions[0].waiting.acquire(timeout=10)
    yield opened  # type: ignore[misc]
    source.close()


def event(*numbers: int, behind: int = 0) -> ShardEvent:
    records = tuple(
        Record(sequence_number=str(number), approximate_arrival=1.0, data=b"{}") for number in numbers
    )
    return ShardEvent(records, str(numbers[-1] if numbers else 1), behind)


@pytest.mark.parametrize(
    ("start", "with_start", "expected"),
    [
        (Position("5"), False, ["6"]),
        (Position("5"), True, ["5", "6"]),
        (Position("5", 0), False, ["5", "6"]),
        (Position("5", 3), False, ["5", "6"]),
    ],
    ids=str,
)
def test_what_came_before_the_start_is_dropped_when_it_is_brought_again(
    kinesis: StubKinesis, clock: Clock, start: Position, with_start: bool, expected: list[str]
) -> None:
    source = FanOutSource(kinesis, application_name="app", runtime=clock)  # type: ignore[arg-type]
    cursor = source.open("shard", start, with_start=with_start)
    assert kinesis.subscriptions[0].waiting.acquire(timeout=10)
    kinesis.subscriptions[0].bring(event(3, 4, 5, 6))
    assert [record.sequence_number for record in cursor.read(limit=10).records] == expected
    source.close()


def test_a_record_that_is_looked_at_again_too_soon_for_a_subscription_is_polled(
    kinesis: StubKinesis, clock: Clock
) -> None:
    source = FanOutSource(kinesis, application_name="app", runtime=clock)  # type: ignore[arg-type]
    source.open("shard", TRIM_HORIZON).close()
    clock.now += 4.9
    assert isinstance(source.open("shard", Position("5"), with_start=True), PollingCursor)
    assert kinesis.iterators == ["5"]
    clock.now += 0.2
    assert isinstance(source.open("shard", Position("5"), with_start=True), FanOutCursor)
    source.close()


def test_a_shard_of_which_nothing_has_come_isnt_at_its_tip(cursor: FanOutCursor) -> None:
    assert cursor.read(limit=10).millis_behind > 0


def test_what_an_event_says_was_so_when_the_wait_for_it_began(
    cursor: FanOutCursor, kinesis: StubKinesis, clock: Clock
) -> None:
    """It may have been on its way since then."""
    clock.now = 103.0
    kinesis.subscriptions[0].bring(event())
    clock.now = 104.0
    assert (cursor.read(limit=10).millis_behind, cursor.read(limit=10).age_seconds) == (0, 4.0)

    clock.now = 108.0
    kinesis.subscriptions[0].bring(event())

    assert cursor.read(limit=10).age_seconds == 5.0


def test_an_event_that_was_there_already_may_be_as_old_as_the_one_before_it(
    cursor: FanOutCursor, kinesis: StubKinesis, clock: Clock
) -> None:
    clock.now = 103.0
    kinesis.subscriptions[0].bring(event(), event())

    assert cursor.read(limit=10).age_seconds == 3.0


def test_as_long_as_something_waits_to_be_read_the_shard_isnt_at_its_tip(
    cursor: FanOutCursor, kinesis: StubKinesis
) -> None:
    kinesis.subscriptions[0].bring(event(1, 2, 3), event(4))

    deliveries = [cursor.read(limit=2) for _ in range(3)]

    assert [len(delivery.records) for delivery in deliveries] == [2, 2, 0]
    assert [delivery.millis_behind > 0 for delivery in deliveries] == [True, False, False]


def test_the_next_subscription_begins_where_the_last_event_says(
    cursor: FanOutCursor, kinesis: StubKinesis, clock: Clock
) -> None:
    kinesis.subscriptions[0].bring(event(1, 2))
    kinesis.subscriptions[0].bring(ShardEvent((), "7", 0))
    kinesis.subscriptions[0].close()
    clock.now += 5.0
    while len(kinesis.subscriptions) < 2:
        cursor.read(limit=10)

    assert kinesis.starts == [(TRIM_HORIZON, False), (Position("7"), False)]
    assert cursor.read(limit=10).millis_behind > 0, "nothing has come of the new one"


def test_an_arn_says_whose_consumer_it_is() -> None:
    arn = ConsumerArn.parse(ARN)

    assert (arn.name, arn.stream.name, arn.stream.region) == ("app", "orders", "eu-west-1")
    for wrong in ("", "app", f"{ARN}x", ARN.replace("kinesis", "s3"), f"{ARN}\n"):
        with pytest.raises(InvalidSettingError):
            ConsumerArn.parse(wrong)
