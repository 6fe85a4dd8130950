"""What one drain does next: events in, commands out.

Like h11 and httpcore, this is sans-I/O: it has no threads, clock or randomness of its own, so a test, a
simulation and :class:`~airflow_kinesis_snowflake.engine.drain.Drain` can all run it.
"""

from __future__ import annotations

import logging
from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.engine import commands as do
from airflow_kinesis_snowflake.engine import events as on
from airflow_kinesis_snowflake.engine.fetching import FETCHERS, Fetching
from airflow_kinesis_snowflake.engine.intake import data_loss
from airflow_kinesis_snowflake.engine.report import ShardReport, beginning, dead_letters, megabytes
from airflow_kinesis_snowflake.engine.status import FINISHED, IllegalTransitionError, Status
from airflow_kinesis_snowflake.exceptions import DrainStoppedError, TransientError
from airflow_kinesis_snowflake.stream.times import millis

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set

    from airflow_kinesis_snowflake.engine.assignment import Candidate
    from airflow_kinesis_snowflake.engine.batch import Batch
    from airflow_kinesis_snowflake.engine.loading import LoadResult
    from airflow_kinesis_snowflake.engine.ports import Cursor
    from airflow_kinesis_snowflake.engine.reader import EncodedPage, ShardReader
    from airflow_kinesis_snowflake.engine.report import DrainReport
    from airflow_kinesis_snowflake.engine.settings import DrainSettings
    from airflow_kinesis_snowflake.exceptions import KinesisSnowflakeError
    from airflow_kinesis_snowflake.stream.positions import Position
    from airflow_kinesis_snowflake.stream.retention import Gap

log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 1.0
REVIEW_SECONDS = 10.0
LOAD_GRACE_SECONDS = 2.5
LEAVE_GRACE_SECONDS = 2.0
# Calls about leases that must not overtake each other.
_ABOUT_LEASES = frozenset((do.Look, do.Save, do.Release))


class Phase(Enum):
    """The phases of a drain, in this order."""

    OPENING = auto()
    DRAINING = auto()
    FINISHING = auto()
    RELEASING = auto()
    OVER = auto()


class Coordinator:
    """Decides what a drain does. It alone touches readers and the open batch.

    At any time at most one batch is being loaded and one being filled; while both are full, reading pauses.
    Looks at the state, releases of leases and saves of others' checkpoints are made one after another, in
    parallel with reading and loading. Takeovers are settled in parallel with everything except looks.

    When it leaves, a load under way gets 2.5 s to end; then all leases are released, after a stop within 2 s,
    or left to expire.

    :param settings: what to do
    :param began: now, on the monotonic clock
    :param begin_batch: creates an empty batch
    :param report: is kept up to date
    :param sink: the name of the sink
    :param pause_seconds: the time from one read of a shard to the next
    """

    def __init__(
        self,
        settings: DrainSettings,
        *,
        began: float,
        begin_batch: Callable[[], Batch],
        report: DrainReport,
        sink: str,
        pause_seconds: float,
    ) -> None:
        self._settings = settings
        self._began = self._now = began
        self._follow_until = began + (settings.follow_seconds or -inf)
        self._stop_at = millis(settings.stop_at)
        self._begin_batch = begin_batch
        self._report = report
        self._sink = sink
        self._fetching = Fetching(pause_seconds)
        self._fetchers = FETCHERS
        self._phase = Phase.OPENING
        self._deadline = inf
        self._stopped = False
        self._error: BaseException | None = None
        self._calls: set[type] = set()
        self._commands: list[do.Command] = []
        self._readers: dict[str, ShardReader] = {}
        self._failures: dict[str, KinesisSnowflakeError] = {}
        self._takeovers: tuple[Candidate, ...] = ()
        self._ahead: dict[str, Position] = {}
        self._releasing: dict[str, do.LastFacts] = {}
        self._batch: Batch | None = None
        self._loading_batch: Batch | None = None
        self._look, self._relist, self._left_some = True, True, False
        self._review_at = -inf
        self._is_new = self._told_beginning = False
        self.records_read = self.bytes_read = 0
        self._reactions: Mapping[type, Callable[[Any], None]] = {
            on.Begun: self._begun,
            on.Opened: self._opened,
            on.Looked: self._looked,
            on.TakenOver: self._taken_over,
            on.PageArrived: self._page_arrived,
            on.PageFailed: self._page_failed,
            on.LoadEnded: self._load_ended,
            on.Saved: self._saved,
            on.Released: self._released,
            on.Left: self._left,
            on.Failed: self._failed,
            on.LeasesLost: self._leases_lost,
            on.StopAsked: self._stop_asked,
            on.Tick: self._ticked,
        }

    @property
    def readers(self) -> Collection[ShardReader]:
        """The shards that are being read or wait to be released; don't change it."""
        return self._readers.values()

    @property
    def phase(self) -> Phase:
        """The phase of the drain."""
        return self._phase

    @property
    def leaving(self) -> bool:
        """Whether no more reads or loads are started."""
        return self._phase not in (Phase.OPENING, Phase.DRAINING)

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do."""
        return self._phase is Phase.OVER

    @property
    def wake_at(self) -> float:
        """When something is due even without an event, on the monotonic clock; infinite: nothing is.

        In a drain under way it is later than the last event, so that whoever waits for it doesn't spin.
        """
        return min(self._due(), default=inf) if self._phase is Phase.DRAINING else self._deadline

    def _due(self) -> Iterator[float]:
        if self._reading:
            yield self._fetching.next_due()
        if self._calls.isdisjoint(_ABOUT_LEASES):
            yield self._review_at
        if self._batch is not None and do.Load not in self._calls:
            yield self._batch.due
        if self._settings.max_seconds is not None and not self._closing:
            yield self._began + self._settings.max_seconds
        if self._now < self._follow_until:
            yield self._follow_until

    @property
    def error(self) -> BaseException | None:
        """The error that ended the drain, once it is over."""
        if self._error is None and self._stopped:
            return DrainStoppedError(
                f"The drain of stream {self._settings.stream_name} was told to stop. {self._report.records} "
                f"records are committed; the next run goes on after them"
            )
        return self._error

    def combined_failure(self) -> KinesisSnowflakeError | None:
        """The first error of a shard, with those of other shards as notes."""
        if not self._failures:
            return None
        first, *others = self._failures.values()
        for other in others:
            first.add_note(str(other))
        return first

    def handle(self, event: on.Event, now: float) -> list[do.Command]:
        """Handle an event, and decide.

        :param now: on the monotonic clock; never less than before
        :return: what to do, in this order; each call is answered by its own event, or by ``Failed``
        """
        self._now = now
        self._reactions[type(event)](event)
        if self._phase is Phase.DRAINING:
            self._go_on()
        if self._phase is Phase.FINISHING:
            self._finish()
        if self._phase is Phase.RELEASING and now >= self._deadline:
            self._leave_leases()
        made, self._commands = self._commands, []
        return made

    def _call(self, command: do.Command) -> None:
        self._calls.add(type(command))
        self._commands.append(command)

    # --- the cycle -----------------------------------------------------------------------------------------

    def _begun(self, _: on.Begun) -> None:
        self._call(do.Open())

    def _opened(self, event: on.Opened) -> None:
        self._calls.remove(do.Open)
        self._report.stream_arn, self._is_new = event.arn, event.is_new
        if self._phase is Phase.OPENING:
            self._phase = Phase.DRAINING

    def _ticked(self, _: on.Tick) -> None:
        """Decide again."""

    def _go_on(self) -> None:
        if self._takeovers:
            self._call(do.Settle(self._takeovers))
            self._takeovers = ()
        if self._calls.isdisjoint(_ABOUT_LEASES):
            self._attend_to_leases()
        if self._nothing_left():
            self._begin_to_leave()
            return
        if self._reading:
            for call in self._fetching.due(self._now):
                self._commands.append(do.Fetch(call, call.reader.request()))
            self._resize()
        self._load_if_due()

    @property
    def _closing(self) -> bool:
        """Whether a limit forbids further reading."""
        limits = self._settings
        return (limits.max_seconds is not None and self._now - self._began >= limits.max_seconds) or (
            limits.max_records is not None and self.records_read >= limits.max_records
        )

    @property
    def _reading(self) -> bool:
        """Whether to ask for pages: not while one batch is being loaded and the next one is full."""
        congested = do.Load in self._calls and self._batch is not None and self._batch.full(now=self._now)
        return self._phase is Phase.DRAINING and not self._closing and not congested

    def _nothing_left(self) -> bool:
        if self._calls or self._ahead or self._batch is not None:
            return False
        if self._closing:
            return self._fetching.under_way == 0
        return self._now >= self._follow_until and not (self._readers or self._look or self._left_some)

    def _resize(self) -> None:
        """Keep some more threads for fetches than there are ongoing fetches."""
        if self._fetchers != self._fetching.threads:
            self._fetchers = self._fetching.threads
            self._commands.append(do.Resize(self._fetchers))

    # --- leases --------------------------------------------------------------------------------------------

    def _attend_to_leases(self) -> None:
        """Save, release or look, whichever is due first."""
        if self._now >= self._review_at:
            self._look, self._review_at = True, self._now + REVIEW_SECONDS
        # Children wait for the release of their parents, other workers for shards that are handed over.
        finished = [
            each for each in self._readers.values() if each.status in FINISHED and self._settled(each)
        ]
        if self._ahead:
            self._call(do.Save(self._ahead))
            self._ahead = {}
        elif finished:
            self._release(finished)
        elif self._look and not self._closing and do.Settle not in self._calls:
            read = {shard for shard, done in self._report.shards.items() if done.outcome == Status.CAUGHT_UP}
            self._call(do.Look(self._relist, self._failures.keys() | read))
            self._look = self._relist = False

    def _looked(self, event: on.Looked) -> None:
        self._calls.remove(do.Look)
        acquisition = event.acquisition
        if not self._told_beginning:
            self._told_beginning = True
            log.info(
                "%s",
                beginning(self._settings, self._report, acquisition, is_new=self._is_new, sink=self._sink),
            )
        self._report.takeovers += len(acquisition.takeovers)
        self._report.held_by_others = dict(acquisition.held_by_others)
        self._left_some = acquisition.left_some
        for gap in acquisition.gaps:
            self._warn_of(gap)
            self._look = True
        for shard_id, error in acquisition.missed.items():
            if shard_id not in self._failures:
                log.error("%s", error)
            self._failures[shard_id] = error
        self._takeovers = acquisition.takeovers
        self._adopt(acquisition.readers, acquisition.refused, held=event.held)
        self._hand_over(acquisition.surplus)
        if not self._takeovers:
            self._look_again_soon()

    def _taken_over(self, event: on.TakenOver) -> None:
        self._calls.remove(do.Settle)
        self._adopt(event.settled.readers, event.settled.refused, held=event.held)
        self._look_again_soon()

    def _look_again_soon(self) -> None:
        """Look again in a second while there is nothing to read and somebody may let go of a shard."""
        if not self._readers and (self._left_some or self._now < self._follow_until):
            self._review_at = self._now + LOOK_AGAIN_SECONDS

    def _adopt(
        self,
        readers: Iterable[ShardReader],
        refused: Mapping[str, KinesisSnowflakeError],
        *,
        held: Set[str],
    ) -> None:
        """Start reading shards."""
        for reader in readers:
            if reader.shard_id in self._readers:
                raise IllegalTransitionError(f"Please report this bug: {reader.shard_id} was taken twice")
            self._readers[reader.shard_id] = reader
            self._report.shards.setdefault(reader.shard_id, ShardReport())
            if reader.shard_id not in held:
                self._drop({reader.shard_id})
            elif reader.shard_id in refused:
                self._fail(reader, refused[reader.shard_id])
            else:
                self._fetching.plan(reader)

    def _hand_over(self, count: int) -> None:
        """Stop reading some shards for workers that have fewer; first those with nothing read."""
        batch = self._batch.spans.keys() if self._batch else ()
        reading = [reader for reader in self._readers.values() if reader.status is Status.READING]
        reading.sort(key=lambda reader: reader.shard_id in batch)
        for reader in reading[:count]:
            log.info("Handing over shard %s of stream %s", reader.shard_id, self._settings.stream_name)
            self._close(reader.leave_off(Status.HANDED_OVER))

    def _warn_of(self, gap: Gap) -> None:
        log.warning("Data loss in stream %s: %s may be gone", self._settings.stream_name, gap)
        self._report.gaps.append(gap.as_dict())

    def _release(self, readers: list[ShardReader]) -> None:
        """Release shards that are read and committed, so that others can take them or their children."""
        if any(reader.status is Status.ENDED for reader in readers):
            self._look = self._relist = True
        self._releasing = self._part_with(readers)
        self._call(do.Release(self._releasing))
        if not self._readers and self._left_some:
            self._look = True

    def _released(self, _: on.Released) -> None:
        self._calls.remove(do.Release)
        self._releasing = {}

    def _part_with(self, readers: list[ShardReader]) -> dict[str, do.LastFacts]:
        """Forget readers; return what is known about them now."""
        facts = {}
        for reader in readers:
            settled = self._settled(reader)
            if settled and (reader.status is Status.ENDED or reader.at_tip):
                reader.note_all_committed()
            facts[reader.shard_id] = do.LastFacts(
                ended=reader.status is Status.ENDED and settled,
                # The position of a fenced shard hasn't been saved yet, and a load may still send its rows.
                unsettled=reader.in_doubt or reader.status is Status.FENCED or self._being_loaded(reader),
                millis_behind=reader.millis_behind,
                caught_up_at=reader.caught_up_at if settled else None,
            )
            if reader.status in FINISHED and settled:
                self._report.shards[reader.shard_id].outcome = reader.status.value
            reader.enter(Status.RELEASED)
            del self._readers[reader.shard_id]
        return facts

    def _settled(self, reader: ShardReader) -> bool:
        """Whether everything read of a shard is committed."""
        return not any(
            batch and reader.shard_id in batch.spans for batch in (self._batch, self._loading_batch)
        )

    def _being_loaded(self, reader: ShardReader) -> bool:
        return (
            do.Load in self._calls
            and self._loading_batch is not None
            and reader.shard_id in self._loading_batch.spans
        )

    def _leases_lost(self, event: on.LeasesLost) -> None:
        if not self.leaving:
            self._drop(event.shards)

    def _drop(self, lost: Set[str]) -> None:
        """Drop shards and what was read of them; the others in the open batch are read again.

        Whoever has them now may release them before they are read.
        """
        self._look = True
        if self._batch is not None and not self._batch.spans.keys().isdisjoint(lost):
            self._read_again({shard: reader.handed for shard, reader in self._readers.items()})
        for shard_id in sorted(self._readers.keys() & lost):
            log.warning("The lease of shard %s of stream %s was lost", shard_id, self._settings.stream_name)
            self._close(self._readers.pop(shard_id).leave_off(Status.LOST))
            self._ahead.pop(shard_id, None)
            self._report.shards[shard_id].outcome = Status.LOST.value
            self._report.lost_leases += 1

    # --- reading -------------------------------------------------------------------------------------------

    def _page_arrived(self, event: on.PageArrived) -> None:
        reader, page = event.call.reader, event.page
        wanted = self._fetching.ended(event.call, now=self._now)
        self._resize()
        if not wanted or self.leaving:
            self._close(page.cursor)
            return
        if page.gap is not None:
            if self._settings.on_data_loss == "fail":
                self._close(page.cursor)
                self._fail(reader, data_loss(page.gap, stream_name=self._settings.stream_name))
                return
            self._warn_of(page.gap)
        self._collect(reader, page)
        self._log_end_of_stall(reader)
        caught_up_at = min(event.time, self._stop_at)
        self._close(reader.accept(page, caught_up_at=caught_up_at))
        if page.at_tip and self._settled(reader):
            reader.note_all_committed()
            self._commands.append(do.Note(reader.shard_id, page.millis_behind, caught_up_at))
        self._report.shards[reader.shard_id].millis_behind_latest = page.millis_behind
        if reader.misses_its_end(self._now):
            self._look = self._relist = True
        if reader.status is Status.READING:
            self._fetching.plan(reader)

    def _page_failed(self, event: on.PageFailed) -> None:
        reader, error = event.call.reader, event.error
        wanted = self._fetching.ended(event.call, now=self._now)
        self._resize()
        if not wanted or self.leaving:
            return
        again = isinstance(error, TransientError) and reader.back_off(
            error, now=self._now, chance=event.chance
        )
        if not again:
            self._fail(reader, error)
            return
        if reader.begins_to_stall():
            log.warning(
                "Shard %s of stream %s can't be read now; the next try is in %.0f s: %s",
                reader.shard_id,
                self._settings.stream_name,
                reader.due - self._now,
                error,
            )
        self._fetching.plan(reader)

    def _log_end_of_stall(self, reader: ShardReader) -> None:
        seconds = reader.stalled_for(self._now)
        if seconds is not None:
            log.info(
                "Shard %s of stream %s can be read again after %.0f s",
                reader.shard_id,
                self._settings.stream_name,
                seconds,
            )

    def _collect(self, reader: ShardReader, page: EncodedPage) -> None:
        """Add a page to the open batch."""
        if page.reached is None:
            return
        if self._batch is None:
            self._batch = self._begin_batch()
        self._batch.add(reader, page, now=self._now)
        self.records_read += page.records
        self.bytes_read += page.bytes

    def _fail(self, reader: ShardReader, error: KinesisSnowflakeError) -> None:
        log.error("%s (shard %s of stream %s)", error, reader.shard_id, self._settings.stream_name)
        self._close(reader.leave_off(Status.FAILED))
        self._failures[reader.shard_id] = error

    def _close(self, cursor: Cursor | None) -> None:
        if cursor is not None:
            self._commands.append(do.Close(cursor))

    # --- loading -------------------------------------------------------------------------------------------

    def _load_if_due(self) -> None:
        batch = self._batch
        if batch is None or do.Load in self._calls:
            return
        statuses = {reader.status for reader in self._readers.values()}
        read_out = statuses <= FINISHED or (self._closing and self._fetching.under_way == 0)
        # Children wait for the end of their parents, other workers for shards that are handed over.
        awaited = not statuses.isdisjoint((Status.ENDED, Status.HANDED_OVER))
        if not (batch.full(now=self._now) or read_out or awaited):
            return
        for shard_id, span in batch.spans.items():
            reader = self._readers[shard_id]
            reader.handed, span.offset = span.reached, reader.offset
        self._batch, self._loading_batch = None, batch
        self._call(do.Load(batch))

    def _load_ended(self, event: on.LoadEnded) -> None:
        self._calls.remove(do.Load)
        loaded = event.loaded
        if loaded.committed:
            self._loading_batch = None
            self._count(loaded)
        elif self.leaving:
            # The batch is kept, because nothing of it is committed, of shards that weren't ahead either.
            self._go_on_after(loaded.ahead)
        else:
            self._loading_batch = None
            self._read_again(
                {shard: reader.committed for shard, reader in self._readers.items()},
                of=loaded.batch.spans.keys(),
            )
            self._go_on_after(loaded.ahead)
            for shard_id, error in loaded.refused.items():
                if shard_id in self._readers:
                    self._fail(self._readers[shard_id], error)

    def _count(self, loaded: LoadResult) -> None:
        for shard_id, span in loaded.batch.spans.items():
            self._report.count(span)
            # One that was lost and taken again meanwhile has another start.
            if (reader := self._readers.get(shard_id)) and reader.handed == span.reached:
                reader.committed = span.reached
                if shard_id in loaded.offsets:
                    reader.offset = loaded.offsets[shard_id]
                    reader.outlast_former_owners()
        self._report.batches += 1
        self._report.rejected_rows += loaded.rejected
        log.info(
            "Batch %s of %d shards: %d records, %s loaded into %s in %.1f s",
            loaded.batch.id,
            len(loaded.batch.spans),
            sum(span.records for span in loaded.batch.spans.values()),
            megabytes(sum(span.bytes for span in loaded.batch.spans.values())),
            self._report.table,
            loaded.seconds,
        )
        if loaded.batch.refused:
            log.warning("%s", dead_letters(loaded.batch, stream_name=self._settings.stream_name))

    def _go_on_after(self, ahead: Mapping[str, Position]) -> None:
        """Continue shards after what another worker committed, if they are still ours."""
        if not ahead:
            return
        self._report.fenced += 1
        log.warning(
            "Offsets of %d shards moved on while a batch was under way; it was rolled back: %s",
            len(ahead),
            ", ".join(sorted(ahead)),
        )
        for shard_id in ahead.keys() & self._readers.keys():
            self._ahead[shard_id] = ahead[shard_id]
            self._close(self._readers[shard_id].leave_off(Status.FENCED))

    def _saved(self, event: on.Saved) -> None:
        self._calls.remove(do.Save)
        fenced = [each for each in self._readers.values() if each.status is Status.FENCED]
        for reader in fenced:
            if reader.shard_id in event.positions:
                position = event.positions[reader.shard_id]
                reader.committed = reader.offset = position
                self._rewind(reader, position)
        gone = {reader.shard_id for reader in fenced if reader.status is Status.FENCED} - self._ahead.keys()
        if gone:
            self._drop(gone)

    def _read_again(self, positions: Mapping[str, Position | None], *, of: Set[str] = frozenset()) -> None:
        """Forget the open batch; shards are read again after these positions.

        :param of: shards that are handled separately
        """
        forgotten = set(of)
        if self._batch is not None:
            forgotten |= self._batch.spans.keys()
            self._batch.discard()
            self._batch = None
        for shard_id, position in positions.items():
            reader = self._readers[shard_id]
            # A gap isn't a record, so its page may end where it began.
            if reader.read != position or shard_id in forgotten:
                self._rewind(reader, position)

    def _rewind(self, reader: ShardReader, position: Position | None) -> None:
        self._close(reader.rewind(position))
        self._fetching.plan(reader)

    # --- leaving -------------------------------------------------------------------------------------------

    def _stop_asked(self, _: on.StopAsked) -> None:
        self._stopped = True
        if not self.leaving:
            self._begin_to_leave()
        elif self._phase is Phase.RELEASING:
            self._deadline = min(self._deadline, self._now + LEAVE_GRACE_SECONDS)

    def _failed(self, event: on.Failed) -> None:
        if event.command is not None:
            self._calls.discard(type(event.command))
        if isinstance(event.command, do.Leave):
            self._leave_leases(event.error)
        elif not self.leaving:
            self._error = event.error
            self._begin_to_leave()
        elif isinstance(event.command, do.Load):
            log.warning("The load under way failed: %s", event.error)
        else:
            log.warning("A call under way failed: %s", event.error)

    def _begin_to_leave(self) -> None:
        self._phase = Phase.FINISHING
        self._deadline = self._now + LOAD_GRACE_SECONDS

    def _finish(self) -> None:
        """Wait for what is under way, after a stop only for a load, then release all leases."""
        awaited = self._calls & {do.Load} if self._stopped else self._calls
        if awaited and self._now < self._deadline:
            return
        if do.Load in self._calls:
            log.warning("The load under way is cancelled; if it commits anyway, the next run will find out")
            self._commands.append(do.Cancel())
        self._phase = Phase.RELEASING
        self._deadline = self._now + LEAVE_GRACE_SECONDS if self._stopped else inf
        self._call(do.Leave(self._releasing | self._part_with(list(self._readers.values()))))

    def _left(self, _: on.Left) -> None:
        self._phase = Phase.OVER

    def _leave_leases(self, error: BaseException | None = None) -> None:
        """End with leases left unreleased."""
        self._phase = Phase.OVER
        log.warning(
            "Leases of stream %s are left to expire%s",
            self._settings.stream_name,
            f": {error}" if error else "",
        )
