"""One history: a stream that is written to and resharded, drained by workers that die and sleep."""

from __future__ import annotations

import logging
import os
import tempfile
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.engine.drain import Drain
from airflow_kinesis_snowflake.engine.settings import DrainSettings, Worker
from airflow_kinesis_snowflake.exceptions import DrainStoppedError, SinkInDoubtError, TransientError
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.factories import Copy, Landing, Streaming
from airflow_kinesis_snowflake.sources.fan_out import FanOutLimits, FanOutSource
from airflow_kinesis_snowflake.sources.polling import PollingSource
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position
from airflow_kinesis_snowflake.stream.times import moment
from tests.simulation.channels import SimulatedChannels, StreamingServer
from tests.simulation.dynamodb import SimulatedStore, Table
from tests.simulation.kinesis import SimulatedFanOut, SimulatedKinesis, Stream
from tests.simulation.machine import Machine
from tests.simulation.scheduler import Scheduler, Signal
from tests.simulation.snowflake import Server, SimulatedSnowflake
from tests.simulation.weather import Weather

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_kinesis_snowflake.engine.ports import SinkSettings, Source
    from airflow_kinesis_snowflake.engine.report import DrainReport

log = logging.getLogger(__name__)

TABLE = TableName.parse("DB.RAW.CLICKS")
APPLICATION = "simulated"
# A task that is told to stop is killed by Airflow after as long.
STOP_SECONDS = 60.0
CALM_RUNS = 12
MEMORY = "/dev/shm"
# How an application loads; one of them changes its sink between drains.
SINKS = (("copy",), ("streaming",), ("copy", "streaming"))


class BrokenPromiseError(AssertionError):
    """A promise of the package doesn't hold in a history."""


@dataclass
class Try:
    """One try of a task.

    :param ended: whether its process is over
    :param error: what its drain raised
    """

    machine: Machine
    drain: Drain | None = None
    report: DrainReport | None = None
    error: BaseException | None = None
    ended: Signal = field(default_factory=Signal)
    over: bool = False


class History:
    """What a seed makes happen, until all is drained in calm weather.

    :param seed: of everything that is drawn
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.counts: Counter[str] = Counter()
        self._scheduler = Scheduler(self.random)
        self._weather = storm(self.random)
        self._stream = Stream(self._scheduler, self.random, shards=self.random.randint(2, 4))
        self._table = Table(self._check_write)
        self._server = Server(self._scheduler, self._weather)
        self._streaming = StreamingServer(self._scheduler, self._weather, self._server.rows)
        self._sinks = self.random.choice(SINKS)
        self._pushed = self.random.choice([0.0, 0.0, 0.5, 1.0])
        self._broken: list[str] = []
        self._writing = True
        self._done = False

    def run(self) -> Counter[str]:
        """Let it happen.

        :return: how often what happened
        :raises BrokenPromiseError: something is lost, doubled, out of order or told too early
        """
        self._scheduler.spawn(self._live)
        with files_in_memory():
            self._scheduler.run(lambda: self._done or bool(self._broken))
        if self._broken:
            raise BrokenPromiseError(f"seed {self.seed}: {self._broken[0]}")
        self._check_rows()
        self.counts["records"] += len(self._stream.sent)
        self.counts["logins"] += self._server.logins
        return self.counts

    # --- what happens --------------------------------------------------------------------------------------

    def _live(self) -> None:
        self._scheduler.spawn(self._write)
        runs = self.random.randint(2, 4)
        ended = Signal()
        left = [runs]

        def run_dag() -> None:
            self._run_dag()
            left[0] -= 1
            self._scheduler.give(ended)

        for _ in range(runs):
            self._scheduler.spawn(run_dag)
            # Most runs wait for the one before.
            self._scheduler.sleep(self.random.choice([1, 20, 40, 60]))
        while left[0]:
            self._scheduler.wait(ended)
        self._weather.clear_up()
        self._writing = False
        # What sleeps wakes up and has its last word, and statements that are late arrive.
        self._scheduler.sleep(400)
        self._drain_the_rest()
        self._done = True

    def _write(self) -> None:
        while self._writing:
            self._stream.put()
            if self.random.random() < 0.1:
                self._stream.reshard()
                self.counts["reshards"] += 1
            self._scheduler.sleep(self.random.choice([1, 5, 20, 60]))

    def _run_dag(self) -> None:
        """One run: mapped tasks, each with its tries."""
        run = self.random.getrandbits(32)
        left = [self.random.choice([1, 1, 2, 3])]
        ended = Signal()

        def task(index: int) -> None:
            self._run_task(f"run-{run}-{index}")
            left[0] -= 1
            self._scheduler.give(ended)

        for index in range(left[0]):
            self._scheduler.spawn(partial(task, index))
        while left[0]:
            self._scheduler.wait(ended)

    def _run_task(self, name: str) -> None:
        for number in range(1, self.random.randint(1, 3) + 1):
            tried = self._start(name, number)
            self._attend(tried)
            if tried.report is not None:
                return
            self._scheduler.sleep(self.random.uniform(0.1, 60))

    def _attend(self, tried: Try) -> None:
        """Wait until a try is over, or taken for dead."""
        patience = self.random.choice([30.0, 300.0, 1e6, 1e6])
        self._scheduler.wait(tried.ended, None if tried.over else patience)
        if tried.over:
            return
        if tried.drain is not None and self.random.random() < 0.7:
            self.counts["stops"] += 1
            tried.drain.stop()
            self._scheduler.wait(tried.ended, STOP_SECONDS)
            if not tried.over and self.random.random() < 0.5:
                self._scheduler.kill(tried.machine)
        else:
            self.counts["given up"] += 1

    def _start(self, task: str, number: int, **settings: Any) -> Try:
        self.counts["tries"] += 1
        clock_off = self.random.choice([0.0, 0.0, self.random.uniform(-240, 240)])
        worker = Worker(task, f"{number}-{self.random.getrandbits(32):08x}")
        machine = Machine(self._scheduler, self.random, name=worker.id, clock_off=clock_off)
        tried = Try(machine)
        limits: dict[str, Any] = {
            "max_batch_records": self.random.choice([1, 5, 20, 1000]),
            "max_batch_seconds": self.random.choice([0.5, 5.0, 60.0]),
            "max_seconds": self.random.choice([None, None, 20.0]),
            "follow_seconds": self.random.choice([None, None, 45.0]),
        }

        limits |= settings
        following = timedelta(seconds=limits["follow_seconds"] or 0)

        source = self._source(machine)
        sink = self._way(machine)
        self.counts[sink.name] += 1

        def work() -> None:
            try:
                tried.drain = Drain(
                    DrainSettings(
                        stream_name=self._stream.name,
                        application_name=APPLICATION,
                        initial_position=TRIM_HORIZON,
                        stop_at=moment(machine.wall()) + following,
                        **limits,
                    ),
                    worker=worker,
                    source=source,
                    store=SimulatedStore(self._table, machine, self._weather),
                    sink=sink,
                    runtime=machine,
                )
                tried.report = tried.drain.run()
                self.counts["drains"] += 1
                self.counts["batches"] += tried.report.batches
                self.counts["takeovers"] += tried.report.takeovers
                self.counts["fenced"] += tried.report.fenced
            except Exception as error:
                tried.error = error
                self.counts[type(error).__name__] += 1
                if isinstance(error, SinkInDoubtError) and len(self._sinks) > 1:
                    return
                if not isinstance(error, TransientError | DrainStoppedError):
                    log.exception("A drain failed")
                    self._broken.append(f"a drain failed with {type(error).__name__}: {error}")
            finally:
                tried.over = True
                if machine.dead:
                    self.counts["deaths"] += 1
                self._scheduler.give(tried.ended)
                machine.dead = True

        self._scheduler.spawn(work, owner=machine)
        return tried

    def _way(self, machine: Machine) -> SinkSettings:
        """How a try loads."""
        landing = Landing(table=TABLE)
        open_session = SimulatedSnowflake(self._server, machine, self._weather).open_session
        if self.random.choice(self._sinks) == "copy":
            return Copy(landing, open_session)
        return Streaming(landing, open_session, partial(SimulatedChannels, self._streaming, machine))

    def _source(self, machine: Machine) -> Source:
        """How a try reads; workers of both kinds may share the shards."""
        if self.random.random() >= self._pushed:
            return PollingSource(SimulatedKinesis(self._stream, machine, self._weather))
        self.counts["pushed"] += 1
        room = self.random.choice([500, 5_000, 1_000_000])
        return FanOutSource(
            SimulatedFanOut(self._stream, machine, self._weather),
            application_name=APPLICATION,
            limits=FanOutLimits(
                total_bytes=2 * room, shard_bytes=room, subscriptions=self.random.choice([1, 3, 256])
            ),
            runtime=machine,
        )

    def _drain_the_rest(self) -> None:
        """Drain in calm weather until there is nothing more, and then once more for nothing."""
        limits = {
            "max_batch_records": 1000,
            "max_batch_seconds": 60.0,
            "max_seconds": None,
            "follow_seconds": None,
        }
        for number in range(CALM_RUNS):
            tried = self._start(f"calm-{number}", 1, **limits)
            while not tried.over:
                self._scheduler.wait(tried.ended)
            if isinstance(tried.error, SinkInDoubtError):
                continue
            if tried.report is None:
                self._broken.append(f"nothing is wrong any more, and a drain fails: {tried.error!r}")
                return
            if number and not tried.report.records and not tried.report.takeovers:
                self._check_idle(tried.report)
                return
            self._scheduler.sleep(60)
        self._broken.append("the stream isn't drained after many runs in calm weather")

    # --- what was promised ---------------------------------------------------------------------------------

    def _check_idle(self, report: DrainReport) -> None:
        if report.snowflake_connections:
            self._broken.append("a drain that found nothing connected to Snowflake (promise 5)")

    def _check_write(self, writer: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """No checkpoint is ahead of what Snowflake has committed, or goes back (promise 2).

        And nobody writes to the row of a shard that is another's, but to take the lease.
        """
        shard_id = after["shardId"]["S"]
        owners = {row["leaseOwner"]["S"] for row in (before, after) if "leaseOwner" in row}
        if owners and writer not in owners:
            self._broken.append(f"{writer} wrote to the row of {shard_id}, which is leased by {owners}")
        if "sequenceNumber" not in after or after["sequenceNumber"] == before.get("sequenceNumber"):
            return
        checkpoint = Position(after["sequenceNumber"]["S"])
        landed = {row.sequence_number for row in self._server.rows if row.shard_id == shard_id}
        if any(
            record.sequence_number not in landed
            for record in self._stream.shards[shard_id].records
            if Position(record.sequence_number) <= checkpoint
        ):
            self._broken.append(f"the checkpoint of {shard_id} is ahead of what landed (promise 2)")
        if "sequenceNumber" in before and checkpoint < Position(before["sequenceNumber"]["S"]):
            self._broken.append(f"the checkpoint of {shard_id} went back")

    def _check_rows(self) -> None:
        """Everything is there once, and in order (promises 1 and 4)."""
        landed = Counter((row.shard_id, row.sequence_number) for row in self._server.rows)
        sent = {
            (shard.shard_id, record.sequence_number)
            for shard in self._stream.shards.values()
            for record in shard.records
        }
        doubled = [place for place, times in landed.items() if times > 1]
        if missing := sent - landed.keys():
            raise BrokenPromiseError(f"seed {self.seed}: {len(missing)} records are lost (promise 1)")
        if doubled:
            raise BrokenPromiseError(f"seed {self.seed}: {len(doubled)} records landed twice (promise 1)")
        self._check_order()

    def _check_order(self) -> None:
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        numbers: dict[tuple[str, bool], list[int]] = defaultdict(list)
        for at, row in enumerate(self._server.rows):
            first.setdefault(row.shard_id, at)
            last[row.shard_id] = at
            numbers[row.shard_id, row.dead].append(int(row.sequence_number))
        if any(of_shard != sorted(of_shard) for of_shard in numbers.values()):
            raise BrokenPromiseError(f"seed {self.seed}: a shard was loaded out of order (promise 4)")
        for shard in self._stream.shards.values():
            for parent in shard.parents:
                if first.get(shard.shard_id, 1e9) < last.get(parent, -1):
                    raise BrokenPromiseError(f"seed {self.seed}: a child came before its parent (promise 4)")


@contextmanager
def files_in_memory() -> Iterator[None]:
    """Let drains write their files where no disk is waited for, if there is such a place."""
    before = tempfile.tempdir
    if os.access(MEMORY, os.W_OK):
        tempfile.tempdir = MEMORY
    try:
        yield
    finally:
        tempfile.tempdir = before


def storm(random: Random) -> Weather:
    """Weather in which some things go wrong often, and others never."""
    bad = {
        "death": 0.01,
        "sleep": 0.01,
        "refused": 0.1,
        "repeated": 0.1,
        "lost": 0.05,
        "twice": 0.1,
        "ended": 0.05,
        "gone": 0.02,
        "stale": 0.5,
        "slow": 0.02,
    }
    shares = {name: share * random.choice([0, 0, 0.3, 1]) for name, share in bad.items()}
    shares["nap"] = random.choice([0, 0.1, 0.2])
    return Weather(random, **shares)
