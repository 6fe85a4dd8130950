"""Finds out whether there is something to drain, without draining it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine.assignment import is_leased
from airflow_kinesis_snowflake.engine.rows import contradiction, missing_rows, progress
from airflow_kinesis_snowflake.exceptions import (
    ForeignCheckpointError,
    IteratorExpiredError,
    ThrottledError,
)
from airflow_kinesis_snowflake.stream.lineage import readable, vanished
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.engine.lag import StateReader
    from airflow_kinesis_snowflake.engine.settings import Worker
    from airflow_kinesis_snowflake.sources.polling import KinesisCalls
    from airflow_kinesis_snowflake.state.shards import ShardState, StreamState
    from airflow_kinesis_snowflake.stream.positions import Position

SHARDS_PER_LOOK = 100
INITIAL_BACKOFF_SECONDS = 600.0
MAX_BACKOFF_SECONDS = 3600.0

Mark = frozenset[tuple[str, "Position | None", bool]]


@dataclass(frozen=True)
class Backlog:
    """What one look at a stream found.

    :param reason: why a drain has something to do; ``None``: it has nothing to do, as far as checked
    :param mark: how far the application is; it changes when a drain makes progress
    :param unclear: a shard has to be asked again soon before anything is known about it
    :param partial: there are more shards than one look asks, so nothing is known about some of them
    :param leased: a worker holds a lease, so no shard was asked
    """

    reason: str | None
    mark: Mark = frozenset()
    unclear: bool = False
    partial: bool = False
    leased: bool = False

    @property
    def idle(self) -> bool:
        """Whether it is known of every shard that a drain has nothing to do."""
        return self.reason is None and not (self.unclear or self.partial or self.leased)


class BacklogWatch:
    """Looks for records after the checkpoints of an application. Reads one record at most, changes nothing.

    One look costs DescribeTable, Query and ListShards, plus GetRecords with ``Limit=1`` for up to 100 shards;
    the next look continues with the others. The iterator of each shard is kept between looks, and requested
    again after the checkpoint moved. That is one of the five GetRecords calls that a shard allows a second.
    While a worker holds a lease, a drain is under way and Kinesis isn't asked at all.

    :param kinesis: the stream
    :param store: the application's checkpoints
    :param worker: the worker that would drain the stream; it can take the leases of its predecessors, so
        these don't count
    """

    def __init__(self, *, kinesis: KinesisCalls, store: StateReader, worker: Worker | None = None) -> None:
        self._kinesis = kinesis
        self._store = store
        self._worker = worker
        self._iterators: dict[str, tuple[Position | None, str]] = {}
        self._last_asked = ""

    def look(self, *, now: int) -> Backlog:
        """Look once.

        :param now: milliseconds since the epoch
        :raises KinesisSnowflakeError: AWS doesn't answer, or refuses
        """
        if not self._store.describe_table().exists:
            return Backlog("it has no checkpoints yet")
        state = self._store.read_state(self._kinesis.stream_name)
        mark = mark_of(state)
        if not state.shards:
            return Backlog("it has no checkpoints yet")
        if being_drained(state, now=now, worker=self._worker):
            return Backlog(None, mark, leased=True)
        listed = self._kinesis.list_shards()
        if missing_rows(listed, state, initial=TRIM_HORIZON):
            return Backlog("there are new shards", mark)
        if vanished(listed, progress(state)):
            return Backlog("unread shards are gone", mark)
        for shard in listed:
            row = state.shards.get(shard.shard_id)
            if row is not None and (why := contradiction(row, shard, now=now)):
                return Backlog(f"the row of {shard.shard_id} {why}", mark)
        unclear = False
        shards = readable(listed, progress(state))
        turn = self._turn(shards)
        for shard_id in turn:
            reason, unsure = self._ask(state.shards[shard_id])
            unclear |= unsure
            if reason is not None:
                return Backlog(reason, mark)
        return Backlog(None, mark, unclear=unclear, partial=len(turn) < len(shards))

    def _turn(self, shards: frozenset[str]) -> list[str]:
        """The shards to ask now: those after the last one asked, then from the start."""
        ordered = sorted(shards, key=lambda shard_id: (shard_id <= self._last_asked, shard_id))
        turn = ordered[:SHARDS_PER_LOOK]
        self._last_asked = turn[-1] if turn else ""
        self._iterators = {name: kept for name, kept in self._iterators.items() if name in shards}
        return turn

    def _ask(self, row: ShardState) -> tuple[str | None, bool]:
        """Why a shard needs a drain, and whether to ask again before saying that it doesn't."""
        shard_id = row.shard_id
        try:
            page = self._kinesis.get_page(self._iterator(row), limit=1)
        except ForeignCheckpointError:
            return f"{shard_id} refuses its checkpoint", False
        except IteratorExpiredError:
            del self._iterators[shard_id]
            return None, True
        except ThrottledError:
            # Others read this shard too; leave them their turn.
            return None, True
        if page.records:
            return f"{shard_id} has records", False
        if page.next_iterator is None:
            return f"{shard_id} is closed and read to its end", False
        self._iterators[shard_id] = row.checkpoint, page.next_iterator
        return None, page.millis_behind > 0

    def _iterator(self, row: ShardState) -> str:
        kept = self._iterators.get(row.shard_id)
        if kept is None or kept[0] != row.checkpoint:
            start = row.checkpoint or row.start_at or TRIM_HORIZON
            kept = row.checkpoint, self._kinesis.get_iterator(row.shard_id, start)
            self._iterators[row.shard_id] = kept
        return kept[1]


class RefireBackoff:
    """When to start a drain again.

    A drain that made progress is followed by the next at once. One that didn't, because it fails or never
    ran, is started again after 10 minutes, then after 20, 40, and then every hour.
    """

    def __init__(self) -> None:
        self._mark: Mark | None = None
        self._seconds = INITIAL_BACKOFF_SECONDS
        self._again_at = 0.0

    def due(self, mark: Mark, *, now: float) -> bool:
        """Whether to start a drain now; counts as started if so.

        :param mark: how far the application is
        :param now: on the monotonic clock
        """
        if mark != self._mark:
            self._mark, self._seconds = mark, INITIAL_BACKOFF_SECONDS
        elif now < self._again_at:
            return False
        else:
            self._seconds = min(2 * self._seconds, MAX_BACKOFF_SECONDS)
        self._again_at = now + self._seconds
        return True


def mark_of(state: StreamState) -> Mark:
    """How far an application is. A new row alone isn't progress: its drain may not get any further."""
    return frozenset(
        (row.shard_id, row.checkpoint, row.ended)
        for row in state.shards.values()
        if row.checkpoint is not None or row.ended
    )


def being_drained(state: StreamState, *, now: int, worker: Worker | None = None) -> bool:
    """Whether a worker holds the lease of a shard.

    :param worker: whose predecessors don't count
    """
    return any(
        is_leased(row, now=now) and not (worker is not None and worker.succeeds(row.lease_owner))
        for row in state.shards.values()
    )
