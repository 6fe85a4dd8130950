"""From state rows and the shard list to leased shards with a start position."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine.assignment import (
    Assignment,
    Candidate,
    assign,
    describe_holders,
    holders,
)
from airflow_kinesis_snowflake.engine.offsets import OffsetKey
from airflow_kinesis_snowflake.engine.reader import ShardReader
from airflow_kinesis_snowflake.engine.rows import (
    contradiction,
    founding_rows,
    missing_rows,
    orphans,
    progress,
)
from airflow_kinesis_snowflake.engine.watching import Watch
from airflow_kinesis_snowflake.exceptions import (
    AnotherStreamError,
    CorruptStateError,
    DataLossError,
    ForeignCheckpointError,
    SinkInDoubtError,
    StreamRecreatedError,
)
from airflow_kinesis_snowflake.stream.lineage import ShardProgress, forgettable, missed, readable, vanished
from airflow_kinesis_snowflake.stream.positions import StartAt, later
from airflow_kinesis_snowflake.stream.retention import MARGIN, Gap, may_have_aged_out, why_foreign
from airflow_kinesis_snowflake.stream.times import millis, moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence, Set
    from datetime import datetime

    from airflow_kinesis_snowflake.engine.leases import Leases
    from airflow_kinesis_snowflake.engine.loading import Loader
    from airflow_kinesis_snowflake.engine.ports import Source, StateStore
    from airflow_kinesis_snowflake.engine.rows import MissingRow
    from airflow_kinesis_snowflake.engine.settings import DrainSettings, Worker
    from airflow_kinesis_snowflake.engine.threads import DaemonThreads
    from airflow_kinesis_snowflake.exceptions import TerminalError
    from airflow_kinesis_snowflake.state.shards import ShardState, StreamState
    from airflow_kinesis_snowflake.stream.clock import ServiceClock
    from airflow_kinesis_snowflake.stream.facts import StreamFacts
    from airflow_kinesis_snowflake.stream.lineage import Shard
    from airflow_kinesis_snowflake.stream.positions import Position

log = logging.getLogger(__name__)

FORGET_WORKER_MILLIS = 3_600_000
FORGET_SHARDS = 25
ASK_AGAIN_SECONDS = 1.0
MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Acquisition:
    """The result of one look at the state.

    :param readers: shards leased now, each with the position to continue from
    :param takeovers: shards leased now whose last owner didn't release them; to be settled before they are
        read
    :param refused: the readers' shards that can't be read, and why
    :param gaps: shards whose unread records are all gone; the next look reads on after them
    :param missed: the same, if the user doesn't accept the loss: then no new shards are read; also shards
        whose rows contradict Kinesis
    :param surplus: how many shards to hand over to workers that hold less than their share
    :param left_some: shards that need reading weren't taken, because they exceed the fair share, or because
        it isn't clear yet whether the worker that leases them is alive; worth another look
    :param held_by_others: how many shards that need reading each other owner has leased
    :param listed: how many shards Kinesis lists
    """

    readers: tuple[ShardReader, ...]
    takeovers: tuple[Candidate, ...]
    refused: Mapping[str, TerminalError]
    gaps: tuple[Gap, ...]
    missed: Mapping[str, TerminalError]
    surplus: int
    left_some: bool
    held_by_others: Mapping[str, int]
    listed: int

    @property
    def taken(self) -> list[str]:
        """The shards leased now."""
        return [each.shard_id for each in self.readers] + [each.state.shard_id for each in self.takeovers]


@dataclass(frozen=True)
class Settlement:
    """Shards that were taken over, and what the sink reported about them.

    :param readers: each with the position to continue from
    :param refused: their shards that can't be read, and why
    """

    readers: tuple[ShardReader, ...]
    refused: Mapping[str, TerminalError]


class Absences:
    """Shards that are missing from the list of shards, though they have, or should have, unread records.

    They are considered gone only if a second list, at least a second later, leaves them out as well: giving
    up records for good shouldn't rest on a single response.
    """

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._listed_at = 0.0

    def note(self, shards: Set[str], *, at: float) -> None:
        """Note the shards that a list leaves out.

        :param at: when it was requested, on the monotonic clock
        """
        self._since = {shard_id: self._since.get(shard_id, at) for shard_id in shards}
        self._listed_at = at

    @property
    def confirmed(self) -> frozenset[str]:
        """Shards that were left out twice."""
        until = self._listed_at - ASK_AGAIN_SECONDS
        return frozenset(shard_id for shard_id, since in self._since.items() if since <= until)

    @property
    def doubtful(self) -> bool:
        """Whether some were left out once."""
        return len(self.confirmed) < len(self._since)

    def ask_again(self, *, now: float) -> bool:
        """Whether it is time for the second list."""
        return self.doubtful and now - self._listed_at >= ASK_AGAIN_SECONDS


class Intake:
    """Finds shards for one worker: creates missing state rows, takes leases, reconciles takeovers."""

    def __init__(
        self,
        *,
        source: Source,
        store: StateStore,
        leases: Leases,
        loader: Loader,
        settings: DrainSettings,
        worker: Worker,
        writers: DaemonThreads,
    ) -> None:
        self._runtime = writers.runtime
        self._source = source
        self._store = store
        self._leases = leases
        self._loader = loader
        self._settings = settings
        self._worker = worker
        self._writers = writers
        self.is_new = False
        self._facts: StreamFacts
        self._began: tuple[float, int]
        self._drain_until: int
        self._listed: tuple[Shard, ...] = ()
        self._by_id: Mapping[str, Shard] = {}
        self._gone: frozenset[str] = frozenset()
        self._absences = Absences()
        self._told: frozenset[str] = frozenset()
        self._watch = Watch()
        self._waiting_for: Mapping[str, int] = {}

    def open(self) -> StreamFacts:
        """Check the stream and make sure that the application's table exists.

        On an application's first run, Snowflake is checked too, so that nothing is created in AWS for a drain
        that could never load.
        """
        self._began = self._runtime.monotonic(), self._runtime.wall()
        self._facts = self._source.describe()
        # A shard that was drained up to here has nothing left for this drain.
        self._drain_until = millis(self._settings.stop_at)
        if self._settings.follow_seconds is None:
            self._drain_until = min(self._drain_until, self._latest)
        self.is_new = not self._store.exists()
        if self.is_new:
            self._loader.prepare()
            self._store.create_table()
        return self._facts

    @property
    def clock(self) -> ServiceClock:
        """The clock of Kinesis."""
        return self._facts.clock

    def earliest_at(self, at: float) -> int:
        """A lower bound of the time by the clock of Kinesis (ms) at a moment on the monotonic one."""
        return self.clock.earliest(at)

    def time_at(self, at: float) -> int:
        """The time by the clock of Kinesis (ms) at a moment on the monotonic one, as far as it is known."""
        own = self._runtime.wall() - round((self._runtime.monotonic() - at) * 1000)
        return self.clock.likely(at, own=own)

    def look(self, *, relist: bool, leave_alone: Set[str]) -> Acquisition:
        """Take every shard that this worker should read now.

        :param relist: list the shards in Kinesis again, because one ended, or should have
        :param leave_alone: shards not to take, because this drain has read them or failed to
        """
        state = self._read_state()
        contradicting: Mapping[str, TerminalError] = {}
        if relist or not self._listed or self._absences.ask_again(now=self._runtime.monotonic()):
            self._list(state)
            contradicting = self._contradicting(state)
        state = self._complete(state)
        lost = (self._missed(state) & self._absences.confirmed) - self._told
        gaps = tuple(Gap(shard_id, loaded_until=None, oldest_available=None) for shard_id in sorted(lost))
        unaccepted = gaps if self._settings.on_data_loss == "fail" else ()
        gone = self._gone & self._absences.confirmed
        gone &= {shard_id for shard_id, row in state.shards.items() if not row.ended}
        assignment = assign(
            state,
            readable=(readable(self._listed, progress(state)) | gone) - leave_alone,
            held=self._leases.held,
            worker=self._worker,
            drain_until=self._drain_until,
            now=self._runtime.wall(),
            seen=self._watch.look(state, now=self._runtime.monotonic()),
        )
        elsewhere = self._in_doubt_elsewhere(assignment)
        taken = self._take([each for each in assignment.take if each.state.shard_id not in elsewhere])
        readers = tuple(
            self._reader(each.state, committed=each.state.checkpoint, offset=self._remembered(each))
            for each in taken
            if not each.takeover
        )
        self._log_holders(assignment)
        acquisition = Acquisition(
            readers=readers,
            takeovers=tuple(each for each in taken if each.takeover),
            refused=self._refused(readers),
            gaps=() if unaccepted else gaps,
            missed={
                **{gap.shard_id: self._data_loss(gap) for gap in unaccepted},
                **contradicting,
                **elsewhere,
            },
            surplus=assignment.surplus,
            left_some=len(taken) + len(elsewhere) < len(assignment.take)
            or assignment.left_over > 0
            or assignment.owed > 0
            or assignment.unclear
            or self._absences.doubtful,
            held_by_others=holders(assignment.held_by_others),
            listed=len(self._listed),
        )
        # Not before: what comes now is told before the next look, unless this process dies.
        self._told |= {gap.shard_id for gap in acquisition.gaps}
        return acquisition

    def _list(self, state: StreamState) -> None:
        """List the shards.

        The list is fetched after the rows, so a row that isn't listed belongs to a shard that is gone.
        """
        began = self._runtime.monotonic()
        if self._listed:
            self._check_not_recreated()
        self._listed = self._source.list_shards()
        self._by_id = {shard.shard_id: shard for shard in self._listed}
        self._gone = vanished(self._listed, progress(state))
        self._absences.note(self._gone | self._missed(state), at=began)
        self._forget(state)

    def _check_not_recreated(self) -> None:
        created = self._source.describe().created
        if created != self._facts.created:
            raise self._recreated(created)

    def _recreated(self, created: datetime) -> StreamRecreatedError:
        return StreamRecreatedError(
            "Reset the state with the DAG kinesis_state_reset, method delete_table or rewind: the "
            f"checkpoints of application {self._settings.application_name} belong to a stream "
            f"{self._settings.stream_name} that was deleted; the present one was created at {created}"
        )

    # --- rows ----------------------------------------------------------------------------------------------

    def _read_state(self) -> StreamState:
        state = self._store.read_state(self._settings.stream_name)
        for shard in state.shards.values():
            if shard.stream_arn not in (None, self._facts.arn):
                raise AnotherStreamError(
                    f"Give {self._facts.arn} a separate application: application "
                    f"{self._settings.application_name} has the checkpoints of {shard.stream_arn}"
                )
            if shard.stream_created not in (None, self._stream_created):
                raise self._recreated(self._facts.created)
        for worker, heartbeat in state.workers.items():
            if abs(self._runtime.wall() - heartbeat) > FORGET_WORKER_MILLIS:
                self._store.forget_worker(self._settings.stream_name, worker, heartbeat=heartbeat)
        return state

    @property
    def _stream_created(self) -> int:
        return millis(self._facts.created)

    def _missed(self, state: StreamState) -> frozenset[str]:
        """Shards of which nothing was read and nothing is left."""
        founding = {
            row.shard.shard_id: ShardProgress(row.shard.shard_id, row.shard.parents)
            for row in founding_rows(self._listed, state)
        }
        return missed(self._listed, {**progress(state), **founding})

    def _complete(self, state: StreamState) -> StreamState:
        """Create missing rows, and read the state again if there were any.

        Without rows the children of missed shards stay unread, so the loss shows again next time: they get
        one only after somebody was told.
        """
        state = self._without_orphans(state)
        while missing := missing_rows(self._listed, state, initial=self._initial_position()):
            if not founding_rows(self._listed, state) and not self._missed(state) <= self._told:
                break
            self._create(missing)
            state = self._without_orphans(self._read_state())
        return state

    def _without_orphans(self, state: StreamState) -> StreamState:
        """Withdraw rows that were made in a table that had been deleted since its rows were read."""
        found = orphans(self._listed, state)
        withdrawn = {
            shard_id
            for shard_id in sorted(found, reverse=True)
            if self._store.withdraw_shard(
                self._settings.stream_name, shard_id, incarnation=state.shards[shard_id].incarnation or ""
            )
        }
        if not withdrawn:
            return state
        log.warning(
            "The rows of %d shards of stream %s are withdrawn: the rows of their parents were deleted while "
            "they were made",
            len(withdrawn),
            self._settings.stream_name,
        )
        kept = {shard_id: row for shard_id, row in state.shards.items() if shard_id not in withdrawn}
        return replace(state, shards=kept)

    def _create(self, missing: Iterable[MissingRow]) -> None:
        # One after another: if this dies halfway, no child has a row while its parent has none.
        for row in missing:
            self._store.create_shard(
                self._settings.stream_name,
                row.shard.shard_id,
                start_at=row.start_at,
                parents=row.shard.parents,
                incarnation=self._runtime.new_id(),
                stream_created=self._stream_created,
                stream_arn=self._facts.arn,
                initial_shards=row.initial_shards,
                caught_up_at=row.caught_up_at,
                sink=self._loader.sink,
            )

    def _initial_position(self) -> StartAt:
        """Kinesis refuses a moment in the future by its own clock; ``LATEST`` by our clock may be one.

        The result has no fraction of a second.
        """
        asked = self._settings.initial_position
        now = moment(self.clock.earliest(self._runtime.monotonic()))
        if asked.timestamp is None or asked.timestamp.replace(microsecond=0) <= now:
            return asked
        return StartAt(now)

    def _forget(self, state: StreamState) -> None:
        """Delete rows that no later decision needs, so that a table doesn't grow with every reshard.

        A shard read to its end longer ago than the retention can't be listed any more, so this doesn't rest
        on the list alone: a shard that reappeared without a row might be read again.
        """
        bound = (
            self.clock.earliest(self._runtime.monotonic()) - (self._facts.retention + MARGIN) // MILLISECOND
        )
        forgotten = [
            shard_id
            for shard_id in sorted(forgettable(self._listed, progress(state)))
            if (state.shards[shard_id].last_update or 0) < bound
        ]
        for shard_id in forgotten[:FORGET_SHARDS]:
            self._store.forget_shard(self._settings.stream_name, shard_id)

    # --- leases --------------------------------------------------------------------------------------------

    def _in_doubt_elsewhere(self, assignment: Assignment) -> dict[str, TerminalError]:
        """Shards of which another sink may have committed more than their rows show, and what to do.

        Only a drain with that sink can fence whoever may still commit, and knows which dead letters exist.
        """
        return {
            each.state.shard_id: SinkInDoubtError(
                f"{self._way_out(each.state, others)}. "
                f"An owner of shard {each.state.shard_id} of stream {self._settings.stream_name} "
                "ended without releasing it, and may have committed, or still commit, more than its row shows"
            )
            for each in assignment.take
            if each.takeover and (others := each.state.sinks - {self._loader.sink})
        }

    def _way_out(self, row: ShardState, others: Set[str]) -> str:
        if self._loader.sink in row.sinks:
            return "Run the DAG kinesis_state_reset with the method recover, which asks all sinks"
        return f"Run a drain with sink={min(others)!r} once more before changing the sink"

    def _take(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        def lease(candidate: Candidate) -> Candidate | None:
            start_at = self._start_of_foreign(candidate.state)
            state = self._leases.take(
                candidate.state,
                incarnation=self._runtime.new_id(),
                start_at=start_at,
                stream_arn=self._facts.arn,
            )
            if state is None:
                return None
            if start_at is not None and state.checkpoint is None:
                log.info(
                    "Another consumer started shard %s of %s but saved no checkpoint; it is read from %s on",
                    state.shard_id,
                    self._settings.stream_name,
                    state.start_at,
                )
            # Somebody may have taken it since the rows were read, and left it in doubt.
            return replace(candidate, state=state, takeover=candidate.takeover or state.unsettled)

        return [taken for taken in self._writers.map(lease, candidates) if taken is not None]

    def _start_of_foreign(self, row: ShardState) -> StartAt | None:
        """The start of a row that doesn't contain one, because another consumer created it and no drain has
        taken it.

        The first lease records it, so that a later drain doesn't start later.
        """
        untouched = row.incarnation is None and row.checkpoint is None and row.start_at is None
        return self._initial_position() if untouched else None

    def settle(self, takeovers: Sequence[Candidate]) -> Settlement:
        """Ask the sink, which may have committed more of shards than their rows show.

        Each shard continues from the later of its checkpoint and its offset. A lease that was lost meanwhile
        is detected when the checkpoint is saved.

        :param takeovers: shards that are leased
        """
        log.info("Reading the offsets of %d shards that an owner didn't release", len(takeovers))
        offsets = self._loader.offsets([OffsetKey.of(each.state) for each in takeovers])
        refused: dict[str, TerminalError] = {key.shard_id: error for key, error in offsets.refused.items()}
        readers = []
        for each in takeovers:
            row, key = each.state, OffsetKey.of(each.state)
            offset = offsets.found.get(key)
            found = None if offset is None else offset.position
            if found is None and self._may_have_forgotten(each.last_update):
                refused[row.shard_id] = self._forgotten(row)
            # Don't record an offset that went back in time: the next drain has to notice it too.
            committed = later(found, row.checkpoint)
            remembered = later(found, self._remembered(each))
            if row.shard_id not in refused:
                self._leases.save(row.shard_id, committed, millis_behind=None, offset=remembered)
            readers.append(
                self._reader(
                    row,
                    committed=committed,
                    offset=remembered,
                    refused=row.shard_id in refused,
                    letters=offsets.dead_letters.get(key),
                    taken_over=True,
                )
            )
        return Settlement(tuple(readers), {**self._refused(readers), **refused})

    def _reader(
        self,
        row: ShardState,
        *,
        committed: Position | None,
        offset: Position | None,
        refused: bool = False,
        letters: Position | None = None,
        taken_over: bool = False,
    ) -> ShardReader:
        """A reader for a leased shard."""
        return ShardReader(
            row,
            committed=committed,
            offset=offset,
            shard=self._by_id.get(row.shard_id),
            refused=refused,
            letters=letters,
            taken_over=taken_over,
            others_until=self._believed(row.others_until),
        )

    def _remembered(self, candidate: Candidate) -> Position | None:
        """What the sink certainly has of a shard, if the row tells and the sink hasn't forgotten it.

        A row is written by drains that find nothing too, and by other sinks, so its own time doesn't tell.
        """
        row, sink = candidate.state, self._loader.sink
        committed_at = row.committed_at.get(sink, 0)
        return None if self._may_have_forgotten(committed_at) else row.committed_by(sink)

    def _may_have_forgotten(self, at: int | None) -> bool:
        """Whether the sink may have forgotten what was committed at a moment (ms), and nothing since."""
        memory = self._loader.memory_millis
        return memory is not None and at is not None and self._runtime.wall() - at > memory

    def _forgotten(self, row: ShardState) -> CorruptStateError:
        return CorruptStateError(
            f"Compare the last records of shard {row.shard_id} of stream {self._settings.stream_name} with "
            "the landing table, and rewind the shard to where they end: DAG kinesis_state_reset. Its "
            "last owner ended without releasing it so long ago that Snowflake has forgotten what it had "
            "committed"
        )

    def _believed(self, others_until: int | None) -> datetime | None:
        """When another consumer last wrote a shard's row, if records that arrived since still exist."""
        if others_until is None or not 0 <= others_until <= self._latest:
            return None
        until = moment(others_until)
        return None if self.may_have_aged_out(until) else until

    def may_have_aged_out(self, until: datetime | None) -> bool:
        """Whether records that arrived after a moment may have exceeded the stream's retention by now."""
        return may_have_aged_out(until, retention=self._facts.retention, now=self._now)

    @property
    def _now(self) -> datetime:
        """The latest possible time by the clock of Kinesis."""
        return moment(self._latest)

    @property
    def _latest(self) -> int:
        """The same in milliseconds since the epoch.

        While a machine is suspended its monotonic clock may stand still, and its wall clock may be wrong at
        any time: what has passed since the beginning is what either of them says, whichever is more.
        """
        at = self._runtime.monotonic()
        monotonic, wall = self._began
        stood_still = self._runtime.wall() - wall - round((at - monotonic) * 1000)
        return self.clock.latest(at) + max(0, stood_still)

    def _refused(self, readers: Iterable[ShardReader]) -> Mapping[str, TerminalError]:
        refused: dict[str, TerminalError] = {}
        for reader in readers:
            if reader.shard is None or reader.committed is None:
                continue
            doubt = why_foreign(reader.committed, reader.shard, now=self._now)
            if doubt is None:
                continue
            what = (
                f"The checkpoint of {reader.shard_id} of stream {self._settings.stream_name} in application "
                f"{self._settings.application_name} {doubt}"
            )
            if doubt.certain:
                refused[reader.shard_id] = ForeignCheckpointError(
                    f"Rewind this shard with the DAG kinesis_state_reset. {what}"
                )
            else:
                log.warning("%s. Checking with Kinesis whether it is known", what)
        return refused

    def _data_loss(self, gap: Gap) -> DataLossError:
        return data_loss(gap, stream_name=self._settings.stream_name)

    def _contradicting(self, state: StreamState) -> dict[str, TerminalError]:
        """Shards whose rows no drain can have written, and why."""
        rows = [(state.shards[each.shard_id], each) for each in self._listed if each.shard_id in state.shards]
        return {
            row.shard_id: CorruptStateError(
                "Rewind this shard to where it should continue, with the DAG kinesis_state_reset. The row "
                f"of shard {row.shard_id} of stream {self._settings.stream_name} in application "
                f"{self._settings.application_name} {why}, so its records aren't loaded"
            )
            for row, shard in rows
            if (why := contradiction(row, shard, now=self._runtime.wall()))
        }

    def _log_holders(self, assignment: Assignment) -> None:
        """Log whose shards an idle drain is waiting for, once for each change."""
        waiting_for = {} if self._leases.held else holders(assignment.held_by_others)
        if waiting_for and waiting_for != self._waiting_for:
            log.info(
                "%d shards of stream %s are leased by others: %s",
                len(assignment.held_by_others),
                self._settings.stream_name,
                describe_holders(assignment.held_by_others, now=self._runtime.wall()),
            )
        self._waiting_for = waiting_for


def data_loss(gap: Gap, *, stream_name: str) -> DataLossError:
    """The error for a gap that the user doesn't accept."""
    return DataLossError(
        f"Run once with on_data_loss='warn' to continue without them: stream {stream_name} may no longer "
        "have "
        f"{gap}. Nothing after the gap was loaded"
    )
