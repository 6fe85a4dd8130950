"""Looking into a shard: which record comes next from a position."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import ThrottledError
from airflow_kinesis_snowflake.stream.positions import Position, StartAt

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_snowflake.stream.records import Page, Record

# Kinesis allows five calls a second per shard; other readers need some of them.
_PAUSE_SECONDS = 0.25
_BACKOFF_SECONDS = 1.0


@dataclass(frozen=True)
class NextRecord:
    """The record of a shard that is read next.

    :param arrived: milliseconds since the epoch
    """

    position: Position
    arrived: int


def next_record(kinesis: KinesisStreamHook, shard_id: str, start: Position | StartAt) -> NextRecord | None:
    """The first record that a drain would read from a position on; None: there is none.

    Follows empty pages up to the tip of the shard. What an aggregate holds isn't looked at.

    :raises ForeignCheckpointError: the shard didn't give out the sequence number
    """
    iterator: str | None = kinesis.get_iterator(shard_id, start)
    while iterator is not None:
        page = _page(kinesis, iterator, limit=1 if isinstance(start, Position) else 100)
        for record in page.records:
            if _wanted(record, start):
                return NextRecord(Position(record.sequence_number), int(record.approximate_arrival * 1000))
        if not page.records and page.millis_behind == 0:
            return None
        iterator = page.next_iterator
        time.sleep(_PAUSE_SECONDS)
    return None


def is_retained(kinesis: KinesisStreamHook, shard_id: str, sequence_number: str) -> bool:
    """Whether the stream still has the record of this number.

    :raises ForeignCheckpointError: the shard didn't give out the sequence number
    """
    iterator: str | None = kinesis.get_iterator_at(shard_id, sequence_number)
    while iterator is not None:
        page = _page(kinesis, iterator, limit=1)
        if page.records:
            return page.records[0].sequence_number == sequence_number
        if page.millis_behind == 0:
            return False
        iterator = page.next_iterator
        time.sleep(_PAUSE_SECONDS)
    return False


def _page(kinesis: KinesisStreamHook, iterator: str, *, limit: int) -> Page:
    while True:
        try:
            return kinesis.get_page(iterator, limit=limit)
        except ThrottledError:
            time.sleep(_BACKOFF_SECONDS)


def _wanted(record: Record, start: Position | StartAt) -> bool:
    """An iterator at a moment begins at the whole second, up to a second early."""
    if isinstance(start, Position) or start.timestamp is None:
        return True
    return record.approximate_arrival >= start.timestamp.timestamp()
