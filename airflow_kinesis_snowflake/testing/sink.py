"""A landing table in memory, with the port of a sink."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.engine.batch import BatchLimits
from airflow_kinesis_snowflake.engine.offsets import Offset, Offsets
from airflow_kinesis_snowflake.engine.ports import Outcome
from airflow_kinesis_snowflake.exceptions import (
    LeaseLostError,
    OffsetWentBackError,
    ServiceUnavailableError,
)
from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
from airflow_kinesis_snowflake.stream.positions import is_after

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_kinesis_snowflake.engine.batch import Batch
    from airflow_kinesis_snowflake.engine.offsets import OffsetKey
    from airflow_kinesis_snowflake.engine.ports import Sink, SinkContext
    from airflow_kinesis_snowflake.exceptions import KinesisSnowflakeError
    from airflow_kinesis_snowflake.formats.dead_letters import DeadLetter
    from airflow_kinesis_snowflake.formats.decoding import Encoder
    from airflow_kinesis_snowflake.formats.envelope import EncodedRecords
    from airflow_kinesis_snowflake.stream.positions import Position

LIMITS = BatchLimits(max_batch_bytes=2**20, max_batch_records=10_000, max_batch_seconds=1.0)


class FakeLanding:
    """A table into which drains load, each through its own sink; pass it to a drain as ``sink``.

    :param name: what the sink is called in state rows
    :param encoder: turns records into rows; by default like ``mapping="envelope"``
    :ivar rows: what has landed, in the order in which it was committed; keys are columns of the encoder
    :ivar dead_letters: what couldn't
    :ivar offsets: how far each shard is committed
    """

    table = "FAKE.PUBLIC.RECORDS"

    def __init__(self, *, name: str = "fake", encoder: Encoder | None = None) -> None:
        self.name = name
        self.encoder: Encoder = encoder or EnvelopeMapping()
        self.rows: list[dict[str, Any]] = []
        self.dead_letters: list[DeadLetter] = []
        self.offsets: dict[OffsetKey, Position] = {}
        self._lock = RLock()
        self._failures: list[KinesisSnowflakeError] = []
        self._answers_to_lose = 0

    def fail(self, *errors: KinesisSnowflakeError) -> None:
        """Make the next commits raise these, one each, without any effect."""
        self._failures += errors

    def lose_answers(self, count: int = 1) -> None:
        """Make the next commits succeed, but lose their answers."""
        self._answers_to_lose += count

    def open(self, context: SinkContext) -> Sink:
        """The sink of one drain."""
        return FakeSink(self, context)

    def commit(self, batch: Batch) -> Outcome:
        """Commit a batch if every shard's offset is at its start; otherwise return the offsets."""
        with self._lock:
            if self._failures:
                raise self._failures.pop(0)
            outcome = self._outcome_by(batch)
            if outcome is None:
                outcome = self._commit(batch)
            if outcome.committed and self._answers_to_lose:
                self._answers_to_lose -= 1
                raise ServiceUnavailableError(f"The answer to batch {batch.id} was lost")
            return outcome

    def _outcome_by(self, batch: Batch) -> Outcome | None:
        """The outcome of a batch so far; ``None``: there is none."""
        spans = batch.spans.items()
        stand = {shard_id: self.offsets.get(span.key) for shard_id, span in spans}
        refused = {
            shard_id: OffsetWentBackError(f"Shard {shard_id} of {self.table} stands before {span.offset}")
            for shard_id, span in spans
            if span.offset is not None and is_after(span.offset, stand[shard_id])
        }
        if refused:
            return Outcome(refused=refused)
        ahead = {
            shard_id: offset
            for shard_id, span in spans
            if (offset := stand[shard_id]) is not None and is_after(offset, span.began)
        }
        if not ahead:
            return None
        if all(ahead.get(shard_id) == span.reached for shard_id, span in spans):
            return Outcome(offsets=ahead)
        return Outcome(ahead=ahead)

    def _commit(self, batch: Batch) -> Outcome:
        held = batch.rows
        assert isinstance(held, FakeRows)
        for page in held.pages:
            self.rows += page.rows.to_pylist()
            self.dead_letters += page.dead_letters
        reached = {span.key: span.reached for span in batch.spans.values()}
        self.offsets |= reached
        return Outcome(offsets={key.shard_id: position for key, position in reached.items()})


class FakeRows:
    """What a batch holds until it is committed: pages, as received."""

    def __init__(self) -> None:
        self.pages: list[EncodedRecords] = []
        self.rows = 0
        self.dead_letters = 0
        self.size = 0

    def append(self, encoded: EncodedRecords, *, shard_id: str) -> None:
        """Keep a page."""
        self.pages.append(encoded)
        self.rows += encoded.rows.num_rows
        self.dead_letters += len(encoded.dead_letters)
        self.size += encoded.bytes

    def delete(self) -> None:
        """Discard all pages."""
        self.pages.clear()


class FakeSink:
    """One drain's way into a :class:`FakeLanding`."""

    memory_millis: int | None = None
    limits = LIMITS

    def __init__(self, landing: FakeLanding, context: SinkContext) -> None:
        self._landing = landing
        self._context = context
        self._cancelled = False
        self._open = False
        self.name = landing.name
        self.table = landing.table
        self.encoder = landing.encoder
        self.connections = 0
        self.in_doubt: frozenset[str] = frozenset()

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A folder; nothing is written to it."""
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)

    def begin(self, folder: Path) -> FakeRows:
        """Pages in memory."""
        return FakeRows()

    def prepare(self) -> None:
        """Connect; nothing to do here."""
        self._connect()

    def offsets(self, keys: Sequence[OffsetKey]) -> Offsets:
        """The offsets of shards."""
        self._connect()
        found = {key: self._landing.offsets[key] for key in keys if key in self._landing.offsets}
        return Offsets(
            {key: Offset(key.shard_id, key.incarnation, position, None) for key, position in found.items()},
            {},
        )

    def commit(self, batch: Batch, *, refused_before: int) -> Outcome:
        """Commit a batch.

        :raises LeaseLostError: another worker has a lease
        :raises ServiceUnavailableError: its answer was lost, or the commit was abandoned
        """
        self._connect()
        if self._cancelled:
            raise ServiceUnavailableError(f"The commit of batch {batch.id} was given up")
        if not all(self._context.claims.confirm(shard_id) for shard_id in batch.spans):
            raise LeaseLostError(f"Leases were lost before batch {batch.id} was committed")
        self.in_doubt |= batch.spans.keys()
        outcome = self._landing.commit(batch)
        if outcome.ahead:
            self.settled(batch)
        return outcome

    def settled(self, batch: Batch) -> None:
        """Note that nothing of the batch's shards is in doubt any more."""
        self.in_doubt -= batch.spans.keys()

    def cancel(self) -> None:
        """Commit nothing more."""
        self._cancelled = True

    def disconnect(self) -> None:
        """End the connection, as far as there is one."""
        self._open = False

    def close(self) -> None:
        """End the connection, as far as there is one."""
        self.disconnect()

    def _connect(self) -> None:
        self.connections += not self._open
        self._open = True
