"""Which state rows a stream's shards need: decisions about the rows, without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.stream.lineage import (
    Shard,
    ShardProgress,
    from_initial_position,
    new_shards,
)
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, StartAt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_snowflake.state.shards import ShardState, StreamState

# A row and the list of shards may be a moment apart, and so may the clocks of their authors.
SETTLED_MILLIS = 300_000
# The first records of a shard may be dated before it: both times are whole seconds of several machines.
NEWBORN_MILLIS = 60_000


@dataclass(frozen=True)
class MissingRow:
    """A state row to create.

    :param initial_shards: on the first row of an application only: all shards it starts with
    :param caught_up_at: nothing of the shard is before this moment (ms), and all after it is to be read
    """

    shard: Shard
    start_at: StartAt
    initial_shards: tuple[str, ...] = ()
    caught_up_at: int | None = None


def missing_rows(listed: Sequence[Shard], state: StreamState, *, initial: StartAt) -> list[MissingRow]:
    """State rows that the shard list requires.

    An application founds itself on a stream with one conditional write: the first shard's row names all
    shards that start at the initial position. Whoever finds that row can complete the others, so a first run
    that dies halfway can't make a shard start elsewhere. Shards that appear later start at ``TRIM_HORIZON``,
    and all that came since they were made is to be read.
    In a table with rows of another consumer, those that it might have started begin at the initial position.
    """
    shards = {shard.shard_id: shard for shard in listed}
    if not state.shards:
        founder = min(shards)
        return [MissingRow(shards[founder], initial, initial_shards=tuple(sorted(shards)))]
    known = progress(state)
    where_asked = from_initial_position(listed, known)
    return founding_rows(listed, state) or [
        MissingRow(shard, initial)
        if shard.shard_id in where_asked
        else MissingRow(shard, TRIM_HORIZON, caught_up_at=_nothing_before(shard))
        for shard in new_shards(listed, known)
    ]


def _nothing_before(shard: Shard) -> int | None:
    """A moment before which nothing came (ms)."""
    return None if shard.made is None else shard.made - NEWBORN_MILLIS


def founding_rows(listed: Sequence[Shard], state: StreamState) -> list[MissingRow]:
    """Rows that a first run named but died before creating."""
    shards = {shard.shard_id: shard for shard in listed}
    return [
        MissingRow(shards[shard_id], row.initial_start or row.start_at or TRIM_HORIZON)
        for row in state.shards.values()
        for shard_id in sorted(row.initial_shards)
        if shard_id in shards and shard_id not in state.shards
    ]


def orphans(listed: Sequence[Shard], state: StreamState) -> frozenset[str]:
    """Rows that would have been made after others which aren't there.

    Rows are made parents first. So somebody made these who had read rows that are gone since: the table was
    deleted in between, and perhaps made anew. Taken for true, they would mean that the parents of their
    shards were before the start. Nobody has leased them yet, and no first run named them.
    """
    named = {shard_id for row in state.shards.values() for shard_id in row.initial_shards}
    untaken = {
        shard_id
        for shard_id, row in state.shards.items()
        if row.incarnation is not None and row.last_update is None and shard_id not in named
    }
    if not untaken:
        return frozenset()
    known = progress(state)
    due = new_shards(listed, {shard_id: known[shard_id] for shard_id in known.keys() - untaken})
    absent = {shard.shard_id for shard in due} - known.keys() - named
    found: set[str] = set()
    for shard in due:
        if shard.shard_id in untaken and not absent.isdisjoint(shard.parents):
            found.add(shard.shard_id)
            absent.add(shard.shard_id)
    return frozenset(found)


def progress(state: StreamState) -> Mapping[str, ShardProgress]:
    """What lineage needs to know about the state rows."""
    return {
        shard_id: ShardProgress(
            shard_id=shard_id, parents=row.parents, ended=row.ended, foreign=row.stream_created is None
        )
        for shard_id, row in state.shards.items()
    }


def caught_up_by(row: ShardState, *, now: int) -> int | None:
    """The moment up to which a shard was drained, as far as a row is plausible.

    :param now: milliseconds since the epoch; a later moment was written by a fast clock, and is ignored
    """
    at = row.caught_up_at
    return at if at is not None and 0 <= at <= now else None


def contradiction(row: ShardState, shard: Shard, *, now: int) -> str | None:
    """How a row contradicts what Kinesis reports about its shard; ``None`` if it doesn't.

    A drain would take such a row to mean that there is nothing to load.

    :param shard: as it was listed after the row was read
    :param now: milliseconds since the epoch
    """
    fresh = row.last_update is not None and abs(now - row.last_update) < SETTLED_MILLIS
    if row.ended and not shard.closed and not fresh:
        return "says that the shard was read to its end, but the shard is open"
    return None
