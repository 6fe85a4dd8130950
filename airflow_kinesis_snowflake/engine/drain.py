"""One drain, from checkpoints to checkpoints."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from math import inf
from queue import Empty
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from airflow_kinesis_snowflake.engine.batch import Batch
from airflow_kinesis_snowflake.engine.fetching import Fetching, PageArrived
from airflow_kinesis_snowflake.engine.intake import Intake, data_loss
from airflow_kinesis_snowflake.engine.leases import Leases
from airflow_kinesis_snowflake.engine.loading import Loaded, Loader
from airflow_kinesis_snowflake.engine.ports import SinkContext
from airflow_kinesis_snowflake.engine.progress import ProgressLine
from airflow_kinesis_snowflake.engine.reader import Fetched, Finish, PageSource, ShardReader
from airflow_kinesis_snowflake.engine.report import (
    DrainReport,
    ShardReport,
    beginning,
    dead_letters,
    megabytes,
    summary,
)
from airflow_kinesis_snowflake.engine.retries import Retries
from airflow_kinesis_snowflake.engine.runtime import MACHINE
from airflow_kinesis_snowflake.engine.threads import DaemonThreads
from airflow_kinesis_snowflake.exceptions import (
    DrainStoppedError,
    KinesisSnowflakeError,
    TransientError,
)
from airflow_kinesis_snowflake.stream.times import millis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Set
    from concurrent.futures import Future
    from pathlib import Path

    from airflow_kinesis_snowflake.engine.ports import SinkSettings, Source, StateStore
    from airflow_kinesis_snowflake.engine.runtime import Queue, Runtime
    from airflow_kinesis_snowflake.engine.settings import DrainSettings, Worker
    from airflow_kinesis_snowflake.stream.positions import Position
    from airflow_kinesis_snowflake.stream.retention import Gap

log = logging.getLogger(__name__)
T = TypeVar("T")

WRITERS = 16
TICK_SECONDS = 0.25
LOOK_AGAIN_SECONDS = 1.0
REVIEW_SECONDS = 10.0
LOAD_GRACE_SECONDS = 2.5
LEAVE_GRACE_SECONDS = 2.0


@dataclass(frozen=True)
class LoadEnded:
    """A load ended, well or not."""

    result: Future[Loaded]


class Drain:
    """Reads every shard this worker can lease up to the stop, and loads what it reads.

    One thread coordinates: it alone touches readers and the open batch, and decides. Others call: fetchers
    read and encode pages, one loader loads batches in order, writers write state rows, and one thread renews
    the leases. At any time at most one batch is being loaded and one being filled; while both are full,
    reading pauses.

    :param settings: what to do
    :param worker: who does it
    :param source: the stream
    :param store: the application's checkpoints
    :param sink: where to load
    :param on_progress: gets how far the drain is, every few seconds and on a thread of its own, as
        :class:`~airflow_kinesis_snowflake.engine.progress.Progress` says it; what it raises does no harm
    :param runtime: its clocks, threads and chance
    """

    def __init__(
        self,
        settings: DrainSettings,
        *,
        worker: Worker,
        source: Source,
        store: StateStore,
        sink: SinkSettings,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
        runtime: Runtime = MACHINE,
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._source = source
        self._stop_at = millis(settings.stop_at)
        self._stop_asked = False
        self._stopping = runtime.event()
        self._events: Queue[PageArrived | LoadEnded | None] = runtime.queue()
        self._writers = DaemonThreads(WRITERS, name="state", runtime=runtime)
        self._loading = DaemonThreads(1, name="load", runtime=runtime)
        self._leases = Leases(store, settings.stream_name, worker, sink=sink.name, runtime=runtime)
        retries = Retries(runtime, self._stopping)
        context = SinkContext(
            stream_name=settings.stream_name,
            application_name=settings.application_name,
            claims=self._leases,
            read_again=source.read_again,
            max_dead_letters=settings.max_dead_letters,
            writers=self._writers,
            retries=retries,
            stopping=self._stopping,
        )
        self._sink = sink.open(context)
        self._began = runtime.monotonic()
        self._follow_until = self._began + (settings.follow_seconds or -inf)
        self._limits = settings.limits(self._sink.limits)
        pages = PageSource(
            source,
            self._sink.encoder,
            stop_at=self._stop_at,
            own_hash_keys_only=settings.own_hash_keys_only,
            follow_until=self._follow_until,
            runtime=runtime,
        )
        self._fetching = Fetching(pages, self._events.put, runtime=runtime)
        self._loader = Loader(
            self._sink,
            leases=self._leases,
            settings=settings,
            writers=self._writers,
            retries=retries,
        )
        self._intake = Intake(
            source=source,
            store=store,
            leases=self._leases,
            loader=self._loader,
            settings=settings,
            worker=worker,
            writers=self._writers,
        )
        self._readers: dict[str, ShardReader] = {}
        self._failures: dict[str, KinesisSnowflakeError] = {}
        self._batch: Batch | None = None
        self._loading_batch: Batch | None = None
        self._load: Future[Loaded] | None = None
        self._look, self._relist, self._left_some = True, True, False
        self._review_at = 0.0
        self._told_beginning = False
        self._records_read = self._bytes_read = 0
        self._progress = ProgressLine(settings, began=self._began, push=on_progress, runtime=runtime)
        self.report = DrainReport(
            stream_name=settings.stream_name,
            application_name=settings.application_name,
            table=self._sink.table,
            worker=worker.id,
        )

    def stop(self) -> None:
        """Make :meth:`run` give up what isn't committed and raise; safe in a signal handler."""
        # No Event here: its lock may be held by the very thread that the signal interrupts.
        self._stop_asked = True
        self._events.put(None)

    def run(self) -> DrainReport:
        """Drain the stream.

        :return: the report; everything in it is committed and checkpointed
        :raises DrainStoppedError: :meth:`stop` was called; leases are released
        :raises KinesisSnowflakeError: an error that no shard can go on after; or the first error of a shard,
            after all other shards were drained
        """
        # Arrow's own allocators keep more of what they once used, a part of it for each thread.
        pa.set_memory_pool(pa.system_memory_pool())
        with self._sink.workspace() as folder:
            try:
                self.report.stream_arn = self._call(self._intake.open).arn
                self._call(self._leases.join)
                self._cycle(folder)
            finally:
                self._leave()
        self.report.seconds = round(self._runtime.monotonic() - self._began, 3)
        log.info(summary(self.report))
        if self._failures:
            raise self._combined_failure()
        return self.report

    # --- the cycle -----------------------------------------------------------------------------------------

    def _cycle(self, folder: Path) -> None:
        while True:
            self._check_stop()
            self._drop_lost()
            self._release_finished()
            now = self._runtime.monotonic()
            closing = self._closing(now)
            if now >= self._review_at:
                self._look, self._review_at = True, now + REVIEW_SECONDS
            if self._look and not closing:
                self._admit()
            if self._nothing_left(now, closing=closing):
                return
            reading = not closing and not self._congested(now)
            if reading:
                self._fetching.request_due(now)
            self._load_if_due(now, closing=closing)
            self._progress.tell(
                self._readers.values(), records=self._records_read, total_bytes=self._bytes_read, now=now
            )
            self._handle_next_event(folder, until=self._fetching.next_due() if reading else inf)

    def _closing(self, now: float) -> bool:
        """Whether a limit says to begin no further reading."""
        limits = self._settings
        return (limits.max_seconds is not None and now - self._began >= limits.max_seconds) or (
            limits.max_records is not None and self._records_read >= limits.max_records
        )

    def _congested(self, now: float) -> bool:
        """Whether reading must pause: one batch is being loaded and the next one is full."""
        return self._load is not None and self._batch is not None and self._batch.full(now=now)

    def _nothing_left(self, now: float, *, closing: bool) -> bool:
        if self._load is not None or self._batch is not None:
            return False
        if closing:
            return self._fetching.under_way == 0
        return now >= self._follow_until and not self._readers and not self._look and not self._left_some

    def _check_stop(self) -> None:
        if self._stop_asked:
            self._stopping.set()
            raise DrainStoppedError(
                f"The drain of stream {self._settings.stream_name} was told to stop. {self.report.records} "
                f"records are committed; the next run goes on after them"
            )

    def _call(self, call: Callable[[], T]) -> T:
        """Run a call on a thread, so that a stop doesn't have to wait for it."""
        future = self._writers.submit(call)
        while not self._runtime.wait([future], timeout=TICK_SECONDS):
            self._check_stop()
        return future.result()

    def _handle_next_event(self, folder: Path, *, until: float) -> None:
        """Wait for an event, at most until a moment on the monotonic clock."""
        wait = min(TICK_SECONDS, max(0.0, until - self._runtime.monotonic()) + 0.001)
        try:
            event = self._events.get(timeout=wait)
        except Empty:
            return
        if isinstance(event, PageArrived):
            if self._fetching.arrived(event, now=self._runtime.monotonic()):
                self._page_arrived(event, folder)
        elif isinstance(event, LoadEnded):
            self._load_ended(event)

    # --- shards --------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Look for shards to read, and plan their first pages."""
        relist, self._relist, self._look = self._relist, False, False
        read = {shard for shard, done in self.report.shards.items() if done.outcome == Finish.CAUGHT_UP}
        leave_alone = self._failures.keys() | read
        intaken = self._call(lambda: self._intake.look(relist=relist, leave_alone=leave_alone))
        if not self._told_beginning:
            self._told_beginning = True
            log.info(
                beginning(
                    self._settings, self.report, intaken, is_new=self._intake.is_new, sink=self._sink.name
                )
            )
        self.report.takeovers += intaken.takeovers
        self.report.held_by_others = dict(intaken.held_by_others)
        self._left_some = intaken.left_some
        for gap in intaken.gaps:
            self._warn_of(gap)
        for shard_id, error in intaken.missed.items():
            if shard_id not in self._failures:
                log.error("%s", error)
            self._failures[shard_id] = error
        for reader in intaken.readers:
            self._readers[reader.shard_id] = reader
            self.report.shards.setdefault(reader.shard_id, ShardReport())
            if reader.shard_id in intaken.refused:
                self._fail(reader, intaken.refused[reader.shard_id])
            else:
                self._fetching.plan(reader)
        self._hand_over(intaken.surplus)
        if not self._readers and (self._left_some or self._runtime.monotonic() < self._follow_until):
            self._review_at = self._runtime.monotonic() + LOOK_AGAIN_SECONDS

    def _hand_over(self, count: int) -> None:
        """Stop reading some shards for workers that have fewer; first those with nothing read."""
        batch = self._batch.spans.keys() if self._batch else ()
        reading = [reader for reader in self._readers.values() if reader.finish is None]
        reading.sort(key=lambda reader: reader.shard_id in batch)
        for reader in reading[:count]:
            log.info("Handing over shard %s of stream %s", reader.shard_id, self._settings.stream_name)
            reader.give_up(Finish.HANDED_OVER)

    def _warn_of(self, gap: Gap) -> None:
        log.warning("Data loss in stream %s: %s may be gone", self._settings.stream_name, gap)
        self.report.gaps.append(gap.as_dict())

    def _release_finished(self) -> None:
        """Release shards that are read and committed, so that others may take them or their children."""
        finished = [reader for reader in self._readers.values() if reader.finish and self._settled(reader)]
        if not finished:
            return
        self._call(self._give_up(finished))
        if any(reader.finish is Finish.ENDED for reader in finished):
            self._look = self._relist = True
        elif not self._readers and self._left_some:
            self._look = True

    def _settled(self, reader: ShardReader) -> bool:
        """Whether everything read of a shard is committed."""
        return not any(
            batch and reader.shard_id in batch.spans for batch in (self._batch, self._loading_batch)
        )

    def _give_up(self, readers: list[ShardReader]) -> Callable[[], object]:
        """Forget readers.

        :return: releases their leases, with what is known of them now; on any thread
        """
        in_doubt = self._loader.in_doubt
        facts = {
            reader.shard_id: {
                "ended": reader.finish is Finish.ENDED and self._settled(reader),
                "unsettled": reader.in_doubt or reader.shard_id in in_doubt,
                "millis_behind": reader.millis_behind,
                "caught_up_at": reader.caught_up_at if self._settled(reader) else None,
            }
            for reader in readers
        }
        for reader in readers:
            self._readers.pop(reader.shard_id, None)
            if reader.finish is not None and self._settled(reader):
                self.report.shards[reader.shard_id].outcome = reader.finish.value
        return lambda: self._writers.map(
            lambda shard_id: self._leases.release(shard_id, **facts[shard_id]), list(facts)
        )

    def _drop_lost(self) -> None:
        """Give up shards whose lease was lost."""
        lost = self._leases.drop_lost()
        if lost:
            self._drop(lost)

    def _drop(self, lost: Set[str]) -> None:
        """Give up shards and what was read of them; others of the open batch are read again.

        Whoever has them now may give them back before they are read.
        """
        self._look = True
        if self._batch is not None and not self._batch.spans.keys().isdisjoint(lost):
            self._abandon_batch()
            self._rewind({shard: reader.handed for shard, reader in self._readers.items()})
        for shard_id in sorted(self._readers.keys() & lost):
            log.warning("The lease of shard %s of stream %s was lost", shard_id, self._settings.stream_name)
            self._readers.pop(shard_id).give_up(Finish.FAILED)
            self.report.shards[shard_id].outcome = "lost"
            self.report.lost_leases += 1

    # --- reading -------------------------------------------------------------------------------------------

    def _page_arrived(self, event: PageArrived, folder: Path) -> None:
        reader = event.reader
        try:
            page = event.result.result()
        except TransientError as error:
            self._back_off(reader, error)
        except KinesisSnowflakeError as error:
            self._fail(reader, error)
        else:
            if page.gap is not None and self._settings.on_data_loss == "fail":
                self._fail(reader, data_loss(page.gap, stream_name=self._settings.stream_name))
                return
            if page.gap is not None:
                self._warn_of(page.gap)
            self._accept(reader, page, folder)
            self._log_end_of_stall(reader)
            caught_up_at = min(self._intake.time_at(page.as_of), self._stop_at)
            reader.accept(page, caught_up_at=caught_up_at)
            if page.at_tip and self._settled(reader):
                self._leases.note(
                    reader.shard_id, millis_behind=page.millis_behind, caught_up_at=caught_up_at
                )
            self.report.shards[reader.shard_id].millis_behind_latest = page.millis_behind
            if reader.finish is None:
                self._fetching.plan(reader)

    def _back_off(self, reader: ShardReader, error: TransientError) -> None:
        now = self._runtime.monotonic()
        if not reader.back_off(error, now=now):
            self._fail(reader, error)
            return
        if reader.begins_to_stall():
            log.warning(
                "Shard %s of stream %s can't be read now, the next try is in %.0f s: %s",
                reader.shard_id,
                self._settings.stream_name,
                reader.due - now,
                error,
            )
        self._fetching.plan(reader)

    def _log_end_of_stall(self, reader: ShardReader) -> None:
        seconds = reader.stalled_for(self._runtime.monotonic())
        if seconds is not None:
            log.info(
                "Shard %s of stream %s goes on after %.0f s",
                reader.shard_id,
                self._settings.stream_name,
                seconds,
            )

    def _accept(self, reader: ShardReader, page: Fetched, folder: Path) -> None:
        if page.reached is None:
            return
        if self._batch is None:
            self._batch = Batch(self._sink.begin, folder, limits=self._limits, runtime=self._runtime)
        self._batch.add(reader, page, now=self._runtime.monotonic())
        self._records_read += page.records
        self._bytes_read += page.bytes

    def _fail(self, reader: ShardReader, error: KinesisSnowflakeError) -> None:
        log.error("%s (shard %s of stream %s)", error, reader.shard_id, self._settings.stream_name)
        reader.give_up(Finish.FAILED)
        self._failures[reader.shard_id] = error

    def _combined_failure(self) -> KinesisSnowflakeError:
        first, *others = self._failures.values()
        for other in others:
            first.add_note(str(other))
        return first

    # --- loading -------------------------------------------------------------------------------------------

    def _load_if_due(self, now: float, *, closing: bool) -> None:
        batch = self._batch
        if batch is None or self._load is not None:
            return
        finishes = {reader.finish for reader in self._readers.values()}
        read_out = None not in finishes or (closing and self._fetching.under_way == 0)
        # Children wait for the end of their parents, other workers for shards that are handed over.
        awaited = not finishes.isdisjoint((Finish.ENDED, Finish.HANDED_OVER))
        if not (batch.full(now=now) or read_out or awaited):
            return
        for shard_id, span in batch.spans.items():
            reader = self._readers[shard_id]
            reader.handed, span.offset = span.reached, reader.offset
        self._batch, self._loading_batch = None, batch
        self._load = self._loading.submit(self._loader.load, batch)
        self._load.add_done_callback(lambda result: self._events.put(LoadEnded(result)))

    def _load_ended(self, event: LoadEnded) -> None:
        self._load = None
        loaded = event.result.result()
        self._loading_batch = None
        if loaded.committed:
            self._count(loaded)
        else:
            self._abandon_batch()
            self._rewind({shard: reader.committed for shard, reader in self._readers.items()})
            self._go_on_after(loaded.ahead)
            for shard_id, error in loaded.refused.items():
                if shard_id in self._readers:
                    self._fail(self._readers[shard_id], error)

    def _count(self, loaded: Loaded) -> None:
        for shard_id, span in loaded.batch.spans.items():
            self.report.count(span)
            if reader := self._readers.get(shard_id):
                reader.committed = span.reached
                reader.offset = loaded.offsets.get(shard_id, reader.offset)
        self.report.batches += 1
        self.report.rejected_rows += loaded.rejected
        log.info(
            "Batch %s of %d shards: %d records, %s loaded into %s in %.1f s",
            loaded.batch.id,
            len(loaded.batch.spans),
            sum(span.records for span in loaded.batch.spans.values()),
            megabytes(sum(span.bytes for span in loaded.batch.spans.values())),
            self._sink.table,
            loaded.seconds,
        )
        if loaded.batch.refused:
            log.warning("%s", dead_letters(loaded.batch, stream_name=self._settings.stream_name))

    def _go_on_after(self, ahead: Mapping[str, Position]) -> None:
        """Continue shards after what another worker committed, as far as they are still ours."""
        if not ahead:
            return
        self.report.fenced += 1
        log.warning(
            "Offsets of %d shards moved on while a batch was under way; it was rolled back: %s",
            len(ahead),
            ", ".join(sorted(ahead)),
        )

        def save() -> list[bool]:
            return [
                self._leases.save(shard, position, millis_behind=None, offset=position)
                for shard, position in ahead.items()
            ]

        ours = self._call(save)
        for (shard_id, position), still_ours in zip(ahead.items(), ours, strict=True):
            if still_ours and shard_id in self._readers:
                self._readers[shard_id].committed = self._readers[shard_id].offset = position
                self._rewind({shard_id: position})
            else:
                self._drop({shard_id})

    def _abandon_batch(self) -> None:
        """Forget the open batch; its records are read again."""
        if self._batch is not None:
            self._batch.discard()
            self._batch = None

    def _rewind(self, positions: Mapping[str, Position | None]) -> None:
        for shard_id, position in positions.items():
            reader = self._readers[shard_id]
            if reader.read != position:
                reader.rewind(position)
                self._fetching.plan(reader)

    # --- leaving -------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Release what is held and end the threads; never takes longer than a stop may take."""
        self._progress.close()
        with contextlib.ExitStack() as leaving:
            leaving.callback(self._source.close)
            for threads in (self._fetching, self._loading, self._writers):
                leaving.callback(threads.close)
            leaving.callback(self._loading.submit, self._loader.close)
            leaving.callback(self._release_in_time)
            self._finish_load()
        self.report.snowflake_connections = self._sink.connections

    def _finish_load(self) -> None:
        """Wait for a load under way; one that takes too long is cancelled without waiting for that."""
        if self._load is None:
            return
        if not self._runtime.wait([self._load], timeout=LOAD_GRACE_SECONDS):
            log.warning(
                "The load under way is cancelled; should it commit all the same, the next run finds out"
            )
            self._writers.submit(self._loader.cancel)
        elif error := self._load.exception():
            log.warning("The load under way failed: %s", error)
        elif (loaded := self._load.result()).committed:
            self._loading_batch = None
            self._count(loaded)

    def _release_in_time(self) -> None:
        give_back = self._give_up(list(self._readers.values()))
        releasing = self._writers.submit(self._release_all, give_back)
        grace = LEAVE_GRACE_SECONDS if self._stopping.is_set() else None
        if not self._runtime.wait([releasing], timeout=grace):
            log.warning("Leases of stream %s are left to expire", self._settings.stream_name)
        elif error := releasing.exception():
            log.warning("Leases of stream %s are left to expire: %s", self._settings.stream_name, error)

    def _release_all(self, give_back: Callable[[], object]) -> None:
        self._leases.retire()
        try:
            give_back()
            # Leased, but never begun: whether their last owner committed more than it saved wasn't found out.
            self._writers.map(
                lambda shard_id: self._leases.release(shard_id, unsettled=True), self._leases.held
            )
        finally:
            self._leases.leave()
