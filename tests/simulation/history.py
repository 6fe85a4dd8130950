"""One history: a stream that is written to and resharded, drained by workers that die and sleep."""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_kinesis_snowflake.engine.drain import Drain
from airflow_kinesis_snowflake.engine.settings import DrainSettings, Worker
from airflow_kinesis_snowflake.exceptions import (
    CorruptStateError,
    DataLossError,
    DrainStoppedError,
    ForeignCheckpointError,
    IncarnationClosedError,
    ServiceRefusedError,
    SinkInDoubtError,
    StreamNotFoundError,
    StreamRecreatedError,
    TransientError,
)
from airflow_kinesis_snowflake.sinks.snowflake.factories import Copy, Streaming
from airflow_kinesis_snowflake.sources.fan_out import FanOutLimits, FanOutSource
from airflow_kinesis_snowflake.sources.polling import PollingSource
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON
from airflow_kinesis_snowflake.stream.times import moment
from tests.simulation.counted import Counted
from tests.simulation.ledger import BrokenPromiseError
from tests.simulation.losses import Gaps
from tests.simulation.machine import EPOCH
from tests.simulation.replays import Replays
from tests.simulation.resets import RECOVER, Resets, maintenance_of
from tests.simulation.weather import CLOCK_OFF_SECONDS, SLOW_SECONDS
from tests.simulation.world import World, files_in_memory

if TYPE_CHECKING:
    from random import Random

    from airflow_kinesis_snowflake.engine.ports import SinkSettings, Source
    from airflow_kinesis_snowflake.engine.report import DrainReport
    from tests.simulation.machine import Machine
    from tests.simulation.variant import Variant
    from tests.simulation.world import Running

log = logging.getLogger(__name__)

# A task that is told to stop is killed by Airflow after as long.
STOP_SECONDS = 60.0
# The share of histories in which the stream is made anew.
RECREATED = 0.12
CALM_RUNS = 12
OF_A_PAYLOAD = re.compile(r"is no JSON|[\"']n[\"']: ")
# More of them show nothing that fewer don't.
MOST_RECORDS = 40
# What a drain may say while the state is that of a stream that was deleted.
OF_ANOTHER_STREAM = (
    StreamRecreatedError,
    StreamNotFoundError,
    ForeignCheckpointError,
    DataLossError,
    CorruptStateError,
)
CALM = {
    "max_batch_records": 1000,
    "max_batch_seconds": 60.0,
    "max_seconds": None,
    "follow_seconds": None,
    "on_data_loss": "warn",
}


class SeldomPolled(PollingSource):
    """Asks seldom, since most of a history would be questions after records that aren't there."""

    pause_seconds = 0.5
    idle_seconds = 4.0


class SeldomRead(FanOutSource):
    """Looks seldom at what has arrived, for the same reason."""

    pause_seconds = 2.0


@dataclass
class Try:
    """One try of a task.

    :param drain: ``None`` until its process has begun
    """

    running: Running
    drain: Drain | None = None

    @property
    def report(self) -> DrainReport | None:
        """What it returned, if it did."""
        report: DrainReport | None = self.running.result
        return report


class Told(NamedTuple):
    """What a history, or many of them, came to.

    :param counts: how often what happened
    :param faults: how often which weather struck
    :param checks: how often which promise was checked
    """

    counts: Counter[str]
    faults: Counter[str]
    checks: Counter[str]

    def and_of(self, other: Told) -> Told:
        """Both together."""
        return Told(*(one + another for one, another in zip(self, other, strict=True)))


class History:
    """What a variant makes happen, until all is drained in calm weather."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.world = World(variant)
        self.counts = self.world.counts
        self._scheduler = self.world.scheduler
        self._ledger = self.world.ledger
        self.resets = Resets(self.world)
        self._replays = Replays(self.world)
        self._sink_now = self.world.sinks[0]
        self._sink_due: str | None = None
        self._recreated_until = -inf
        self._writing = True
        self._done = False

    def run(self) -> Told:
        """Let it happen.

        :raises BrokenPromiseError: something is lost, doubled, out of order or told too early
        """
        self._scheduler.spawn(self._live)
        with files_in_memory(), maintenance_of(self.variant.chance("ids")):
            try:
                self._scheduler.run(lambda: self._done or bool(self._ledger.broken))
                return self._told()
            finally:
                self._scheduler.end()

    def _told(self) -> Told:
        if self._ledger.broken:
            raise BrokenPromiseError(f"{self.variant.arguments}: {self._ledger.broken[0]}")
        counts = self.counts + Counter(records=len(self.world.stream.users), logins=self.world.server.logins)
        return Told(counts, self.world.weather.struck, self._ledger.checks)

    # --- what happens --------------------------------------------------------------------------------------

    def _live(self) -> None:
        self._scheduler.spawn(self._write)
        chance = self.variant.chance("runs")
        runs = chance.choice([1, 1, 2])
        # Most runs wait for the one before.
        pauses = [float(chance.choice([1, 20, 40, 60])) for _ in range(runs)]
        if self.world.weather.doze:
            # While one sleeps, others have to come and go, and to find nothing and then something.
            pauses += [float(chance.choice([40, 60])) for _ in range(3)]
        if self.variant.ages:
            pauses += [float(chance.choice([60, 400, 800])) for _ in range(3)]
        pauses = pauses[: self.variant.runs]
        works = [partial(self._run_dag, number) for number in range(len(pauses))]
        people = [self.resets.live, self._replays.live, self._recreate]
        self.world.side_by_side([*people, *works], pauses=[0.0] * len(people) + pauses)
        self.world.weather.clear_up()
        self._writing = False
        # What sleeps wakes up and has its last word, and statements that are late arrive.
        self._scheduler.sleep(400)
        self.world.wait_for_all()
        self._adopt()
        self.resets.finish()
        self._drain_the_rest()
        self._done = True

    def _recreate(self) -> None:
        """In some histories, delete the stream and make another one of its name."""
        chance = self.variant.chance("recreation")
        at, noticed, shards = chance.uniform(30, 300), chance.uniform(1, 200), chance.randint(1, 3)
        if chance.random() < RECREATED and self.variant.has("recreations"):
            self._scheduler.sleep(at)
            self._recreated_until = inf
            self.world.stream.recreate(shards=shards)
            self.counts["recreated streams"] += 1
            self._scheduler.sleep(noticed)
            self.resets.adopt("reset-recreated")

    def _adopt(self) -> None:
        """In calm weather, see to it that the state is of the stream that there is."""
        for number in range(CALM_RUNS):
            if not self.resets.is_of_another_stream:
                break
            self.resets.adopt(f"reset-adopting-{number}")
            self._scheduler.sleep(90)
        self._recreated_until = min(self._recreated_until, self._scheduler.now)
        self._scheduler.sleep(1)

    def _write(self) -> None:
        chance, stream = self.variant.chance("writes"), self.world.stream
        while self._writing:
            if len(stream.users) < MOST_RECORDS * (2 if self.world.weather.doze else 1):
                stream.put()
            if chance.random() < 0.1 and self.variant.has("reshards"):
                stream.reshard()
                self.counts["reshards"] += 1
            self._scheduler.sleep(chance.choice([5, 60, 200] if self.variant.ages else [1, 5, 20, 60]))

    def _run_dag(self, number: int) -> None:
        """One run: mapped tasks, each with its tries."""
        tasks = self.variant.chance(f"run {number}").choice([1, 1, 2])
        if not self.variant.has("side-by-side"):
            tasks = 1
        self.world.side_by_side(
            [partial(self._run_task, f"run-{number}-{task}") for task in range(tasks)], pauses=[0.0] * tasks
        )

    def _run_task(self, name: str) -> None:
        chance = self.variant.chance(f"task {name}")
        tries = chance.randint(1, 3)
        for number in range(1, (tries if self.variant.has("retries") else 1) + 1):
            tried = self.start(name, number)
            self._attend(tried, chance)
            if tried.report is not None:
                return
            self._scheduler.sleep(chance.uniform(0.1, 60))

    def _attend(self, tried: Try, chance: Random) -> None:
        """Wait until a try is over, or taken for dead."""
        patience = chance.choice([30.0, 300.0, 1e6, 1e6])
        told, killed = chance.random() < 0.7, chance.random() < 0.5
        if self.world.wait(tried.running, patience if self.variant.has("stops") else None):
            return
        if tried.drain is not None and told:
            self.counts["stops"] += 1
            since = self._scheduler.now - SLOW_SECONDS
            asleep = tried.running.machine.asleep_until >= since  # It may have given up its leases.
            tried.drain.stop()
            if self.world.wait(tried.running, STOP_SECONDS):
                self._check_stopped(tried, hindered=asleep or tried.running.machine.hindered_at >= since)
            elif killed:
                self._scheduler.kill(tried.running.machine)
        else:
            self.counts["given up"] += 1

    def _check_stopped(self, tried: Try, *, hindered: bool) -> None:
        """A stop is no success, and the next run goes on at once.

        :param hindered: something may have kept it from releasing leases, which are left to expire then
        """
        self._ledger.expect(
            tried.report is None, "7: a stop is no success", "a drain that was stopped reports success"
        )
        if hindered:
            return
        rows = self.world.table(self.world.application).items or {}
        machine = tried.running.machine
        held = [
            key
            for key, row in rows.items()
            if row.get("leaseOwner", {}).get("S") == machine.name
            and int(row["leaseExpiry"]["N"]) > machine.wall()
        ]
        self._ledger.expect(
            not held, "7: a stop releases leases", f"a drain that was stopped left {held} leased"
        )

    def start(self, task: str, number: int, **settings: Any) -> Try:
        self.counts["tries"] += 1
        chance = self.variant.chance(f"try {task} {number}")
        worker = Worker(task, f"{number}-{chance.getrandbits(32):08x}")
        clock_off = chance.choice([0.0, 0.0, chance.uniform(-CLOCK_OFF_SECONDS, CLOCK_OFF_SECONDS)])
        machine = self.world.machine(
            worker.id, clock_off=clock_off if self.variant.has("clocks") else 0.0, steady=False
        )
        limits: dict[str, Any] = {
            "max_batch_records": chance.choice([1, 5, 20, 1000]),
            "max_batch_seconds": chance.choice([0.5, 5.0, 60.0]),
            "max_seconds": chance.choice([None, None, 20.0]),
            "follow_seconds": chance.choice([None, None, 45.0]),
            "on_data_loss": self.variant.chance(f"loss {task} {number}").choice(["fail", "warn"]),
        }
        limits |= settings
        following = timedelta(seconds=limits["follow_seconds"] or 0)
        source = self._source(machine, chance)
        sink = Counted(
            self._sink(machine, chance),
            most_records=limits["max_batch_records"],
            shards=lambda: self.world.stream.most_shards,
            expect=self._ledger.expect,
        )
        self.counts[sink.name] += 1
        application, began = self.world.application, self._scheduler.now

        def work() -> DrainReport:
            self._ledger.drain_begins(worker.id, EPOCH + self._scheduler.now)
            tried.drain = Drain(
                DrainSettings(
                    stream_name=self.world.stream.name,
                    application_name=application,
                    initial_position=TRIM_HORIZON,
                    stop_at=moment(machine.wall()) + following,
                    **limits,
                ),
                worker=worker,
                source=source,
                store=self.world.store(machine, application),
                sink=sink,
                runtime=machine,
            )
            tried.drain.report.gaps = Gaps(partial(self._ledger.gap_reported, application))
            try:
                report = tried.drain.run()
            except Exception as error:
                self._judge(error, began)
                self._check_discreet(str(error))
                raise
            self._check_discreet(repr(report.as_dict()))
            self.counts["drains"] += 1
            self.counts["batches"] += report.batches
            self.counts["takeovers"] += report.takeovers
            self.counts["fenced"] += report.fenced
            return report

        tried = Try(self.world.start(machine, work))
        return tried

    def _check_discreet(self, told: str) -> None:
        self._ledger.expect(
            not OF_A_PAYLOAD.search(told), "9: payloads stay inside", f"a drain told of a record: {told}"
        )

    def _judge(self, error: Exception, began: float) -> None:
        """Whether a drain may fail like that (promise 10)."""
        in_doubt = isinstance(error, SinkInDoubtError) and len(self.world.sinks) > 1
        # A reset closes incarnations before it begins new ones, and deletes tables.
        under_reset = isinstance(
            error, IncarnationClosedError | ServiceRefusedError
        ) and self.resets.active_since(began)
        recreated = isinstance(error, OF_ANOTHER_STREAM) and self._recreated_until >= began
        aged = isinstance(error, DataLossError) and self.variant.ages
        passing = isinstance(error, TransientError | DrainStoppedError)
        passes = in_doubt or under_reset or recreated or aged or passing
        if not passes:
            log.error("A drain failed", exc_info=error)
        self._ledger.expect(
            passes,
            "10: only what passes fails a drain",
            f"a drain failed with {type(error).__name__}: {error}",
        )

    def _sink(self, machine: Machine, chance: Random) -> SinkSettings:
        """How a try loads."""
        drawn = chance.choice(self.world.sinks)
        self._sink_now = self._sink_due or drawn
        open_session = self.world.snowflake(machine).open_session
        if self._sink_now == "copy":
            return Copy(self.world.landing, open_session)
        return Streaming(self.world.landing, open_session, partial(self.world.open_channels, machine))

    def _source(self, machine: Machine, chance: Random) -> Source:
        """How a try reads; workers of both kinds may share the shards."""
        pushed = chance.random() < self.world.pushed
        room = chance.choice([500, 5_000, 1_000_000])
        subscriptions = chance.choice([1, 3, 256])
        if not pushed:
            return SeldomPolled(self.world.kinesis(machine))
        self.counts["pushed"] += 1
        return SeldomRead(
            self.world.fan_out(machine),
            application_name=self.world.application,
            limits=FanOutLimits(total_bytes=2 * room, shard_bytes=room, subscriptions=subscriptions),
            runtime=machine,
        )

    def _drain_the_rest(self) -> None:
        """Drain in calm weather until there is nothing more, and then once more for nothing."""
        for number in range(CALM_RUNS):
            tried = self.start(f"calm-{number}", 1, **CALM)
            self.world.wait(tried.running)
            self._sink_due = None
            if isinstance(tried.running.error, SinkInDoubtError):
                # Whoever runs the DAG does what the error asks for: drains once more with the sink in doubt.
                (self._sink_due,) = (sink for sink in self.world.sinks if sink != self._sink_now)
                continue
            report = tried.report
            if report is None:
                self._ledger.broken.append(
                    f"nothing is wrong any more, and a drain fails: {tried.running.error!r}"
                )
                return
            if number and not report.records and not report.takeovers:
                self._replays.finish()
                self._ledger.check_end(self.world.application, recovered=bool(self.counts[RECOVER]))
                self._ledger.expect(
                    not report.snowflake_connections,
                    "5: nothing read, no connection",
                    "a drain that found nothing connected to Snowflake",
                )
                return
            self._scheduler.sleep(60)
        self._ledger.broken.append("the stream isn't drained after many runs in calm weather")
