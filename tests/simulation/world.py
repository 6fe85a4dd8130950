"""All that a history consists of: services, time, weather, and processes that die."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.formats.decoding import DecodingEncoder
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.factories import Landing
from tests.simulation.channels import SimulatedChannels, StreamingServer
from tests.simulation.dynamodb import SimulatedStore, Table
from tests.simulation.kinesis import RETENTION_SECONDS, SimulatedFanOut, SimulatedKinesis, Stream
from tests.simulation.ledger import Ledger
from tests.simulation.machine import Machine
from tests.simulation.scheduler import Scheduler, Signal
from tests.simulation.snowflake import Server, SimulatedSnowflake
from tests.simulation.weather import Weather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_kinesis_snowflake.formats.columns import ColumnsMapping
    from airflow_kinesis_snowflake.formats.decoding import Encoder
    from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
    from tests.simulation.variant import Variant

TABLE = TableName.parse("DB.RAW.CLICKS")
MEMORY = "/dev/shm"
# How an application loads; one of them changes its sink between drains.
SINKS = (("copy",), ("streaming",), ("copy", "streaming"))
# What is within ten minutes of it is looked at more closely.
AGEING_SECONDS = 900
# How many bytes of documents a page may have; the smaller ones end it inside an aggregate.
ROOMS = (1000, 2500, 2**20)


@dataclass(frozen=True, kw_only=True)
class SimulatedLanding(Landing):
    """Lands documents as they are, some bytes of them at a time."""

    most_bytes: int

    def encoder(self, mapping: EnvelopeMapping | ColumnsMapping, *, room: int = 0) -> Encoder:
        """How records become rows."""
        return DecodingEncoder(lambda payload, _="", /: (payload,), mapping, room=room or self.most_bytes)


@dataclass(frozen=True, kw_only=True)
class MendedLanding(SimulatedLanding):
    """The same after what was wrong has been mended, but for a third of the payloads."""

    def encoder(self, mapping: EnvelopeMapping | ColumnsMapping, *, room: int = 0) -> Encoder:
        """How records become rows."""
        return DecodingEncoder(lambda payload, _="", /: (mended(payload),), mapping, room=room)


def mended(payload: bytes) -> bytes:
    """A payload as it should have been."""
    number, _, wrong = payload.partition(b" is no JSON")
    return b'{"n": %s}' % number if wrong and int(number) % 3 else payload


@dataclass(eq=False)
class Running:
    """A process.

    :param error: what it ended with
    :param over: whether it has ended
    """

    machine: Machine
    result: Any = None
    error: Exception | None = None
    ended: Signal = field(default_factory=Signal)
    over: bool = False


class World:
    """What a variant draws of its surroundings.

    :param variant: of the history
    :ivar counts: how often what happened
    :ivar application: that drains work for now
    """

    def __init__(self, variant: Variant) -> None:
        chance = variant.chance("world")
        self.variant = variant
        self.counts: Counter[str] = Counter()
        self.scheduler = Scheduler(variant.shaken("order"))
        self.weather = _weather(variant)
        aggregates = chance.choice([0.0, 0.0, 0.5])
        self.stream = Stream(
            self.scheduler,
            variant.chance("stream"),
            shards=chance.randint(1, 3),
            aggregates=aggregates if variant.has("aggregates") else 0.0,
            retention_seconds=AGEING_SECONDS if variant.ages else RETENTION_SECONDS,
        )
        drawn = chance.choice(SINKS)
        # Between drains with one sink, offsets and tokens tell all.
        sinks = SINKS[-1] if self.weather.doze else drawn
        self.sinks = sinks if variant.has("second-sink") else sinks[:1]
        pushed = chance.choice([0.0, 0.0, 0.5, 1.0])
        self.pushed = pushed if variant.has("fan-out") else 0.0
        self.landing = SimulatedLanding(table=TABLE, most_bytes=chance.choice(ROOMS))
        self.ledger = Ledger(self.stream)
        self.server = Server(self.scheduler, self.weather, self.ledger)
        self.streaming = StreamingServer(self.scheduler, self.weather, self.server.land)
        self.server.list_channels = self.streaming.names
        self.application = "simulated"
        self._tables: dict[str, Table] = {}
        self._processes: list[Running] = []

    # --- what a process calls ------------------------------------------------------------------------------

    def table(self, application: str) -> Table:
        """The table of an application, whether or not it is there."""
        return self._tables.setdefault(application, Table(application, self.ledger))

    def store(self, machine: Machine, application: str) -> SimulatedStore:
        """The state of an application."""
        return SimulatedStore(self.table(application), machine, self.weather)

    def kinesis(self, machine: Machine) -> SimulatedKinesis:
        """The stream, for who asks it."""
        return SimulatedKinesis(self.stream, machine, self.weather)

    def fan_out(self, machine: Machine) -> SimulatedFanOut:
        """The stream, for who subscribes."""
        return SimulatedFanOut(self.stream, machine, self.weather)

    def snowflake(self, machine: Machine) -> SimulatedSnowflake:
        """Snowflake."""
        return SimulatedSnowflake(self.server, machine, self.weather)

    def open_channels(self, machine: Machine, table: TableName) -> SimulatedChannels:
        """Log in to stream into a table."""
        return SimulatedChannels(self.streaming, machine, table)

    # --- processes -----------------------------------------------------------------------------------------

    def machine(self, name: str, *, clock_off: float = 0.0, steady: bool = True, chance: str = "") -> Machine:
        """A machine for one process.

        :param chance: what it draws from, where others have its name too
        """
        random = self.variant.shaken(f"machine {chance or name}")
        return Machine(self.scheduler, random, name=name, clock_off=clock_off, steady=steady)

    def start(self, machine: Machine, work: Callable[[], Any]) -> Running:
        """Begin a process, which ends with what it returns or raises."""
        running = Running(machine)
        self._processes.append(running)

        def run() -> None:
            try:
                running.result = work()
            except Exception as error:
                running.error = error
                self.counts[type(error).__name__] += 1
            finally:
                running.over = True
                if machine.dead:
                    self.counts["deaths"] += 1
                self.scheduler.give(running.ended)
                machine.dead = True

        self.scheduler.spawn(run, owner=machine)
        return running

    def wait(self, running: Running, timeout: float | None = None) -> bool:
        """Wait until a process has ended, or for some seconds; whether it has."""
        if not running.over:
            self.scheduler.wait(running.ended, timeout)
        return running.over

    def wait_for_all(self) -> None:
        """Wait until whoever was given up has ended too."""
        for running in self._processes:
            self.wait(running)

    def side_by_side(self, works: Sequence[Callable[[], None]], *, pauses: Sequence[float]) -> None:
        """Do several things, none of which is a process, and wait until all are done.

        :param pauses: seconds until the next one is begun
        """
        left, ended = [len(works)], Signal()

        def do(work: Callable[[], None]) -> None:
            work()
            left[0] -= 1
            self.scheduler.give(ended)

        for work, pause in zip(works, pauses, strict=True):
            self.scheduler.spawn(partial(do, work))
            self.scheduler.sleep(pause)
        while left[0]:
            self.scheduler.wait(ended)


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


def _weather(variant: Variant) -> Weather:
    """Weather in which some things go wrong often, and others never."""
    chance = variant.chance("climate")
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
    shares = {name: share * chance.choice([0, 0, 0.3, 1]) for name, share in bad.items()}
    shares["nap"] = chance.choice([0, 0.1, 0.2])
    shares["jump"] = chance.choice([0, 0, 0.01])
    shares["doze"] = chance.choice([0, 0, 0, 0, 0, 0.2])
    return Weather(
        variant.shaken("weather"), **{name: share for name, share in shares.items() if variant.has(name)}
    )
