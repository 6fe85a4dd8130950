"""How a drain runs its coordinator: on threads, over sources, sinks and stores in memory."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.engine import coordinator as module
from airflow_kinesis_snowflake.engine.drain import Drain
from airflow_kinesis_snowflake.engine.runtime import Machine
from airflow_kinesis_snowflake.engine.settings import DrainSettings, Worker
from airflow_kinesis_snowflake.exceptions import DrainStoppedError, StreamRecreatedError, ThrottledError
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON
from airflow_kinesis_snowflake.testing.sink import FakeLanding, FakeSink
from airflow_kinesis_snowflake.testing.source import FakeSource
from airflow_kinesis_snowflake.testing.store import FakeStateStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_kinesis_snowflake.engine.batch import Batch
    from airflow_kinesis_snowflake.engine.ports import Outcome, SinkContext
    from airflow_kinesis_snowflake.engine.report import DrainReport
    from airflow_kinesis_snowflake.stream.records import Delivery, Record

PATIENCE = 20.0
SHARD = "shardId-000000000000"


class Gate:
    """Lets calls know that others have come so far."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self.open.wait(PATIENCE)


class HangingSink(FakeSink):
    """Commits and cancels when it is let."""

    def __init__(self, landing: HangingLanding, context: SinkContext) -> None:
        super().__init__(landing, context)
        self._gates = landing

    def commit(self, batch: Batch, *, refused_before: int) -> Outcome:
        self._gates.commit_gate.pass_through()
        return super().commit(batch, refused_before=refused_before)

    def cancel(self) -> None:
        self._gates.cancel_gate.pass_through()


class HangingLanding(FakeLanding):
    """A table of which the sinks hang."""

    def __init__(self) -> None:
        super().__init__()
        self.commit_gate, self.cancel_gate = Gate(), Gate()

    def open(self, context: SinkContext) -> HangingSink:
        return HangingSink(self, context)


class World:
    """A stream with a record, a table, and the state of an application."""

    def __init__(self, sink: FakeLanding) -> None:
        self.source, self.sink, self.store = FakeSource(), sink, FakeStateStore()
        self.source.put(SHARD, b"{}")

    def drain(self, *, runtime: Machine | None = None, **settings: Any) -> Drain:
        stop_at = datetime.now(UTC) + timedelta(seconds=1)
        return Drain(
            DrainSettings(
                stream_name="stream",
                application_name="application",
                initial_position=TRIM_HORIZON,
                **{"stop_at": stop_at} | settings,
            ),
            worker=Worker("task", "1-a"),
            source=self.source,
            store=self.store,
            sink=self.sink,
            runtime=runtime or Machine(),
        )

    @property
    def owners(self) -> dict[str, str | None]:
        state = self.store.read_state("stream")
        return {row.shard_id: row.lease_owner for row in state.shards.values()}


@contextmanager
def running(drain: Drain) -> Iterator[Callable[[], DrainReport]]:
    """Run a drain on another thread; what it returns waits for its end."""
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(drain.run)
        yield lambda: future.result(PATIENCE)


def test_leases_are_released_while_the_cancellation_of_a_load_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOAD_GRACE_SECONDS", 0.01)
    sink = HangingLanding()
    world = World(sink)
    drain = world.drain()

    with running(drain) as ended:
        assert sink.commit_gate.reached.wait(PATIENCE)
        drain.stop()
        assert sink.cancel_gate.reached.wait(PATIENCE)
        with pytest.raises(DrainStoppedError):
            ended()
        owners = world.owners
        sink.cancel_gate.open.set()
        sink.commit_gate.open.set()

    assert owners == {SHARD: None}


def test_a_stop_waits_for_no_call_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    world = World(FakeLanding())
    monkeypatch.setattr(world.store, "read_state", lambda _: gate.pass_through())
    drain = world.drain()

    with running(drain) as ended:
        assert gate.reached.wait(PATIENCE)
        drain.stop()
        with pytest.raises(DrainStoppedError):
            ended()
        gate.open.set()


@pytest.mark.parametrize("call", ["begin", "commit"], ids=["on the thread that coordinates", "of a load"])
def test_leases_are_released_after_an_error_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    world = World(FakeLanding())

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(FakeSink, call, fail)

    with pytest.raises(OSError, match="no space left"):
        world.drain().run()

    assert world.owners == {SHARD: None}


def test_leases_that_cant_be_renewed_any_more_end_the_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(FakeLanding())
    drain = world.drain(stop_at=datetime.now(UTC) + timedelta(hours=1), follow_seconds=3600.0)
    error = RuntimeError("the table is gone")

    def drop_lost() -> None:
        raise error

    monkeypatch.setattr(drain._leases, "drop_lost", drop_lost)

    with pytest.raises(RuntimeError, match="the table is gone"):
        drain.run()


def test_a_drain_that_was_stopped_before_it_began_does_nothing() -> None:
    world = World(FakeLanding())
    drain = world.drain()
    drain.stop()
    with pytest.raises(DrainStoppedError):
        drain.run()
    assert world.sink.rows == []


def test_a_stream_that_was_created_again_meanwhile_ends_the_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(FakeLanding())
    world.source.split(SHARD)
    facts = world.source.describe()
    again = replace(facts, created=facts.created + timedelta(hours=1))
    described = iter([facts])
    monkeypatch.setattr(world.source, "describe", lambda: next(described, again))

    with pytest.raises(StreamRecreatedError, match="application application"):
        world.drain().run()


def test_a_passing_fault_of_a_page_is_passed() -> None:
    world = World(FakeLanding())
    world.source.fail(ThrottledError("slower"))
    assert world.drain().run().records == 1


def test_a_drain_that_finds_nothing_opens_no_connection() -> None:
    world = World(FakeLanding())
    assert world.drain().run().records == 1
    again = world.drain().run()
    assert (again.records, again.snowflake_connections) == (0, 0)


class Suspended(Machine):
    """A machine whose monotonic clock stands still while it is suspended, as that of Linux does."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wall(self) -> int:
        return super().wall() + round(self.seconds * 1000)


class AgeingSource(FakeSource):
    """After the first page, the machine of its reader is suspended until all that was there has aged out."""

    def __init__(self, machine: Suspended) -> None:
        super().__init__(clock=lambda: time.time() + machine.seconds)
        self._machine = machine
        self._reads = 0

    def _read(self, shard_id: str, wanted: Callable[[Record], bool], limit: int) -> Delivery:
        self._reads += 1
        delivery = super()._read(shard_id, wanted, limit)
        if self._reads == 1:
            self._machine.seconds += 40 * 60
            self.trim(shard_id, 1000)
            self.put(shard_id, b"{}")
        return delivery


def test_what_ages_out_while_the_machine_of_a_drain_is_suspended_is_told() -> None:
    machine = Suspended()
    world = World(FakeLanding())
    world.source = AgeingSource(machine)
    world.source.put(SHARD, *[b"{}"] * 110)
    machine.seconds = 23.5 * 3600

    later = datetime.now(UTC) + timedelta(hours=25)
    report = world.drain(runtime=machine, on_data_loss="warn", stop_at=later).run()

    assert len(world.sink.rows) == 101
    assert [gap["shard_id"] for gap in report.gaps] == [SHARD]
