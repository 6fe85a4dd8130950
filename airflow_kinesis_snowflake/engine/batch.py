"""A micro-batch: rows of several shards on their way into one commit of a sink."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine.offsets import OffsetKey
from airflow_kinesis_snowflake.engine.report import OTHER_REASONS
from airflow_kinesis_snowflake.engine.runtime import MACHINE
from airflow_kinesis_snowflake.formats.dead_letters import RECORD
from airflow_kinesis_snowflake.stream.times import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from airflow_kinesis_snowflake.engine.ports import Rows
    from airflow_kinesis_snowflake.engine.reader import EncodedPage, ShardReader
    from airflow_kinesis_snowflake.engine.runtime import Runtime
    from airflow_kinesis_snowflake.formats.dead_letters import DeadLetter
    from airflow_kinesis_snowflake.stream.positions import Position

EXAMPLES = 3
# Some reasons give a place in the payload, so there may be as many reasons as records.
REASONS = 100


@dataclass
class Span:
    """The part of one shard that a batch holds: after ``began``, up to and including ``reached``.

    :param offset: the offset known to be committed when the batch is loaded; ``None`` if there is none
    """

    shard_id: str
    incarnation: str
    began: Position | None
    reached: Position
    offset: Position | None = None
    records: int = 0
    bytes: int = 0
    dead_letters: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    millis_behind: int | None = None

    @property
    def key(self) -> OffsetKey:
        """The key of the offset it moves."""
        return OffsetKey(self.shard_id, self.incarnation)


@dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """When a batch is full.

    :param max_batch_bytes: its size, as its sink counts it
    :param max_batch_records: number of its records; the last page may exceed it
    :param max_batch_seconds: age of its first record in memory
    """

    max_batch_bytes: float
    max_batch_records: float
    max_batch_seconds: float


class Batch:
    """Collects pages in order of arrival and keeps, per shard, the span they cover.

    :param begin: creates the container that collects rows, for a folder
    :param directory: where the batch creates a folder of its own
    :param limits: when it is full
    :param runtime: for the time and the digits in its id
    """

    def __init__(
        self,
        begin: Callable[[Path], Rows],
        directory: Path,
        *,
        limits: BatchLimits,
        runtime: Runtime = MACHINE,
    ) -> None:
        self.id = f"{moment(runtime.wall()):%Y%m%dT%H%M%S}-{runtime.new_id()[:12]}"
        self.attempts = 0
        self.spans: dict[str, Span] = {}
        self.began_at: float | None = None
        self.refused = 0
        self.examples: list[str] = []
        self._limits = limits
        self._folder = directory / self.id
        self._folder.mkdir()
        self.rows = begin(self._folder)

    def add(self, reader: ShardReader, page: EncodedPage, *, now: float) -> None:
        """Append a page and move the shard's span to its end."""
        if page.reached is None:
            return
        span = self.spans.get(reader.shard_id)
        if span is None:
            span = Span(reader.shard_id, reader.incarnation, began=reader.read, reached=page.reached)
            self.spans[reader.shard_id] = span
        if self.began_at is None:
            self.began_at = now
        span.reached = page.reached
        span.millis_behind = page.millis_behind
        if page.encoded is not None:
            self.rows.append(page.encoded, shard_id=reader.shard_id)
            span.records += page.records
            span.bytes += page.bytes
            span.dead_letters += len(page.encoded.dead_letters)
            span.dropped.update(page.encoded.dropped)
            self._note(page.encoded.dead_letters, reader.shard_id)

    def _note(self, dead_letters: Sequence[DeadLetter], shard_id: str) -> None:
        """Count records that can't be loaded, and remember some for a message; a gap isn't a record."""
        refused = [letter for letter in dead_letters if letter.kind == RECORD]
        self.refused += len(refused)
        reasons = self.spans[shard_id].reasons
        for letter in refused:
            known = letter.reason in reasons or len(reasons) < REASONS
            reasons[letter.reason if known else OTHER_REASONS] += 1
        room = EXAMPLES - len(self.examples)
        self.examples += [
            f"{letter.record.sequence_number} of {shard_id} ({letter.reason})" for letter in refused[:room]
        ]

    def note_put_aside(self, shard_id: str, letter: DeadLetter, *, rows: int) -> None:
        """Count a record that a sink has made a dead letter, and that would have been this many rows."""
        span = self.spans[shard_id]
        span.dead_letters += 1
        span.records += 1 - rows
        self._note([letter], shard_id)

    @property
    def reasons(self) -> Counter[str]:
        """Why records can't be loaded, with a count for each reason; beyond a limit, all others as one."""
        return sum((span.reasons for span in self.spans.values()), Counter())

    @property
    def keys(self) -> list[OffsetKey]:
        """The keys of the offsets it moves."""
        return [span.key for span in self.spans.values()]

    @property
    def records(self) -> int:
        """User records in the batch, dead letters included."""
        return self.rows.rows + self.rows.dead_letters

    def full(self, *, now: float) -> bool:
        """Whether a limit requires the batch to be loaded now."""
        return self.began_at is not None and (
            self.rows.size >= self._limits.max_batch_bytes
            or self.records >= self._limits.max_batch_records
            or now >= self.due
        )

    @property
    def due(self) -> float:
        """When it should be loaded at the latest, on the monotonic clock; infinite while it is empty."""
        return inf if self.began_at is None else self.began_at + self._limits.max_batch_seconds

    def discard(self) -> None:
        """Delete the batch's files."""
        self.rows.delete()
        self._folder.rmdir()
