"""From state rows and the shard list to leased shards with a place to start."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.drain.assignment import Assignment, Candidate, assign
from airflow_kinesis_snowflake.drain.leases import now_millis
from airflow_kinesis_snowflake.drain.load import is_after
from airflow_kinesis_snowflake.drain.reader import ShardReader
from airflow_kinesis_snowflake.exceptions import StreamRecreatedError
from airflow_kinesis_snowflake.hooks.snowflake import OffsetKey
from airflow_kinesis_snowflake.stream.lineage import ShardProgress, new_shards, readable
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, StartAt

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.drain.leases import Leases
    from airflow_kinesis_snowflake.drain.load import Loader
    from airflow_kinesis_snowflake.drain.settings import DrainSettings, Worker
    from airflow_kinesis_snowflake.drain.threads import DaemonThreads
    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook, ShardState, StreamState
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_snowflake.stream.lineage import Shard

log = logging.getLogger(__name__)

FORGET_WORKER_MILLIS = 3_600_000


@dataclass(frozen=True)
class Intaken:
    """What one look at the state brought.

    :param readers: shards leased now, each with the position to go on from
    :param takeovers: how many of them were taken from an owner that didn't release them
    :param left_some: shards that need reading weren't taken, because they are beyond the fair share or leased by a
        worker of which it isn't clear yet whether it is alive; worth another look
    """

    readers: tuple[ShardReader, ...]
    takeovers: int
    left_some: bool


class Intake:
    """Finds shards for one worker: creates missing state rows, takes leases, reconciles takeovers.

    :param drain_until: shards drained up to this moment (ms) by anybody need no reading
    """

    def __init__(
        self,
        *,
        kinesis: KinesisStreamHook,
        store: CheckpointStoreHook,
        leases: Leases,
        loader: Loader,
        settings: DrainSettings,
        worker: Worker,
        writers: DaemonThreads,
        drain_until: int,
    ) -> None:
        self._kinesis = kinesis
        self._store = store
        self._leases = leases
        self._loader = loader
        self._settings = settings
        self._worker = worker
        self._writers = writers
        self._drain_until = drain_until
        self._stream_created = 0
        self._listed: tuple[Shard, ...] = ()
        self._watched: dict[str, ShardState] = {}

    def open(self) -> None:
        """Check the stream and make sure that the application's table exists.

        On the first run of an application Snowflake is checked too, so that nothing is created in AWS for a drain
        that could never load.
        """
        facts = self._kinesis.describe()
        self._stream_created = int(facts.created.timestamp() * 1000)
        if not self._store.exists():
            self._loader.prepare()
            self._store.create_table()

    def look(self, *, relist: bool, leave_alone: frozenset[str]) -> Intaken:
        """Take every shard that this worker should read now.

        :param relist: ask Kinesis for the shards again, because one ended
        :param leave_alone: shards not to take, because they failed in this drain
        """
        if relist or not self._listed:
            self._listed = self._kinesis.list_shards()
        state = self._complete(self._read_state())
        assignment = assign(
            state,
            readable=readable(self._listed, progress(state)) - leave_alone,
            held=self._leases.held,
            worker=self._worker,
            drain_until=self._drain_until,
            now=now_millis(),
        )
        taken = self._take(assignment)
        readers = self._start(taken)
        return Intaken(
            readers=readers,
            takeovers=sum(candidate.takeover for candidate in taken),
            left_some=len(assignment.take) > len(taken) or assignment.beyond_share > 0 or self._unclear(assignment),
        )

    def _read_state(self) -> StreamState:
        state = self._store.read_state(self._settings.stream_name)
        for shard in state.shards.values():
            if shard.stream_created not in (None, self._stream_created):
                raise StreamRecreatedError(
                    f"The checkpoints of application {self._settings.application_name} belong to a stream "
                    f"{self._settings.stream_name} that was deleted; the present one was created at another time. "
                    f"Reset the state (DAG kinesis_state_reset, method delete_table or rewind) to read the new stream"
                )
        for worker, heartbeat in state.workers.items():
            if now_millis() - heartbeat > FORGET_WORKER_MILLIS:
                self._store.leave(self._settings.stream_name, worker)
        return state

    def _complete(self, state: StreamState) -> StreamState:
        """Create the rows that are missing, and read the state again if there were any."""
        missing = missing_rows(self._listed, state, initial=self._settings.initial_position)
        if not missing:
            return state
        # One after the other: if this dies half-way, no child has a row whose parent has none.
        for row in missing:
            self._create(row)
        return self._complete(self._read_state())

    def _create(self, row: MissingRow) -> bool:
        return self._store.create_shard(
            self._settings.stream_name,
            row.shard.shard_id,
            start_at=row.start_at,
            parents=row.shard.parents,
            incarnation=uuid.uuid4().hex,
            stream_created=self._stream_created,
            initial_shards=row.initial_shards,
        )

    def _take(self, assignment: Assignment) -> list[Candidate]:
        def lease(candidate: Candidate) -> Candidate | None:
            state = self._leases.take(candidate.state, incarnation=uuid.uuid4().hex)
            return None if state is None else Candidate(state, takeover=candidate.takeover)

        return [taken for taken in self._writers.map(lease, assignment.take) if taken is not None]

    def _start(self, taken: list[Candidate]) -> tuple[ShardReader, ...]:
        """Readers for leased shards; a takeover goes on from the later of checkpoint and offsets."""
        committed = {candidate.state.shard_id: candidate.state.checkpoint for candidate in taken}
        keys = [key_of(candidate.state) for candidate in taken if candidate.takeover]
        if keys:
            log.info("Reading the offsets of %d shards that their last owner didn't release", len(keys))
            for key, offset in self._loader.offsets(keys).items():
                if offset.position is not None and is_after(offset.position, committed[key.shard_id]):
                    committed[key.shard_id] = offset.position
            for key in keys:
                self._leases.save(key.shard_id, committed[key.shard_id], ended=False, millis_behind=None)
        return tuple(
            ShardReader(candidate.state, committed=committed[candidate.state.shard_id]) for candidate in taken
        )

    def _unclear(self, assignment: Assignment) -> bool:
        """Whether a lease of somebody else may be that of a dead worker.

        A live worker renews its leases, so a lease that was seen to change needs no more watching. One that
        doesn't change expires, and can be taken then.
        """
        unclear = False
        for shard in assignment.held_by_others:
            seen = self._watched.setdefault(shard.shard_id, shard)
            unclear |= (seen.lease_owner, seen.lease_expiry) == (shard.lease_owner, shard.lease_expiry)
        return unclear


@dataclass(frozen=True)
class MissingRow:
    """A state row to create.

    :param initial_shards: on the first row of an application only: all shards it starts with
    """

    shard: Shard
    start_at: StartAt
    initial_shards: tuple[str, ...] = ()


def missing_rows(listed: tuple[Shard, ...], state: StreamState, *, initial: StartAt) -> list[MissingRow]:
    """State rows that the shard list calls for.

    An application founds itself on a stream with one conditional write: the first shard's row names all shards that
    start at the initial position. Whoever finds that row can complete the others, so a first run that dies half-way
    leaves no shard to start elsewhere. Shards that appear later start at ``TRIM_HORIZON``.
    """
    shards = {shard.shard_id: shard for shard in listed}
    if not state.shards:
        founder = min(shards)
        return [MissingRow(shards[founder], initial, initial_shards=tuple(sorted(shards)))]
    founding = {
        shard_id: row.start_at or TRIM_HORIZON
        for row in state.shards.values()
        for shard_id in row.initial_shards
        if shard_id in shards and shard_id not in state.shards
    }
    if founding:
        return [MissingRow(shards[shard_id], start_at) for shard_id, start_at in sorted(founding.items())]
    return [MissingRow(shard, TRIM_HORIZON) for shard in new_shards(listed, progress(state))]


def progress(state: StreamState) -> Mapping[str, ShardProgress]:
    """What lineage needs to know of the state rows."""
    return {
        shard_id: ShardProgress(shard_id=shard_id, parents=row.parents, ended=row.ended)
        for shard_id, row in state.shards.items()
    }


def key_of(state: ShardState) -> OffsetKey:
    """The offsets row of a state row."""
    return OffsetKey(shard_id=state.shard_id, incarnation=state.incarnation or "")
