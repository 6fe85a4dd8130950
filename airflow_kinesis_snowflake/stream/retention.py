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

# Clocks differ, and Kinesis trims at its own pace: close to the limit it is better to check.
MARGIN = timedelta(minutes=10)


@dataclass(frozen=True)
class Gap:
    """Records of a shard that may have aged out before they were read.

    :param loaded_until: arrival of the last record read, as far as known
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
        """The gap as JSON-compatible data, with moments in ISO-8601."""
        return {
            "shard_id": self.shard_id,
            "loaded_until": self.loaded_until.isoformat() if self.loaded_until else None,
            "oldest_available": self.oldest_available.isoformat() if self.oldest_available else None,
        }


@dataclass(frozen=True)
class Doubt:
    """A reason to doubt a checkpoint.

    :param reason: continues the sentence "the checkpoint ..."
    :param certain: reading from it would fail; otherwise ask Kinesis, which refuses a sequence number that
        the shard didn't assign (``InvalidArgumentException`` of ``GetShardIterator``)
    """

    reason: str
    certain: bool

    def __str__(self) -> str:
        return self.reason


def why_foreign(checkpoint: Position, shard: Shard, *, now: datetime) -> Doubt | None:
    """A reason to doubt that a checkpoint is the shard's own; ``None`` if there is none.

    A sequence number contains the number of the shard, the second it was created and the second the record
    was written; every record of a shard agrees with the shard's first number on the former two. AWS doesn't
    document that. So nothing is concluded if the shard's first number contradicts the shard's id, and another
    shard's number only raises a doubt: only what belongs to another time is certain.

    :param shard: as ListShards returns it now
    """
    facts = sequence_facts(checkpoint.sequence_number)
    own = sequence_facts(shard.starting_sequence_number) if shard.starting_sequence_number else None
    if facts is None or own is None or shard.shard_id != f"shardId-{own.shard_number:012d}":
        return None
    if facts.shard_created != own.shard_created:
        made = f"was assigned by a shard created at {facts.shard_created}, not at {own.shard_created}"
        return Doubt(made, certain=True)
    if facts.shard_number != own.shard_number:
        return Doubt(f"was assigned by shard number {facts.shard_number}", certain=False)
    if facts.written > now + MARGIN:
        return Doubt(f"belongs to a record written at {facts.written}, which is in the future", certain=True)
    return None


def read_until(checkpoint: Position | None, *, caught_up_at: datetime | None) -> datetime | None:
    """The moment up to which everything in a shard was certainly read.

    :param checkpoint: ``None`` if no record of the shard has been read yet
    :param caught_up_at: when the last drain of the shard reached its tip or its stopping point
    """
    facts = sequence_facts(checkpoint.sequence_number) if checkpoint else None
    known = [moment for moment in (caught_up_at, facts.written if facts else None) if moment is not None]
    return max(known, default=None)


def others_read_on(until: datetime | None, *, oldest_available: datetime | None) -> bool:
    """Whether a consumer that maintained a shard's row certainly read everything after its checkpoint.

    The checkpoint of a shard without records stays where it was, however often the shard is read. So a
    checkpoint whose record is gone proves a loss only if that consumer left unread records that the stream
    still has.

    :param until: when that consumer last wrote the shard's row; ``None``: there was none, or that is longer
        ago than the retention
    :param oldest_available: arrival of the first record after the checkpoint; ``None``: there is none
    """
    return until is not None and (oldest_available is None or oldest_available >= until - MARGIN)


def may_have_aged_out(until: datetime | None, *, retention: timedelta, now: datetime) -> bool:
    """Whether records that arrived after ``until`` may have exceeded the stream's retention."""
    return until is None or until < now - retention + MARGIN
