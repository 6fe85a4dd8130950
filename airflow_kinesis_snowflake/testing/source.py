"""A stream in memory, with the port of a source."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from threading import RLock
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import ForeignCheckpointError
from airflow_kinesis_snowflake.stream.aggregation import deaggregate
from airflow_kinesis_snowflake.stream.clock import ServiceClock
from airflow_kinesis_snowflake.stream.facts import StreamFacts
from airflow_kinesis_snowflake.stream.lineage import Shard
from airflow_kinesis_snowflake.stream.positions import Position, StartAt, sequence_facts
from airflow_kinesis_snowflake.stream.records import Delivery, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_kinesis_snowflake.exceptions import TransientError


@dataclass
class _FakeShard:
    shard: Shard
    number: int
    created: int
    records: list[Record] = field(default_factory=list)


class FakeSource:
    """A stream that can be written to, resharded and read without a service.

    Sequence numbers are built like those of Kinesis, grow with every record of the stream, and tell which
    shard assigned them. A cursor delivers what is there when it is asked.

    :param shards: how many it starts with
    :param stream_name: its name
    :param clock: seconds since the epoch, at which records arrive
    """

    pause_seconds = 0.0
    idle_seconds = 0.0

    def __init__(
        self, shards: int = 1, *, stream_name: str = "stream", clock: Callable[[], float] = time.time
    ) -> None:
        self.stream_name = stream_name
        self._clock = clock
        self._lock = RLock()
        self._created = datetime.fromtimestamp(int(clock()), UTC)
        self._count = self._made = 0
        self._failures: list[TransientError] = []
        self._shards: dict[str, _FakeShard] = {}
        keys = 2**128
        for number in range(shards):
            self._add((), keys * number // shards, keys * (number + 1) // shards - 1)

    # --- what happens to the stream ------------------------------------------------------------------------

    def put(self, shard_id: str, *payloads: bytes, partition_key: str = "key") -> list[str]:
        """Write records to a shard that is open; returns their sequence numbers."""
        with self._lock:
            shard = self._shards[shard_id]
            if shard.shard.closed:
                raise ValueError(f"shard {shard_id} is closed")
            now = round(self._clock(), 3)
            added = []
            for payload in payloads:
                self._count += 1
                added.append(
                    Record(
                        sequence_number=sequence_number(
                            shard.number, created=shard.created, written=int(now), count=self._count
                        ),
                        approximate_arrival=now,
                        data=payload,
                        partition_key=partition_key,
                    )
                )
            shard.records += added
            return [record.sequence_number for record in added]

    def split(self, shard_id: str) -> list[str]:
        """Close a shard, and open its two children."""
        with self._lock:
            shard = self._close(shard_id)
            middle = (shard.starting_hash_key + shard.ending_hash_key) // 2
            return [
                self._add((shard_id,), shard.starting_hash_key, middle),
                self._add((shard_id,), middle + 1, shard.ending_hash_key),
            ]

    def merge(self, one: str, other: str) -> str:
        """Close two shards with adjacent hash keys, and open their child."""
        with self._lock:
            closed = self._close(one), self._close(other)
            return self._add(
                (one, other),
                min(shard.starting_hash_key for shard in closed),
                max(shard.ending_hash_key for shard in closed),
            )

    def trim(self, shard_id: str, count: int = 1) -> None:
        """Make the oldest records of a shard age out."""
        with self._lock:
            del self._shards[shard_id].records[:count]

    def remove(self, shard_id: str) -> None:
        """Remove a closed shard from the list, with everything left in it."""
        with self._lock:
            if not self._shards[shard_id].shard.closed:
                raise ValueError(f"shard {shard_id} is open")
            del self._shards[shard_id]

    def fail(self, *errors: TransientError) -> None:
        """Make the next reads raise these, one each."""
        with self._lock:
            self._failures += errors

    # --- the port ------------------------------------------------------------------------------------------

    def describe(self) -> StreamFacts:
        """The facts of the stream, in account 000000000000."""
        now = time.monotonic()
        date = datetime.fromtimestamp(int(self._clock()), UTC)
        return StreamFacts(
            name=self.stream_name,
            arn=f"arn:aws:kinesis:us-east-1:000000000000:stream/{self.stream_name}",
            created=self._created,
            retention=timedelta(hours=24),
            status="ACTIVE",
            encryption=False,
            clock=ServiceClock(date, asked_at=now, answered_at=now),
        )

    def list_shards(self) -> tuple[Shard, ...]:
        """All shards that weren't removed."""
        with self._lock:
            return tuple(each.shard for each in self._shards.values())

    def open(self, shard_id: str, start: Position | StartAt, *, with_start: bool = False) -> FakeCursor:
        """Open a shard.

        :raises ForeignCheckpointError: the shard didn't assign the sequence number
        """
        if isinstance(start, Position):
            self._check(shard_id, start.sequence_number)
        return FakeCursor(self, shard_id, start, with_start=with_start)

    def read_again(self, shard_id: str, sequence_number: str) -> Sequence[Record]:
        """The user records of one Kinesis record; none if it was trimmed."""
        with self._lock:
            shard = self._shards.get(shard_id)
            kept = shard.records if shard else ()
            return deaggregate([each for each in kept if each.sequence_number == sequence_number]).users

    def close(self) -> None:
        """Nothing is held."""

    def _read(self, shard_id: str, wanted: Callable[[Record], bool], limit: int) -> Delivery:
        with self._lock:
            if self._failures:
                raise self._failures.pop(0)
            shard = self._shards.get(shard_id)
            if shard is None:
                return Delivery((), millis_behind=0, ended=True)
            left = [record for record in shard.records if wanted(record)]
            taken, more = tuple(left[:limit]), left[limit:]
            behind = max(1, int((self._clock() - more[0].approximate_arrival) * 1000)) if more else 0
            return Delivery(taken, millis_behind=behind, ended=shard.shard.closed and not more)

    def _check(self, shard_id: str, number: str) -> None:
        facts = sequence_facts(number)
        shard = self._shards.get(shard_id)
        if facts is None or shard is None or facts.shard_number != shard.number:
            raise ForeignCheckpointError(
                f"Sequence number {number} wasn't given out by shard {shard_id} of stream {self.stream_name}"
            )

    def _close(self, shard_id: str) -> Shard:
        shard = self._shards[shard_id]
        if shard.shard.closed:
            raise ValueError(f"shard {shard_id} is closed")
        shard.shard = replace(shard.shard, closed=True)
        return shard.shard

    def _add(self, parents: tuple[str, ...], begin: int, end: int) -> str:
        number, created = self._made, int(self._clock())
        self._made += 1
        shard = Shard(
            f"shardId-{number:012d}",
            parents,
            starting_sequence_number=sequence_number(number, created=created, written=created, count=0),
            starting_hash_key=begin,
            ending_hash_key=end,
        )
        self._shards[shard.shard_id] = _FakeShard(shard, number, created)
        return shard.shard_id


class FakeCursor:
    """One shard of a :class:`FakeSource`."""

    def __init__(
        self, source: FakeSource, shard_id: str, start: Position | StartAt, *, with_start: bool
    ) -> None:
        self._source = source
        self._shard_id = shard_id
        self._wanted = _wanted(start, with_start=with_start)

    def read(self, *, limit: int) -> Delivery:
        """What is there, and wasn't delivered."""
        delivery = self._source._read(self._shard_id, self._wanted, limit)
        if delivery.records:
            self._wanted = _wanted(Position(delivery.records[-1].sequence_number), with_start=False)
        return delivery

    def close(self) -> None:
        """Nothing is held."""


def _wanted(start: Position | StartAt, *, with_start: bool) -> Callable[[Record], bool]:
    if isinstance(start, Position):
        end = Position(start.sequence_number)
        with_start |= start.sub_sequence_number is not None
        return lambda record: (
            (number := Position(record.sequence_number)) > end or (with_start and number == end)
        )
    if start.timestamp is None:
        return lambda _: True
    since = start.timestamp.timestamp()
    return lambda record: record.approximate_arrival >= since


def sequence_number(shard: int, *, created: int, written: int, count: int) -> str:
    """A sequence number as Kinesis builds them, as far as that is known.

    :param shard: number of the shard
    :param created: when the shard was created, in seconds since the epoch
    :param written: when the record was
    :param count: grows from record to record
    """
    check = shard & 0xF
    return str(int(f"2{created:09x}{check:x}0{count:015x}00{written:09x}{shard >> 4:07x}{check:x}2", 16))
