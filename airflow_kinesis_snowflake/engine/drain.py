"""One drain, from checkpoints to checkpoints."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import asdict
from math import inf
from queue import Empty
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from airflow_kinesis_snowflake.engine import commands as do
from airflow_kinesis_snowflake.engine import events as on
from airflow_kinesis_snowflake.engine.batch import Batch
from airflow_kinesis_snowflake.engine.coordinator import Coordinator
from airflow_kinesis_snowflake.engine.fetching import FETCHERS
from airflow_kinesis_snowflake.engine.intake import Intake
from airflow_kinesis_snowflake.engine.leases import Leases
from airflow_kinesis_snowflake.engine.loading import Loader
from airflow_kinesis_snowflake.engine.ports import SinkContext
from airflow_kinesis_snowflake.engine.progress import ProgressLine
from airflow_kinesis_snowflake.engine.reader import PageSource
from airflow_kinesis_snowflake.engine.report import DrainReport, summary
from airflow_kinesis_snowflake.engine.retries import Retries
from airflow_kinesis_snowflake.engine.runtime import MACHINE
from airflow_kinesis_snowflake.engine.threads import DaemonThreads
from airflow_kinesis_snowflake.exceptions import KinesisSnowflakeError
from airflow_kinesis_snowflake.stream.times import millis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from airflow_kinesis_snowflake.engine.intake import Acquisition
    from airflow_kinesis_snowflake.engine.loading import LoadResult
    from airflow_kinesis_snowflake.engine.ports import SinkSettings, Source, StateStore
    from airflow_kinesis_snowflake.engine.runtime import Queue, Runtime
    from airflow_kinesis_snowflake.engine.settings import DrainSettings, Worker
    from airflow_kinesis_snowflake.stream.facts import StreamFacts
    from airflow_kinesis_snowflake.stream.positions import Position

log = logging.getLogger(__name__)
T = TypeVar("T")

WRITERS = 16
LOOK_GRACE_SECONDS = 1.0
# Lost leases and slow calls are noticed within this; all else has its own moment or wakes the drain.
TICK_SECONDS = 1.0


class Drain:
    """Reads every shard this worker can lease up to the stop, and loads what it reads.

    One thread coordinates. It runs a
    :class:`~airflow_kinesis_snowflake.engine.coordinator.Coordinator`, which makes the decisions, and waits
    only for the next event. Others make the calls: fetchers read and encode pages, one loader loads batches
    in order, writers read and write state rows, and one thread renews the leases.

    :param settings: what to do
    :param worker: who does it
    :param source: the stream
    :param store: the application's checkpoints
    :param sink: where to load
    :param on_progress: receives the progress of the drain every few seconds, on a thread of its own, as
        :class:`~airflow_kinesis_snowflake.engine.progress.Progress` object; its exceptions are harmless
    :param runtime: its clocks, threads and randomness
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
        self._stop_asked = False
        self._looking: Future[Acquisition] | None = None
        self._stopping = runtime.event()
        # Completed calls, each with a function that turns its result into an event; None wakes the thread.
        self._ended: Queue[Callable[[], on.Event] | None] = runtime.queue()
        self._writers = DaemonThreads(WRITERS, name="state", runtime=runtime)
        self._loading = DaemonThreads(1, name="load", runtime=runtime)
        self._fetchers = DaemonThreads(FETCHERS, name="fetch", runtime=runtime)
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
        self._pages = PageSource(
            source,
            self._sink.encoder,
            stop_at=millis(settings.stop_at),
            own_hash_keys_only=settings.own_hash_keys_only,
            follow_until=self._began + (settings.follow_seconds or -inf),
            may_have_aged_out=self._intake.may_have_aged_out,
            earliest=self._intake.earliest_at,
            runtime=runtime,
        )
        self._progress = ProgressLine(settings, began=self._began, push=on_progress, runtime=runtime)
        self.report = DrainReport(
            stream_name=settings.stream_name,
            application_name=settings.application_name,
            table=self._sink.table,
            worker=worker.id,
        )
        self._folder: Path
        self._coordinator = Coordinator(
            settings,
            began=self._began,
            begin_batch=self._begin_batch,
            report=self.report,
            sink=self._sink.name,
            pause_seconds=source.pause_seconds,
        )
        self._carry_out: Mapping[type, Callable[[Any], object]] = {
            do.Open: self._open,
            do.Look: self._look,
            do.Settle: self._settle,
            do.Fetch: self._fetch,
            do.Load: self._load,
            do.Save: self._save,
            do.Release: self._release,
            do.Leave: self._leave,
            do.Note: self._note,
            do.Resize: lambda command: self._fetchers.resize(command.fetchers),
            do.Close: lambda command: command.cursor.close(),
            do.Cancel: lambda _: self._writers.submit(self._loader.cancel),
        }

    def stop(self) -> None:
        """Make :meth:`run` abandon what isn't committed and raise; safe in a signal handler."""
        # Not an Event: the thread that the signal interrupts may hold its lock.
        self._stop_asked = True
        self._ended.put(None)

    def run(self) -> DrainReport:
        """Drain the stream.

        :return: the report; everything in it is committed and checkpointed
        :raises DrainStoppedError: :meth:`stop` was called; leases are released
        :raises KinesisSnowflakeError: an error that stops all shards; or the first error of a shard,
            after all other shards were drained
        """
        # Arrow's own allocators keep more of the memory they once used, some of it per thread.
        pa.set_memory_pool(pa.system_memory_pool())
        with self._sink.workspace() as self._folder, contextlib.ExitStack() as leaving:
            leaving.callback(self._source.close)
            for threads in (self._fetchers, self._loading, self._writers):
                leaving.callback(threads.close)
            leaving.callback(self._loading.submit, self._loader.close)
            self._coordinate()
        if self._coordinator.error is not None:
            raise self._coordinator.error
        self.report.seconds = round(self._runtime.monotonic() - self._began, 3)
        log.info("%s", summary(self.report))
        if (failure := self._coordinator.combined_failure()) is not None:
            raise failure
        return self.report

    def _coordinate(self) -> None:
        """Run the coordinator until it is over; leaving takes no longer than a stop may take."""
        try:
            self._handle(on.Begun())
            while not self._coordinator.leaving:
                self._turn()
                self._tell_progress()
        except BaseException as error:
            self._handle(on.Failed(error))
            raise
        finally:
            self._progress.close()
            while not self._coordinator.over:
                self._turn()
            self.report.snowflake_connections = self._sink.connections

    def _turn(self) -> None:
        if self._stop_asked:
            self._stop_asked = False
            self._stopping.set()
            self._handle(on.StopAsked())
        elif not self._coordinator.leaving and (lost := self._leases.drop_lost()):
            self._handle(on.LeasesLost(lost))
        else:
            self._handle(self._next_event())

    def _next_event(self) -> on.Event:
        due_in = max(0.0, self._coordinator.wake_at - self._runtime.monotonic())
        try:
            event = self._ended.get(timeout=min(TICK_SECONDS, due_in + 0.001))
        except Empty:
            return on.Tick()
        return on.Tick() if event is None else event()

    def _handle(self, event: on.Event) -> None:
        for command in self._coordinator.handle(event, self._runtime.monotonic()):
            self._carry_out[type(command)](command)

    def _tell_progress(self) -> None:
        self._progress.tell(
            self._coordinator.readers,
            records=self._coordinator.records_read,
            total_bytes=self._coordinator.bytes_read,
            now=self._runtime.monotonic(),
        )

    def _begin_batch(self) -> Batch:
        limits = self._settings.limits(self._sink.limits)
        return Batch(self._sink.begin, self._folder, limits=limits, runtime=self._runtime)

    # --- calls ---------------------------------------------------------------------------------------------

    def _submit(
        self,
        threads: DaemonThreads,
        command: do.Command,
        call: Callable[[], T],
        event: Callable[[T], on.Event],
    ) -> Future[T]:
        """Make a call on another thread, whose result this one turns into an event; return the call."""

        def made(future: Future[T]) -> on.Event:
            error = future.exception()
            if error is None:
                return event(future.result())
            if isinstance(command, do.Fetch) and isinstance(error, KinesisSnowflakeError):
                return on.PageFailed(command.call, error, self._runtime.random.random())
            return on.Failed(error, command)

        called = threads.submit(call)
        called.add_done_callback(lambda future: self._ended.put(lambda: made(future)))
        return called

    def _open(self, command: do.Open) -> None:
        def call() -> StreamFacts:
            facts = self._intake.open()
            self._leases.join()
            return facts

        self._submit(
            self._writers, command, call, lambda facts: on.Opened(facts.arn, is_new=self._intake.is_new)
        )

    def _look(self, command: do.Look) -> None:
        self._looking = self._submit(
            self._writers,
            command,
            lambda: self._intake.look(relist=command.relist, leave_alone=command.leave_alone),
            lambda acquisition: on.Looked(acquisition, held=self._leases.held),
        )

    def _settle(self, command: do.Settle) -> None:
        self._submit(
            self._writers,
            command,
            lambda: self._intake.settle(command.takeovers),
            lambda settled: on.TakenOver(settled, held=self._leases.held),
        )

    def _fetch(self, command: do.Fetch) -> None:
        self._submit(
            self._fetchers,
            command,
            lambda: self._pages.fetch(command.request),
            lambda page: on.PageArrived(command.call, page, time=self._intake.time_at(page.as_of)),
        )

    def _load(self, command: do.Load) -> None:
        def call() -> LoadResult:
            try:
                return self._loader.load(command.batch)
            finally:
                self._leases.end_load()

        # Not by that thread: a lease may be lost, and taken again, before it begins.
        self._leases.begin_load(command.batch.spans.keys())
        self._submit(self._loading, command, call, on.LoadEnded)

    def _save(self, command: do.Save) -> None:
        def call() -> dict[str, Position]:
            return {
                shard_id: position
                for shard_id, position in command.positions.items()
                if self._leases.save(shard_id, position, millis_behind=None, offset=position)
            }

        self._submit(self._writers, command, call, on.Saved)

    def _release(self, command: do.Release) -> None:
        self._submit(self._writers, command, self._give_back(command.shards), lambda _: on.Released())

    def _leave(self, command: do.Leave) -> None:
        give_back = self._give_back(command.shards)

        def call() -> None:
            self._leases.retire()
            try:
                give_back()
                # Leases that it is taking now are released as soon as they are known.
                if self._looking is not None:
                    self._runtime.wait([self._looking], timeout=LOOK_GRACE_SECONDS)
                # Leased, but never started: it is still unknown whether their last owner committed more than
                # it saved.
                self._writers.map(
                    lambda shard_id: self._leases.release(shard_id, unsettled=True), self._leases.held
                )
            finally:
                self._leases.leave()

        self._submit(self._writers, command, call, lambda _: on.Left())

    def _give_back(self, shards: Mapping[str, do.LastFacts]) -> Callable[[], object]:
        """The arguments for releasing leases, with what the sink knows about their shards now."""
        facts = {
            shard_id: asdict(last) | {"unsettled": last.unsettled or shard_id in self._loader.in_doubt}
            for shard_id, last in shards.items()
        }
        return lambda: self._writers.map(
            lambda shard_id: self._leases.release(shard_id, **facts[shard_id]), list(facts)
        )

    def _note(self, command: do.Note) -> None:
        self._leases.note(
            command.shard_id, millis_behind=command.millis_behind, caught_up_at=command.caught_up_at
        )
