"""The source to which records are pushed: enhanced fan-out, by SubscribeToShard.

Each shard is read over its own connection, on its own thread, and what arrives waits in memory until the
engine asks for it. Before an event is read from its socket it reserves room, both from its shard's allowance
and from that of all shards of a drain together; while there is none, the socket isn't read, and TCP makes
Kinesis wait. A subscription lasts for five minutes at most, and is renewed at the next read before that.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Protocol

from airflow_kinesis_snowflake.engine.runtime import MACHINE
from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    ConsumerUnusableError,
    ServiceUnavailableError,
    ThrottledError,
    TransientError,
)
from airflow_kinesis_snowflake.sources.polling import KinesisCalls, PollingSource
from airflow_kinesis_snowflake.stream.consumers import (
    MAX_CONSUMERS,
    Consumer,
    ShardEvent,
    check_consumer,
)
from airflow_kinesis_snowflake.stream.positions import Position, is_after
from airflow_kinesis_snowflake.stream.records import Delivery
from airflow_kinesis_snowflake.stream.refs import StreamRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_kinesis_snowflake.engine.ports import Cursor
    from airflow_kinesis_snowflake.engine.runtime import Event, Runtime
    from airflow_kinesis_snowflake.stream.facts import StreamFacts
    from airflow_kinesis_snowflake.stream.lineage import Shard
    from airflow_kinesis_snowflake.stream.positions import StartAt
    from airflow_kinesis_snowflake.stream.records import Record

    Admit = Callable[[int], bool]
    """Waits until an event of this many bytes may be read; ``False``: the wait was ended."""

log = logging.getLogger(__name__)

# An event that took longer than this to arrive wasn't there when the wait began.
NOT_THERE_SECONDS = 0.01
# Whoever had the shard before may hold its subscription for a while, and a connection may break at any time.
MAX_FRUITLESS = 8
CONSUMER_PAUSE_SECONDS = 1.0
CONSUMER_PATIENCE_SECONDS = 60.0
# A cursor that has received nothing can't know whether it is at the tip.
NOT_AT_TIP = 1


@dataclass(frozen=True, kw_only=True)
class FanOutLimits:
    """How much pushed data a drain holds, and how often it subscribes.

    Bytes are those of events as they arrive: JSON in which payloads are base64. An event takes about four
    times as much while it is decoded. One event always fits, however large.

    :param total_bytes: of all shards together
    :param shard_bytes: of one shard
    :param subscriptions: shards subscribed to at a time, each with a thread and a connection, which take
        about 200 KB; others are polled
    :param between_seconds: from one subscription of a shard to the next; AWS refuses another one within 5 s
    :param renewal_seconds: the age at which a subscription is ended, to be renewed; AWS ends it after 5
        minutes
    """

    total_bytes: int = 32 * 2**20
    shard_bytes: int = 4 * 2**20
    subscriptions: int = 256
    between_seconds: float = 5.0
    renewal_seconds: float = 280.0


class Subscription(Protocol):
    """A connection over which the events of a shard arrive."""

    def __iter__(self) -> Iterator[ShardEvent]:
        """The events; ends when the service ends the subscription.

        :raises KinesisSnowflakeError: it broke, or Kinesis ended it with a reason
        """

    def close(self) -> None:
        """End the connection; from any thread, more than once."""


class FanOutCalls(KinesisCalls, Protocol):
    """Calls for one stream; :class:`~airflow_kinesis_snowflake.hooks.fan_out.FanOutHook` has them."""

    def find_consumer(self, name: str) -> Consumer | None: ...
    def register_consumer(self, name: str) -> None: ...
    def subscribe(
        self,
        consumer_arn: str,
        shard_id: str,
        start: Position | StartAt,
        *,
        with_start: bool = False,
        admit: Admit,
    ) -> Subscription: ...


class FanOutSource:
    """Reads shards by SubscribeToShard, as a registered consumer with its own 2 MB per second and shard.

    The consumer is that of ``consumer_arn``, or one named after the application: the first drain registers it
    and waits for it, and all workers and later drains use it.

    If fan-out isn't allowed, or the stream has reached its limit of consumers, the application does without
    its own consumer: it logs one warning, and polls the shards. With ``consumer_arn`` that is an error.

    :param kinesis: the calls
    :param application_name: whose consumer to use, unless ``consumer_arn`` is given
    :param consumer_arn: a registered consumer of this stream; others must not use it
    :param limits: what may be held in memory
    :param runtime: its clock and threads
    :raises InvalidSettingError: the application's name can't name a consumer, or the ARN is of another stream
    """

    pause_seconds = 0.2

    def __init__(
        self,
        kinesis: FanOutCalls,
        *,
        application_name: str,
        consumer_arn: str | None = None,
        limits: FanOutLimits | None = None,
        runtime: Runtime = MACHINE,
    ) -> None:
        check_consumer(
            stream=StreamRef(kinesis.stream_name),
            application_name=application_name,
            consumer_arn=consumer_arn,
        )
        self._kinesis = kinesis
        self._polling = PollingSource(kinesis)
        self._name = application_name
        self._given = consumer_arn
        self._limits = limits or FanOutLimits()
        self._runtime = runtime
        self._lock = runtime.lock()
        self._asking = runtime.lock()
        self._consumer_arn = consumer_arn
        self._without: str | None = None
        self._told_limit = self._closed = False
        self._cursors: set[FanOutCursor] = set()
        self._subscribed_at: dict[str, float] = {}
        self._room = Room(self._limits, runtime)

    @property
    def stream_name(self) -> str:
        """The stream's name."""
        return self._kinesis.stream_name

    @property
    def idle_seconds(self) -> float:
        """At once, since it makes no call; for polled shards, as often as polling allows."""
        return self.pause_seconds if self._without is None else self._polling.idle_seconds

    @property
    def held_bytes(self) -> int:
        """The bytes of events that wait to be read or are being decoded."""
        return self._room.bytes

    def describe(self) -> StreamFacts:
        """The facts of the stream, by DescribeStreamSummary."""
        return self._kinesis.describe()

    def list_shards(self) -> tuple[Shard, ...]:
        """All shards, by ListShards."""
        return self._kinesis.list_shards()

    def open(self, shard_id: str, start: Position | StartAt, *, with_start: bool = False) -> Cursor:
        """Subscribe to a shard, or poll it.

        Whoever looks at a record again doesn't wait until the shard may be subscribed to again.
        """
        cursor = FanOutCursor(self, shard_id, start, with_start=with_start)
        too_soon = with_start and self._wait_before(shard_id) > 0
        if too_soon or not self._enter(cursor):
            return self._polling.open(shard_id, start, with_start=with_start)
        try:
            cursor.connect()
        except BaseException:
            cursor.close()
            raise
        return cursor

    def read_again(self, shard_id: str, sequence_number: str) -> Sequence[Record]:
        """The user records of one Kinesis record, by GetRecords."""
        return self._polling.read_again(shard_id, sequence_number)

    def close(self) -> None:
        """End all connections."""
        with self._lock:
            self._closed = True
            cursors = list(self._cursors)
        for cursor in cursors:
            cursor.close()

    # --- for cursors ---------------------------------------------------------------------------------------

    def _enter(self, cursor: FanOutCursor) -> bool:
        with self._lock:
            if self._without is not None or self._closed:
                return False
            if len(self._cursors) < self._limits.subscriptions:
                self._cursors.add(cursor)
                return True
            told, self._told_limit = self._told_limit, True
        if not told:
            log.info(
                "More than %d shards of stream %s are read at a time; the others are polled. Add workers "
                "to subscribe to more shards",
                self._limits.subscriptions,
                self.stream_name,
            )
        return False

    def _exit(self, cursor: FanOutCursor) -> None:
        with self._lock:
            self._cursors.discard(cursor)

    def _wait_before(self, shard_id: str) -> float:
        """The seconds until the shard can be subscribed to again."""
        since = self._subscribed_at.get(shard_id, -inf)
        return since + self._limits.between_seconds - self._runtime.monotonic()

    def _subscribe(self, cursor: FanOutCursor) -> Subscription | None:
        """Subscribe a cursor to the rest of its shard; ``None``: it must poll."""
        if self._without is not None:
            return None
        try:
            arn = self._consumer()
            if arn is None:
                return None
            subscription = self._kinesis.subscribe(
                arn, cursor.shard_id, cursor.start, with_start=cursor.with_start, admit=cursor.admit
            )
        except AccessDeniedError as error:
            self._do_without(error)
            return None
        self._subscribed_at[cursor.shard_id] = self._runtime.monotonic()
        return subscription

    def _understand(self, error: Exception) -> Exception:
        """What an error means for this consumer: the application's own can be registered again."""
        if self._given is not None or not isinstance(error, ConsumerUnusableError):
            return error
        with self._asking:
            self._consumer_arn = None
        return ServiceUnavailableError(
            "The consumer will be registered again at the next try, because somebody has deregistered "
            f"it. {error}"
        )

    def _poll(self, cursor: FanOutCursor, start: Position | StartAt, *, with_start: bool) -> Cursor:
        return self._polling.open(cursor.shard_id, start, with_start=with_start)

    def _give_up(self, cursor: FanOutCursor, error: TransientError) -> None:
        """Poll a shard whose subscriptions deliver nothing.

        :raises ConsumerUnusableError: the consumer was given
        """
        what = (
            f"{MAX_FRUITLESS} subscriptions in a row of consumer {self._given or self._name} to shard "
            f"{cursor.shard_id} of stream {self.stream_name} ended before anything came. The last: {error}"
        )
        if self._given is not None:
            raise ConsumerUnusableError(
                "Check whether another program reads as this consumer, and set another consumer_arn or "
                f"consumer_type='polling': {what}"
            ) from error
        log.warning("The shard is polled: %s", what)

    # --- the consumer --------------------------------------------------------------------------------------

    def _consumer(self) -> str | None:
        """The ARN of the active consumer; ``None``: there can't be one."""
        with self._asking:
            if self._consumer_arn is None and self._without is None:
                self._consumer_arn = self._own_consumer()
            return self._consumer_arn

    def _own_consumer(self) -> str | None:
        began = self._runtime.monotonic()
        registered = False
        while True:
            consumer = self._kinesis.find_consumer(self._name)
            if consumer is not None and consumer.status == "ACTIVE":
                return consumer.arn
            if consumer is None and not registered:
                try:
                    self._kinesis.register_consumer(self._name)
                except ThrottledError as error:
                    self._do_without(error)
                    return None
                registered = True
                log.info("Consumer %s of stream %s is registered", self._name, self.stream_name)
                continue
            if self._closed or self._runtime.monotonic() - began > CONSUMER_PATIENCE_SECONDS:
                raise ServiceUnavailableError(
                    f"Try again: consumer {self._name} of stream {self.stream_name} isn't active after "
                    f"{CONSUMER_PATIENCE_SECONDS:.0f} s, but {consumer.status if consumer else 'missing'}"
                )
            self._runtime.event().wait(CONSUMER_PAUSE_SECONDS)

    def _do_without(self, error: AccessDeniedError | ThrottledError) -> None:
        """Poll all shards from now on.

        :raises AccessDeniedError: the consumer was given
        """
        if self._given is not None:
            raise error
        with self._lock:
            first, self._without = self._without is None, str(error)
        if first and isinstance(error, ThrottledError):
            log.warning(
                "Shards of stream %s are polled: no consumer can be registered. A stream has at most %d; "
                "deregister one, or set consumer_arn or consumer_type='polling': %s",
                self.stream_name,
                MAX_CONSUMERS,
                error,
            )
        elif first:
            log.warning(
                "Shards of stream %s are polled: enhanced fan-out isn't allowed. `iam --consumer-type "
                "enhanced_fan_out` prints what it needs: %s",
                self.stream_name,
                error,
            )


@dataclass(frozen=True)
class _Held:
    """An event that waits to be read.

    :param event: which tells how far behind its end is
    :param records: those that haven't been read
    :param size: the room it takes
    :param as_of: when what it tells about the tip was true, on the monotonic clock
    """

    event: ShardEvent
    records: tuple[Record, ...]
    size: int
    as_of: float


class FanOutCursor:
    """One shard, read by one subscription after another."""

    def __init__(
        self, source: FanOutSource, shard_id: str, start: Position | StartAt, *, with_start: bool
    ) -> None:
        self.shard_id = shard_id
        self.start = start
        self.with_start = with_start
        self._source = source
        self._runtime = source._runtime
        self._room = source._room
        self._lock = self._runtime.lock()
        self._polled: Cursor | None = None
        self._subscription: Subscription | None = None
        self._held: deque[_Held] = deque()
        self._taking = 0
        self._error: Exception | None = None
        self._fruitless = 0
        self._begin = start, with_start
        self._before = place_before(start, with_start=with_start)
        self._last: Position | None = None
        self._millis_behind = NOT_AT_TIP
        self._ended = self.closed = False
        self.bytes = 0
        self._waiting_since = self._coming_as_of = self._as_of = self._runtime.monotonic()

    # --- for the engine ------------------------------------------------------------------------------------

    def read(self, *, limit: int) -> Delivery:
        """What has arrived; if nothing has, an empty delivery with the lag of the last one."""
        if self._polled is not None:
            return self._polled.read(limit=limit)
        with self._lock:
            if self._held:
                return self._take(limit)
            if self._ended:
                return Delivery((), millis_behind=0, ended=True)
            if self._subscription is not None or self.closed:
                return self._nothing()
            error, self._error = self._error, None
        if error is None:
            self.connect()
        else:
            self._note_failure(error)
        return self._polled.read(limit=limit) if self._polled is not None else self._nothing()

    def connect(self) -> None:
        """Subscribe after what arrived last, unless it is too soon for that."""
        self._millis_behind = max(NOT_AT_TIP, self._millis_behind)
        if (wait := self._source._wait_before(self.shard_id)) > 0:
            if self._fruitless:
                raise ThrottledError(
                    f"Subscribe to shard {self.shard_id} of stream {self._source.stream_name} again in "
                    f"{wait:.1f} s: the last subscription was cut off"
                )
            return
        began = self._runtime.monotonic()
        try:
            subscription = self._source._subscribe(self)
        except (TransientError, ConsumerUnusableError) as error:
            self._note_failure(error)
            return
        if subscription is None:
            self._poll()
            return
        with self._lock:
            closed = self.closed
            if not closed:
                self._waiting_since = self._coming_as_of = self._as_of = began
                self._subscription = subscription
        if closed:
            subscription.close()
        else:
            self._runtime.start(lambda: self._pump(subscription), name=f"fan-out-{self.shard_id}")

    def close(self) -> None:
        """End the connection, and forget what hasn't been read."""
        with self._lock:
            self.closed = True
            subscription, self._subscription = self._subscription, None
            forgotten = sum(held.size for held in self._held)
            self._held.clear()
        self._room.give_back(self, forgotten)
        self._source._exit(self)
        if subscription is not None:
            subscription.close()
        if self._polled is not None:
            self._polled.close()

    def _take(self, limit: int) -> Delivery:
        """Records of events that have arrived, as many as fit."""
        records: list[Record] = []
        given_back = 0
        while self._held and (not records or len(records) < limit):
            held = self._held.popleft()
            taken = held.records[: limit - len(records)]
            records += taken
            self._millis_behind, self._ended = held.event.millis_behind, held.event.ended
            self._as_of = held.as_of
            if len(taken) < len(held.records):
                self._held.appendleft(replace(held, records=held.records[len(taken) :]))
                self._ended = False
            else:
                given_back += held.size
        self._room.give_back(self, given_back)
        more = bool(self._held)
        behind = max(NOT_AT_TIP, self._millis_behind) if more else self._millis_behind
        return Delivery(tuple(records), millis_behind=behind, ended=self._ended, age_seconds=self._age)

    def _nothing(self) -> Delivery:
        return Delivery((), millis_behind=self._millis_behind, ended=False, age_seconds=self._age)

    @property
    def _age(self) -> float:
        """Seconds since the last moment at which the shard's lag was known."""
        return self._runtime.monotonic() - self._as_of

    def _note_failure(self, error: Exception) -> None:
        """Raise what ended a subscription, or poll when too many have ended."""
        error = self._source._understand(error)
        if not isinstance(error, TransientError):
            raise error
        self._fruitless += 1
        if self._fruitless < MAX_FRUITLESS:
            raise error
        self._source._give_up(self, error)
        self._poll()

    def _poll(self) -> None:
        # A continuation needn't be the number of a record, so polling goes on after the last record.
        start, with_start = self._begin if self._last is None else (self._last, False)
        self._polled = self._source._poll(self, start, with_start=with_start)
        self._source._exit(self)

    # --- for the subscription's thread ---------------------------------------------------------------------

    def admit(self, size: int) -> bool:
        """Wait for room for an event that starts to arrive."""
        if self._runtime.monotonic() - self._waiting_since > NOT_THERE_SECONDS:
            # It wasn't there when the wait began, so whatever it reports was true then or later.
            self._coming_as_of = self._waiting_since
        if not self._room.take(self, size):
            return False
        self._taking = size
        return True

    def _pump(self, subscription: Subscription) -> None:
        """Keep the events of a subscription until it ends or has to be renewed."""
        error: Exception | None = None
        renewal = self._runtime.monotonic() + self._source._limits.renewal_seconds
        try:
            for event in subscription:
                self._keep(event)
                if event.ended or self._runtime.monotonic() >= renewal:
                    break
                self._waiting_since = self._runtime.monotonic()
        except Exception as raised:
            error = raised
        finally:
            subscription.close()
            self._room.give_back(self, self._taking)
            self._taking = 0
        with self._lock:
            if self._subscription is subscription:
                self._subscription, self._error = None, error

    def _keep(self, event: ShardEvent) -> None:
        size, self._taking = self._taking, 0
        with self._lock:
            known = self._last or self._before
            records = tuple(
                record for record in event.records if is_after(Position(record.sequence_number), known)
            )
            if records:
                self._last = Position(records[-1].sequence_number)
            if event.continuation is not None:
                self.start, self.with_start = Position(event.continuation), False
            self._fruitless = 0
            keep = not self.closed and (bool(records) or event.ended)
            if keep:
                self._held.append(_Held(event, records, size, self._coming_as_of))
            elif self._held:
                self._held.append(replace(self._held.pop(), event=event, as_of=self._coming_as_of))
            else:
                self._millis_behind, self._as_of = event.millis_behind, self._coming_as_of
        if not keep:
            self._room.give_back(self, size)


def place_before(start: Position | StartAt, *, with_start: bool) -> Position | None:
    """The position behind which records are wanted, whole ones; ``None``: all are.

    A subscription may bring again what came before the position that it was asked to begin at. Inside an
    aggregate the whole of it is read once more.
    """
    if not isinstance(start, Position):
        return None
    return Position(start.sequence_number, 0) if with_start else start


class Room:
    """The bytes that the cursors of a source may hold."""

    def __init__(self, limits: FanOutLimits, runtime: Runtime) -> None:
        self._limits = limits
        self._runtime = runtime
        self._lock = runtime.lock()
        self._waiting: list[Event] = []
        self.bytes = 0

    def take(self, cursor: FanOutCursor, size: int) -> bool:
        """Wait until an event fits; ``False``: the cursor was closed."""
        while True:
            with self._lock:
                if cursor.closed:
                    return False
                if self._fits(cursor, size):
                    self.bytes += size
                    cursor.bytes += size
                    return True
                changed = self._runtime.event()
                self._waiting.append(changed)
            changed.wait()

    def give_back(self, cursor: FanOutCursor, size: int) -> None:
        """Free room for others; a closed cursor no longer waits for it."""
        with self._lock:
            self.bytes -= size
            cursor.bytes -= size
            waiting, self._waiting = self._waiting, []
        for changed in waiting:
            changed.set()

    def _fits(self, cursor: FanOutCursor, size: int) -> bool:
        whole, own = self._limits.total_bytes, self._limits.shard_bytes
        return (not self.bytes or self.bytes + size <= whole) and (
            not cursor.bytes or cursor.bytes + size <= own
        )
