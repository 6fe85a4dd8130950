"""An application's state in memory, with the port of a state store."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from threading import RLock
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import FencedError
from airflow_kinesis_snowflake.state.shards import ShardState, StreamState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_kinesis_snowflake.exceptions import KinesisSnowflakeError
    from airflow_kinesis_snowflake.stream.positions import Position, StartAt

COPY = "copy"


class FakeStateStore:
    """Rows of shards and workers; each change is atomic.

    Several workers of one application share one. A repeated change reports success again, unless something
    else has come between: a caller that lost an answer may repeat the call.
    """

    def __init__(self) -> None:
        self._made = False
        self._lock = RLock()
        self._shards: dict[str, dict[str, ShardState]] = defaultdict(dict)
        self._workers: dict[str, dict[str, int]] = defaultdict(dict)
        self._failures: list[KinesisSnowflakeError] = []

    # --- what happens to the state -------------------------------------------------------------------------

    def put(self, stream_name: str, shard: ShardState) -> None:
        """Write a row as other software would."""
        with self._lock:
            self._shards[stream_name][shard.shard_id] = shard

    def fail(self, *errors: KinesisSnowflakeError) -> None:
        """Make the next calls raise these, one each, without any effect."""
        with self._lock:
            self._failures += errors

    # --- the port ------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the application has state."""
        self._meet_failure()
        return self._made

    def create_table(self) -> None:
        """Create the place for state unless it exists."""
        self._meet_failure()
        self._made = True

    def read_state(self, stream_name: str) -> StreamState:
        """All rows of a stream, as the last write left them."""
        self._meet_failure()
        with self._lock:
            return StreamState(dict(self._shards[stream_name]), dict(self._workers[stream_name]))

    def create_shard(  # noqa: PLR0913 -- all that a row says is written at once
        self,
        stream_name: str,
        shard_id: str,
        *,
        start_at: StartAt,
        parents: Iterable[str],
        incarnation: str,
        stream_created: int,
        stream_arn: str | None = None,
        initial_shards: Iterable[str] = (),
        caught_up_at: int | None = None,
        sink: str | None = None,
    ) -> bool:
        """Create the row of a shard.

        :return: ``False``: there is one, and it is unchanged
        """
        self._meet_failure()
        made = ShardState(
            shard_id,
            start_at=start_at,
            parents=tuple(sorted(set(parents))),
            incarnation=incarnation,
            stream_created=stream_created,
            stream_arn=stream_arn,
            initial_shards=frozenset(initial_shards),
            initial_start=start_at if initial_shards else None,
            caught_up_at=caught_up_at,
            sinks=frozenset(() if sink is None else (sink,)),
        )
        with self._lock:
            return self._shards[stream_name].setdefault(shard_id, made) == made

    def forget_shard(self, stream_name: str, shard_id: str) -> bool:
        """Delete the row of a shard that is read to its end and not leased.

        :return: ``False``: it isn't, and stays
        """
        self._meet_failure()
        with self._lock:
            row = self._shards[stream_name].get(shard_id)
            if row is not None and (not row.ended or row.lease_owner is not None):
                return False
            self._shards[stream_name].pop(shard_id, None)
            return True

    def withdraw_shard(self, stream_name: str, shard_id: str, *, incarnation: str) -> bool:
        """Delete the row of a shard that nobody has leased since it was created.

        :return: ``False``: somebody has, or it is another row, and it stays
        """
        self._meet_failure()
        with self._lock:
            row = self._shards[stream_name].get(shard_id)
            if row is not None and (row.incarnation != incarnation or row.last_update is not None):
                return False
            self._shards[stream_name].pop(shard_id, None)
            return True

    def take_lease(  # noqa: PLR0913 -- the port's
        self,
        stream_name: str,
        shard: ShardState,
        *,
        owner: str,
        expiry: int,
        now: int,
        incarnation: str,
        start_at: StartAt | None = None,
        sink: str | None = None,
        stream_arn: str | None = None,
        predecessor: bool = False,
    ) -> ShardState | None:
        """Take a lease that is free, the worker's own, or as it was read.

        :param predecessor: or renewed since by the same owner
        :return: the row after it; ``None``: another worker has the lease, or there is no such row, or it was
            reset since it was read, or says that it belongs to another stream, or that another sink left it
            in doubt
        """
        self._meet_failure()
        unchanged = predecessor or shard.lease_expiry is None

        def free(row: ShardState) -> bool:
            if row.incarnation not in {shard.incarnation, shard.incarnation or incarnation}:
                return False
            if stream_arn is not None and row.stream_arn not in {None, stream_arn}:
                return False
            if sink is not None and row.unsettled and row.sinks - {sink}:
                return False
            if row.lease_owner in {None, owner}:
                return True
            return row.lease_owner == shard.lease_owner and (
                unchanged or row.lease_expiry == shard.lease_expiry
            )

        def taken(row: ShardState) -> ShardState:
            untold = shard.last_update if shard.incarnation is None else None
            return replace(
                row,
                lease_owner=owner,
                lease_expiry=expiry,
                last_update=now,
                incarnation=row.incarnation or incarnation,
                start_at=row.start_at or start_at,
                stream_arn=row.stream_arn or stream_arn,
                others_until=untold if row.others_until is None else row.others_until,
                sinks=row.sinks if sink is None else frozenset({sink}),
            )

        return self._change(stream_name, shard.shard_id, free, taken)

    def renew_lease(
        self,
        stream_name: str,
        shard_id: str,
        *,
        owner: str,
        expiry: int,
        now: int,
        millis_behind: int | None = None,
        caught_up_at: int | None = None,
    ) -> bool:
        """Extend a lease that the worker has.

        :return: ``False``: the lease is lost, and nothing was written
        """
        self._meet_failure()
        facts = _known(millis_behind=millis_behind, caught_up_at=caught_up_at)
        return self._change_as(
            owner, stream_name, shard_id, {"lease_expiry": expiry, "last_update": now, **facts}
        )

    def save_checkpoint(  # noqa: PLR0913 -- all of it in one write
        self,
        stream_name: str,
        shard_id: str,
        *,
        owner: str,
        checkpoint: Position | None,
        expiry: int,
        now: int,
        millis_behind: int | None = None,
        offset: Position | None = None,
        committed_at: int | None = None,
        sink: str | None = None,
    ) -> bool:
        """Save that a shard is committed up to a position, and renew its lease, which the worker has.

        :return: ``False``: the lease is lost, and nothing was written
        :raises FencedError: the lease is held, but the saved checkpoint is further on already
        """
        self._meet_failure()
        changes: dict[str, Any] = {
            "lease_expiry": expiry,
            "last_update": now,
            "unsettled": False,
            **_known(millis_behind=millis_behind, checkpoint=checkpoint),
        }
        if sink is not None:
            changes["sinks"] = frozenset({sink})
        with self._lock:
            row = self._shards[stream_name].get(shard_id)
            if row is None or row.lease_owner != owner:
                return False
            if checkpoint is not None and row.checkpoint is not None and row.checkpoint > checkpoint:
                raise FencedError(
                    f"The checkpoint of shard {shard_id} of stream {stream_name} is already beyond "
                    f"{checkpoint.sequence_number}: something other than the lease's owner moved it"
                )
            if offset is not None and sink in {None, COPY}:
                changes["offset"] = offset
            elif offset is not None:
                changes["offsets"] = {**row.offsets, sink: offset}
            if committed_at is not None:
                changes["committed_at"] = {**row.committed_at, sink: committed_at}
            return self._change_as(owner, stream_name, shard_id, changes)

    def release_lease(
        self,
        stream_name: str,
        shard_id: str,
        *,
        owner: str,
        now: int,
        ended: bool = False,
        unsettled: bool = False,
        millis_behind: int | None = None,
        caught_up_at: int | None = None,
    ) -> bool:
        """Release a lease that the worker has, with the last facts about the shard.

        :return: ``False``: the lease is lost, and nothing was written
        """
        self._meet_failure()
        facts = _known(
            ended=ended or None,
            unsettled=unsettled or None,
            millis_behind=millis_behind,
            caught_up_at=caught_up_at,
        )
        released = {"lease_owner": None, "lease_expiry": None, "last_update": now, **facts}
        return self._change_as(owner, stream_name, shard_id, released)

    def heartbeat(self, stream_name: str, worker: str, *, now: int, again: bool = False) -> bool:
        """Record that a worker is alive.

        :param again: not its first heartbeat
        :return: ``False``: its row was removed since the first, and nothing was written
        """
        self._meet_failure()
        with self._lock:
            if again and worker not in self._workers[stream_name]:
                return False
            self._workers[stream_name][worker] = now
            return True

    def leave(self, stream_name: str, worker: str) -> None:
        """Remove the last heartbeat; a missing one is no error."""
        self._meet_failure()
        with self._lock:
            self._workers[stream_name].pop(worker, None)

    def forget_worker(self, stream_name: str, worker: str, *, heartbeat: int) -> bool:
        """Delete the row of a worker whose last heartbeat was this one.

        :return: ``False``: it has sent another since; ``True``: there is no such row now
        """
        self._meet_failure()
        with self._lock:
            if self._workers[stream_name].get(worker, heartbeat) != heartbeat:
                return False
            self._workers[stream_name].pop(worker, None)
            return True

    def _change_as(self, owner: str, stream_name: str, shard_id: str, changes: Mapping[str, Any]) -> bool:
        """Change a row whose lease somebody has; it was changed already if it is as it would be then."""
        return (
            self._change(
                stream_name,
                shard_id,
                lambda row: row.lease_owner == owner or replace(row, **changes) == row,
                lambda row: replace(row, **changes),
            )
            is not None
        )

    def _change(
        self,
        stream_name: str,
        shard_id: str,
        condition: Callable[[ShardState], bool],
        change: Callable[[ShardState], ShardState],
    ) -> ShardState | None:
        with self._lock:
            row = self._shards[stream_name].get(shard_id)
            if row is None or not condition(row):
                return None
            changed = self._shards[stream_name][shard_id] = change(row)
            return changed

    def _meet_failure(self) -> None:
        with self._lock:
            if self._failures:
                raise self._failures.pop(0)


def _known(**facts: Any) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}
