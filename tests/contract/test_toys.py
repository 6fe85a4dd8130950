"""A sink and a source of a few lines, drained by the engine as it is: what docs/extending.md promises."""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine.batch import BatchLimits
from airflow_kinesis_snowflake.engine.drain import Drain
from airflow_kinesis_snowflake.engine.offsets import Offset, OffsetKey, Offsets
from airflow_kinesis_snowflake.engine.ports import Outcome
from airflow_kinesis_snowflake.engine.settings import DrainSettings, Worker
from airflow_kinesis_snowflake.formats.envelope import EncodedRecords, EnvelopeMapping
from airflow_kinesis_snowflake.stream.clock import ServiceClock
from airflow_kinesis_snowflake.stream.facts import StreamFacts
from airflow_kinesis_snowflake.stream.lineage import Shard
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position
from airflow_kinesis_snowflake.stream.records import Delivery, Record
from airflow_kinesis_snowflake.testing.sink import FakeLanding
from airflow_kinesis_snowflake.testing.source import FakeSource
from airflow_kinesis_snowflake.testing.store import FakeStateStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_kinesis_snowflake.engine.batch import Batch
    from airflow_kinesis_snowflake.engine.ports import SinkContext, SinkSettings, Source
    from airflow_kinesis_snowflake.stream.positions import StartAt


LIMITS = BatchLimits(max_batch_bytes=1e6, max_batch_records=10, max_batch_seconds=1)


@dataclass
class ListSink:
    """A list of texts. It is its own settings, because there is but one drain at a time."""

    texts: list[str] = field(default_factory=list)
    committed: dict[OffsetKey, Position] = field(default_factory=dict)
    name: str = "list"
    table: str = "a list"
    limits: BatchLimits = LIMITS
    encoder: EnvelopeMapping = field(default_factory=EnvelopeMapping)
    memory_millis: int | None = None
    connections: int = 0
    in_doubt: frozenset[str] = frozenset()

    def open(self, context: SinkContext) -> ListSink:
        return self

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)

    def begin(self, folder: Path) -> Texts:
        return Texts()

    def prepare(self) -> None: ...

    def offsets(self, keys: Sequence[OffsetKey]) -> Offsets:
        found = {key: self.committed[key] for key in keys if key in self.committed}
        return Offsets(
            {key: Offset(key.shard_id, key.incarnation, at, None) for key, at in found.items()}, {}
        )

    def commit(self, batch: Batch, *, refused_before: int) -> Outcome:
        assert isinstance(batch.rows, Texts)
        self.texts += batch.rows.texts
        for span in batch.spans.values():
            self.committed[OffsetKey(span.shard_id, span.incarnation)] = span.reached
        return Outcome(offsets={shard_id: span.reached for shard_id, span in batch.spans.items()})

    def settled(self, batch: Batch) -> None: ...
    def cancel(self) -> None: ...
    def disconnect(self) -> None: ...
    def close(self) -> None: ...


@dataclass
class Texts:
    texts: list[str] = field(default_factory=list)
    dead_letters: int = 0

    @property
    def rows(self) -> int:
        return len(self.texts)

    @property
    def size(self) -> int:
        return sum(map(len, self.texts))

    def append(self, encoded: EncodedRecords, *, shard_id: str) -> None:
        self.texts += encoded.rows.column("RECORD_CONTENT").to_pylist()
        self.dead_letters += len(encoded.dead_letters)

    def delete(self) -> None: ...


@dataclass
class CountingSource:
    """One open shard, which holds the numbers below a bound and is never written to."""

    bound: int
    stream_name: str = "counting"
    pause_seconds: float = 0.0
    idle_seconds: float = 0.0
    created: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(hours=1))

    def describe(self) -> StreamFacts:
        now = time.monotonic()
        return StreamFacts(
            name=self.stream_name,
            arn="arn:aws:kinesis:us-east-1:000000000000:stream/counting",
            created=self.created,
            retention=timedelta(hours=24),
            status="ACTIVE",
            encryption=False,
            clock=ServiceClock(datetime.now(UTC), asked_at=now, answered_at=now),
        )

    def list_shards(self) -> tuple[Shard, ...]:
        return (
            Shard(
                "shardId-000000000000",
                (),
                starting_sequence_number="1",
                starting_hash_key=0,
                ending_hash_key=2**128 - 1,
            ),
        )

    def open(self, shard_id: str, start: Position | StartAt, *, with_start: bool = False) -> Counting:
        at = int(start.sequence_number) + 1 - with_start if isinstance(start, Position) else 1
        return Counting(at, self.bound)

    def read_again(self, shard_id: str, sequence_number: str) -> Sequence[Record]:
        return [numbered(int(sequence_number))]

    def close(self) -> None: ...


@dataclass
class Counting:
    at: int
    bound: int

    def read(self, *, limit: int) -> Delivery:
        records = tuple(numbered(number) for number in range(self.at, min(self.at + limit, self.bound)))
        self.at += len(records)
        return Delivery(records, millis_behind=self.bound - self.at, ended=False)

    def close(self) -> None: ...


def numbered(number: int) -> Record:
    return Record(
        sequence_number=str(number),
        approximate_arrival=datetime.now(UTC).timestamp() - 60,
        data=b"%d" % number,
    )


def drain(source: Source, sink: SinkSettings, store: FakeStateStore) -> int:
    settings = DrainSettings(
        stream_name=source.stream_name,
        application_name="toys",
        initial_position=TRIM_HORIZON,
        stop_at=datetime.now(UTC) + timedelta(seconds=1),
    )
    return Drain(settings, worker=Worker("toys", "1"), source=source, store=store, sink=sink).run().records


def test_a_drain_loads_into_a_list() -> None:
    source, sink, store = FakeSource(2), ListSink(), FakeStateStore()
    for number in range(30):
        source.put(f"shardId-{number % 2:012d}", b"%d" % number)

    assert drain(source, sink, store) == 30
    assert sorted(map(int, sink.texts)) == list(range(30))
    source.put("shardId-000000000000", b"30")
    assert drain(source, sink, store) == 1
    assert sorted(map(int, sink.texts)) == list(range(31))


def test_a_drain_reads_what_counts() -> None:
    source, landing, store = CountingSource(500), FakeLanding(), FakeStateStore()

    assert drain(source, landing, store) == 499
    assert [int(row["RECORD_CONTENT"]) for row in landing.rows] == list(range(1, 500))
    assert drain(source, landing, store) == 0
    source.bound = 510
    assert drain(source, landing, store) == 10


def test_children_are_loaded_after_their_parents() -> None:
    source, landing, store = FakeSource(), FakeLanding(), FakeStateStore()
    source.put("shardId-000000000000", b"1")
    for child in source.split("shardId-000000000000"):
        source.put(child, b"2")

    assert drain(source, landing, store) == 3
    assert [row["RECORD_CONTENT"] for row in landing.rows] == ["1", "2", "2"]
