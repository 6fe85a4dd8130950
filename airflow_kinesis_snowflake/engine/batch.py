"""A micro-batch: rows of several shards on their way into one Snowflake transaction."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine.runtime import MACHINE
from airflow_kinesis_snowflake.formats.dead_letters import RECORD
from airflow_kinesis_snowflake.sinks.snowflake.files import BatchFiles
from airflow_kinesis_snowflake.stream.times import moment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from airflow_kinesis_snowflake.engine.reader import Fetched, ShardReader
    from airflow_kinesis_snowflake.engine.runtime import Runtime
    from airflow_kinesis_snowflake.engine.settings import DrainSettings
    from airflow_kinesis_snowflake.formats.dead_letters import DeadLetter
    from airflow_kinesis_snowflake.sinks.snowflake.files import Coordinates
    from airflow_kinesis_snowflake.stream.positions import Position

EXAMPLES = 3


@dataclass
class Span:
    """The part of one shard that a batch holds: after ``began``, up to and including ``reached``.

    :param offset: the offset that a drain is known to have committed through when the batch is loaded;
        ``None`` if there is none
    """

    shard_id: str
    incarnation: str
    began: Position | None
    reached: Position
    offset: Position | None = None
    records: int = 0
    bytes: int = 0
    dead_letters: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    millis_behind: int | None = None


class Batch:
    """Collects pages in order of arrival and keeps, per shard, the span they cover.

    Rows go to a Parquet file on disk as they come; memory holds one row group.

    :param directory: where the batch makes a folder of its own
    :param settings: names and limits
    :param runtime: for the moment and the digits in its id
    """

    def __init__(self, directory: Path, settings: DrainSettings, *, runtime: Runtime = MACHINE) -> None:
        self.id = f"{moment(runtime.wall()):%Y%m%dT%H%M%S}-{runtime.new_id()[:12]}"
        self.attempts = 0
        self.spans: dict[str, Span] = {}
        self.began_at: float | None = None
        self.refused = 0
        self.examples: list[str] = []
        self._settings = settings
        self._folder = directory / self.id
        self._folder.mkdir()
        self.files = BatchFiles(
            self._folder, application=settings.application_name, stream_name=settings.stream_name
        )

    def add(self, reader: ShardReader, page: Fetched, *, now: float) -> None:
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
            self.files.append(page.encoded, shard_id=reader.shard_id)
            span.records += page.records
            span.bytes += page.bytes
            span.dead_letters += len(page.encoded.dead_letters)
            span.dropped.update(page.encoded.dropped)
            self._note(page.encoded.dead_letters, reader.shard_id)

    def _note(self, dead_letters: Sequence[DeadLetter], shard_id: str) -> None:
        """Count records that can't be loaded, and remember some for a message; a gap is no record."""
        refused = [letter for letter in dead_letters if letter.kind == RECORD]
        self.refused += len(refused)
        room = EXAMPLES - len(self.examples)
        self.examples += [
            f"{letter.record.sequence_number} of {shard_id} ({letter.reason})" for letter in refused[:room]
        ]

    def put_aside(
        self, rows: Mapping[Coordinates, Sequence[int]], letters: Mapping[Coordinates, DeadLetter]
    ) -> None:
        """Make dead letters of records that landed in the files, which are finished.

        :param rows: of each record, by number
        :param letters: one for each of them
        """
        by_shard: dict[str, list[DeadLetter]] = {}
        for key, letter in letters.items():
            shard_id = key[0]
            by_shard.setdefault(shard_id, []).append(letter)
            span = self.spans[shard_id]
            span.dead_letters += 1
            span.records += 1 - len(rows[key])
        self.files.put_aside([row for numbers in rows.values() for row in numbers], by_shard)
        for shard_id, of_shard in by_shard.items():
            self._note(of_shard, shard_id)

    @property
    def records(self) -> int:
        """User records in the batch, dead letters included."""
        return self.files.rows + self.files.dead_letters

    def full(self, *, now: float) -> bool:
        """Whether a limit says that the batch should be loaded now."""
        return self.began_at is not None and (
            self.files.size >= self._settings.max_batch_bytes
            or self.records >= self._settings.max_batch_records
            or now - self.began_at >= self._settings.max_batch_seconds
        )

    def discard(self) -> None:
        """Delete the batch's files."""
        self.files.delete()
        self._folder.rmdir()
