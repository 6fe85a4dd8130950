"""Whether a checkpoint is its shard's own, and whether records after it may be gone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.stream.positions import sequence_facts
from airflow_kinesis_snowflake.stream.times import in_utc

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.stream.lineage import Shard
    from airflow_kinesis_snowflake.stream.positions import Position

# Clocks differ, and Kinesis trims when it likes: close to the limit it is better to look.
MARGIN = timedelta(minutes=10)


@dataclass(frozen=True)
class Gap:
    """Records of a shard that may have aged out before they were read.

    :param loaded_until: arrival of the last record that was read, as far as known
    :param oldest_available: arrival of the oldest record that can still be read; ``None``: there is none
    """

    shard_id: str
    loaded_until: datetime | None
    oldest_available: datetime | None

    def __str__(self) -> str:
        began = in_utc(self.loaded_until) if self.loaded_until else "an unknown time"
        ended = in_utc(self.oldest_available) if self.oldest_available else "now"
        return f"records of {self.shard_id} that arrived between {began} and {ended}"

    def as_dict(self) -> dict[str, str | None]:
        """The gap as JSON takes it, moments in ISO-8601."""
        return {
            "shard_id": self.shard_id,
            "loaded_until": self.loaded_until.isoformat() if self.loaded_until else None,
            "oldest_available": self.oldest_available.isoformat() if self.oldest_available else None,
        }


@dataclass(frozen=True)
class Doubt:
    """What speaks against a checkpoint.

    :param reason: goes on from "the checkpoint"
    :param certain: reading from it would go wrong; otherwise Kinesis is to be asked, which refuses a sequence
        number that the shard didn't give out (``InvalidArgumentException`` of ``GetShardIterator``)
    """

    reason: str
    certain: bool

    def __str__(self) -> str:
        return self.reason


def why_foreign(checkpoint: Position, shard: Shard, *, now: datetime) -> Doubt | None:
    """What speaks against a checkpoint being a shard's own; ``None`` if nothing does.

    The number of the shard, the second it was made and the second the record was written are inside a
    sequence number; every record of a shard agrees with the shard's first number in the former two. AWS
    doesn't document that. So nothing is said where the shard's first number contradicts the shard's id, and
    another shard's number is no more than a doubt: only what belongs to another time is certain.

    :param shard: as ListShards gives it now
    """
    facts = sequence_facts(checkpoint.sequence_number)
    own = sequence_facts(shard.starting_sequence_number) if shard.starting_sequence_number else None
    if facts is None or own is None or shard.shard_id != f"shardId-{own.shard_number:012d}":
        return None
    if facts.shard_created != own.shard_created:
        made = f"was given out by a shard made at {facts.shard_created}, not at {own.shard_created}"
        return Doubt(made, certain=True)
    if facts.shard_number != own.shard_number:
        return Doubt(f"was given out by shard number {facts.shard_number}", certain=False)
    if facts.written > now + MARGIN:
        return Doubt(f"is of a record written at {facts.written}, which is in the future", certain=True)
    return None


def read_until(checkpoint: Position | None, *, caught_up_at: datetime | None) -> datetime | None:
    """The moment up to which everything of a shard was certainly read.

    :param checkpoint: ``None`` when no record of the shard was read so far
    :param caught_up_at: when the last drain of the shard reached its tip or its stop
    """
    facts = sequence_facts(checkpoint.sequence_number) if checkpoint else None
    known = [moment for moment in (caught_up_at, facts.written if facts else None) if moment is not None]
    return max(known, default=None)


def others_read_on(until: datetime | None, *, oldest_available: datetime | None) -> bool:
    """Whether a consumer that attended to a shard certainly read all that came after its checkpoint.

    The checkpoint of a shard without records stays where it was, however often the shard is read. So a
    checkpoint whose record is gone proves a loss only if that consumer left records unread that the stream
    still has.

    :param until: when that consumer last wrote the shard's row; ``None``: there was none, or it is longer ago
        than records are kept
    :param oldest_available: arrival of the first record after the checkpoint; ``None``: there is none
    """
    return until is not None and (oldest_available is None or oldest_available >= until - MARGIN)


def may_have_aged_out(until: datetime | None, *, retention: timedelta, now: datetime) -> bool:
    """Whether records that came after ``until`` may be older than the stream keeps them."""
    return until is None or until < now - retention + MARGIN
