"""A model of a Kinesis stream, behind the methods of the stream hook."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from airflow_kinesis_snowflake.exceptions import (
    ForeignCheckpointError,
    IteratorExpiredError,
    ServiceUnavailableError,
    StreamNotFoundError,
    ThrottledError,
)
from airflow_kinesis_snowflake.stream.clock import ServiceClock
from airflow_kinesis_snowflake.stream.consumers import Consumer, ShardEvent
from airflow_kinesis_snowflake.stream.facts import StreamFacts
from airflow_kinesis_snowflake.stream.lineage import Shard
from airflow_kinesis_snowflake.stream.positions import Position, StartAt
from airflow_kinesis_snowflake.stream.records import Page, Record
from airflow_kinesis_snowflake.stream.times import moment
from tests.shapes import aggregated
from tests.simulation.ledger import Place
from tests.simulation.machine import EPOCH
from tests.simulation.scheduler import Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from tests.simulation.machine import Machine
    from tests.simulation.scheduler import Scheduler
    from tests.simulation.weather import Weather

T = TypeVar("T")

HASH_KEYS = 2**128
RETENTION_SECONDS = 86_400
ITERATOR_SECONDS = 300
SUBSCRIPTION_SECONDS = 300
BETWEEN_SUBSCRIPTIONS_SECONDS = 5
HEARTBEAT_SECONDS = 5
CONSUMER_ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks/consumer/simulated:1"


class User(NamedTuple):
    """A user record.

    :param arrival: seconds since the epoch
    """

    place: Place
    arrival: float


@dataclass(eq=False)
class ShardModel:
    """A shard with its records.

    :param created: second since the epoch
    :param records: as Kinesis has them
    :param users: those that are in them
    :param family: all shards of the stream
    :param closed_at: second since the epoch; infinite while it is open
    """

    family: dict[str, ShardModel]
    number: int
    parents: tuple[str, ...]
    begin: int
    end: int
    created: int
    records: list[Record] = field(default_factory=list)
    users: list[User] = field(default_factory=list)
    closed_at: float = inf

    @property
    def closed(self) -> bool:
        return self.closed_at < inf

    @property
    def shard_id(self) -> str:
        return f"shardId-{self.number:012d}"

    def sequence_number(self, *, written: int, count: int) -> str:
        """As Kinesis builds them: when the shard was made, a counter, when it was written, which shard."""
        check = self.number & 0xF
        return str(
            int(f"2{self.created:09x}{check:x}0{count:015x}00{written:09x}{self.number:07x}{check:x}2", 16)
        )


class Stream:
    """A stream that is written to and resharded.

    :param scheduler: by whose time records arrive
    :param random: decides
    :param aggregates: which share of the Kinesis records are aggregates
    :param retention_seconds: after which records age out
    :ivar users: all user records
    :ivar shard_of: the shard of each of them, and of the number that each shard begins with
    """

    name = "clicks"

    def __init__(
        self,
        scheduler: Scheduler,
        random: Random,
        *,
        shards: int,
        aggregates: float,
        retention_seconds: float = RETENTION_SECONDS,
    ) -> None:
        self.retention_seconds = retention_seconds
        self._scheduler = scheduler
        self._random = random
        self._aggregates = aggregates
        self.shards: dict[str, ShardModel] = {}
        self.users: dict[Place, User] = {}
        self.shard_of: dict[Place, ShardModel] = {}
        self.created = datetime.fromtimestamp(EPOCH - 3600, UTC)
        self.there = True
        self._families = {self.created: self.shards}
        self._count = 0
        self.consumer_since: float | None = None
        self.subscribed: dict[str, tuple[int, float]] = {}
        self._made_of(shards)

    def _made_of(self, shards: int) -> None:
        for number in range(shards):
            self._open((), HASH_KEYS * number // shards, HASH_KEYS * (number + 1) // shards - 1)

    def recreate(self, *, shards: int) -> None:
        """Delete the stream with its records and consumers, and make another one of its name."""
        self.there = False
        self._scheduler.sleep(self._random.uniform(2, 40))
        self.created = datetime.fromtimestamp(int(EPOCH + self._scheduler.now), UTC)
        self.shards = self._families[self.created] = {}
        self.consumer_since, self.subscribed = None, {}
        self._made_of(shards)
        self.there = True

    @property
    def horizon(self) -> float:
        """What arrived before has aged out; seconds since the epoch."""
        return EPOCH + self._scheduler.now - self.retention_seconds

    def aged(self, shard: ShardModel) -> int:
        """How many records of a shard have aged out."""
        return sum(1 for record in shard.records if record.approximate_arrival < self.horizon)

    @property
    def most_shards(self) -> int:
        """How many shards there are, or were in a stream that was deleted and may still be read."""
        return max(len(family) for family in self._families.values())

    @property
    def remade(self) -> bool:
        """Whether it is another stream than at the beginning."""
        return len(self._families) > 1

    def put(self) -> None:
        """Write a few records to a shard that is open."""
        if not self.there:
            return
        arrival = round(EPOCH + self._scheduler.now, 3)
        shard = self._random.choice([shard for shard in self.shards.values() if not shard.closed])
        for _ in range(self._random.randint(1, 6)):
            self._count += 1
            number = shard.sequence_number(written=int(arrival), count=self._count)
            many = self._random.randint(1, 5) if self._random.random() < self._aggregates else 0
            payloads = [self._payload(len(self.users) + each) for each in range(max(1, many))]
            shard.records.append(
                Record(
                    sequence_number=number,
                    approximate_arrival=arrival,
                    data=aggregated(*payloads) if many else payloads[0],
                    partition_key=str(self._count),
                )
            )
            for sub in range(len(payloads)):
                user = User(Place(int(number), sub), arrival)
                shard.users.append(user)
                self.users[user.place], self.shard_of[user.place] = user, shard

    def _payload(self, number: int) -> bytes:
        """Some aren't JSON."""
        good = self._random.random() < 0.9
        return json.dumps({"n": number}).encode() if good else b"%d is no JSON{" % number

    def shard_made(self, created: int, shard_id: str) -> ShardModel | None:
        """A shard of the stream that was made at a moment (ms)."""
        return self._families.get(moment(created), {}).get(shard_id)

    def shard_at(self, place: Place) -> ShardModel:
        """The shard that gave out a number."""
        return self.shard_of[Place(place.number)]

    def reshard(self) -> None:
        """Split a shard, or merge two neighbours."""
        if not self.there:
            return
        open_shards = sorted(
            (shard for shard in self.shards.values() if not shard.closed), key=lambda shard: shard.begin
        )
        if len(open_shards) > 1 and self._random.random() < 0.4:
            at = self._random.randrange(len(open_shards) - 1)
            one, other = open_shards[at : at + 2]
            one.closed_at = other.closed_at = EPOCH + self._scheduler.now
            self._open((one.shard_id, other.shard_id), one.begin, other.end)
        else:
            shard = self._random.choice(open_shards)
            shard.closed_at = EPOCH + self._scheduler.now
            middle = (shard.begin + shard.end) // 2
            self._open((shard.shard_id,), shard.begin, middle)
            self._open((shard.shard_id,), middle + 1, shard.end)

    def _open(self, parents: tuple[str, ...], begin: int, end: int) -> None:
        shard = ShardModel(
            self.shards, len(self.shards), parents, begin, end, int(EPOCH + self._scheduler.now)
        )
        self.shards[shard.shard_id] = shard
        self.shard_of[Place(int(shard.sequence_number(written=shard.created, count=0)))] = shard


class SimulatedKinesis:
    """What a drain calls of :class:`~airflow_kinesis_snowflake.hooks.kinesis.KinesisStreamHook`.

    :param stream: the model
    :param machine: who calls
    :param weather: what goes wrong
    """

    def __init__(self, stream: Stream, machine: Machine, weather: Weather) -> None:
        self.stream_name = stream.name
        self._stream = stream
        self._machine = machine
        self._weather = weather

    def describe(self) -> StreamFacts:
        asked_at = self._machine.monotonic()
        date, created = self._call(
            lambda: (
                datetime.fromtimestamp(int(EPOCH + self._machine.scheduler.now), UTC),
                self._stream.created,
            )
        )
        return StreamFacts(
            name=self.stream_name,
            arn=f"arn:aws:kinesis:eu-west-1:123456789012:stream/{self.stream_name}",
            created=created,
            retention=timedelta(seconds=self._stream.retention_seconds),
            status="ACTIVE",
            encryption=False,
            clock=ServiceClock(date, asked_at=asked_at, answered_at=self._machine.monotonic()),
        )

    def list_shards(self) -> tuple[Shard, ...]:
        return self._call(
            lambda: tuple(
                Shard(
                    shard.shard_id,
                    shard.parents,
                    closed=shard.closed,
                    starting_sequence_number=shard.sequence_number(written=shard.created, count=0),
                    starting_hash_key=shard.begin,
                    ending_hash_key=shard.end,
                )
                for shard in self._stream.shards.values()
                if shard.closed_at >= self._stream.horizon
            )
        )

    def get_iterator(self, shard_id: str, start: Position | StartAt) -> str:
        return self._call(lambda: self._iterator(shard_id, self._index(shard_id, start)))

    def get_iterator_at(self, shard_id: str, sequence_number: str) -> str:
        return self._call(
            lambda: self._iterator(shard_id, self._index(shard_id, Position(sequence_number)) - 1)
        )

    def get_page(self, iterator: str, *, limit: int = 10_000) -> Page:
        page = self._call(lambda: self._page(iterator, limit))
        if not page.records and page.millis_behind == 0:
            self._weather.perhaps_doze(self._machine)
        return page

    def _call(self, effect: Callable[[], T]) -> T:
        def done() -> T:
            if self._weather.strikes("refused"):
                raise self._weather.random.choice([ThrottledError, ServiceUnavailableError])("simulated")
            if not self._stream.there:
                raise StreamNotFoundError("simulated")
            return effect()

        return self._weather.call(self._machine, done)

    def _index(self, shard_id: str, start: Position | StartAt) -> int:
        records = self._shard(shard_id).records
        if isinstance(start, Position):
            if self._stream.shard_at(Place(int(start.sequence_number))) is not self._shard(shard_id):
                raise ForeignCheckpointError("simulated")
            return sum(1 for record in records if Position(record.sequence_number) <= start)
        if start.timestamp is None:
            return 0
        since = int(start.timestamp.timestamp())
        return sum(1 for record in records if record.approximate_arrival < since)

    def _shard(self, shard_id: str) -> ShardModel:
        shard = self._stream.shards.get(shard_id)
        if shard is None:
            raise StreamNotFoundError("simulated: no such shard")
        return shard

    def _iterator(self, shard_id: str, index: int) -> str:
        made = self._machine.scheduler.now
        return f"{shard_id} {index} {made} {self._stream.created.timestamp()}"

    def _page(self, iterator: str, limit: int) -> Page:
        shard_id, index_text, made, created = iterator.split()
        now = self._machine.scheduler.now
        if now - float(made) > ITERATOR_SECONDS or float(created) != self._stream.created.timestamp():
            raise IteratorExpiredError("simulated")
        shard = self._shard(shard_id)
        begin = max(int(index_text), self._stream.aged(shard))
        # A page may be short, or empty, although there is more.
        end = min(len(shard.records), begin + min(limit, self._weather.random.randint(0, 8)))
        last = end == len(shard.records)
        behind = 0 if last else max(1, int((EPOCH + now - shard.records[end].approximate_arrival) * 1000))
        return Page(
            tuple(shard.records[begin:end]),
            None if last and shard.closed else self._iterator(shard_id, end),
            behind,
        )


class SimulatedFanOut(SimulatedKinesis):
    """What a drain calls of :class:`~airflow_kinesis_snowflake.hooks.fan_out.FanOutHook`."""

    def find_consumer(self, name: str) -> Consumer | None:
        return self._call(self._consumer)

    def register_consumer(self, name: str) -> None:
        def register() -> None:
            if self._stream.consumer_since is None:
                self._stream.consumer_since = self._machine.scheduler.now

        self._call(register)

    def subscribe(
        self,
        consumer_arn: str,
        shard_id: str,
        start: Position | StartAt,
        *,
        with_start: bool = False,
        admit: Callable[[int], bool],
    ) -> SimulatedSubscription:
        def subscribe() -> SimulatedSubscription:
            now = self._machine.scheduler.now
            number, since = self._stream.subscribed.get(shard_id, (0, -1e9))
            if now - since < BETWEEN_SUBSCRIPTIONS_SECONDS:
                raise ThrottledError("simulated: another subscription")
            self._stream.subscribed[shard_id] = number + 1, now
            index = self._index(shard_id, start)
            if with_start and isinstance(start, Position):
                index -= 1
            return SimulatedSubscription(self, self._shard(shard_id), index, admit)

        return self._call(subscribe)

    def _consumer(self) -> Consumer | None:
        since = self._stream.consumer_since
        if since is None:
            return None
        active = self._machine.scheduler.now - since > 10
        return Consumer(CONSUMER_ARN, "ACTIVE" if active else "CREATING")


class SimulatedSubscription:
    """Events of a shard, which may be late, short, empty or partly repeated; the connection may break."""

    def __init__(
        self, kinesis: SimulatedFanOut, shard: ShardModel, index: int, admit: Callable[[int], bool]
    ) -> None:
        self._stream = kinesis._stream
        self._weather = kinesis._weather
        self._scheduler = kinesis._machine.scheduler
        self._shard = shard
        self._index = index
        self._admit = admit
        self._closing = Signal()
        self._closed = False
        self._number = self._stream.subscribed[shard.shard_id][0]
        self._since = self._scheduler.now

    def __iter__(self) -> Iterator[ShardEvent]:
        heartbeat_at = self._scheduler.now
        while not self._closed and self._scheduler.now - self._since < SUBSCRIPTION_SECONDS:
            soon = 0.1 if self._index < len(self._shard.records) else 1.0
            late = self._weather.random.uniform(1, 20) if self._weather.strikes("slow") else soon
            self._scheduler.wait(self._closing, late)
            if self._closed:
                return
            if self._stream.shards.get(self._shard.shard_id) is not self._shard:
                raise StreamNotFoundError("simulated: the stream was deleted")
            if self._stream.subscribed[self._shard.shard_id][0] != self._number:
                raise ThrottledError("simulated: another subscription took over")
            if self._weather.strikes("refused"):
                raise ServiceUnavailableError("simulated: cut off")
            event = self._event()
            if not event.records and not event.ended and self._scheduler.now < heartbeat_at:
                continue
            heartbeat_at = self._scheduler.now + HEARTBEAT_SECONDS
            if not self._admit(200 * (1 + len(event.records))):
                return
            if self._weather.strikes("refused"):
                raise ServiceUnavailableError("simulated: cut off within an event")
            yield event
            if event.ended:
                return

    def close(self) -> None:
        self._closed = True
        self._scheduler.give(self._closing)

    def _event(self) -> ShardEvent:
        records = self._shard.records
        aged = self._stream.aged(self._shard)
        begin = self._index = max(self._index, aged)
        if self._weather.strikes("repeated"):
            begin = max(aged, begin - self._weather.random.randint(1, 3))
        end = self._index = min(len(records), self._index + self._weather.random.randint(0, 8))
        last = end == len(records)
        now = EPOCH + self._scheduler.now
        behind = 0 if last else max(1, int((now - records[end].approximate_arrival) * 1000))
        before = records[end - 1].sequence_number if end else self._first()
        return ShardEvent(tuple(records[begin:end]), None if last and self._shard.closed else before, behind)

    def _first(self) -> str:
        return self._shard.sequence_number(written=self._shard.created, count=0)
