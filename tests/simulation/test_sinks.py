"""Scenes of a change of sinks that histories found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import ServiceUnavailableError, SinkInDoubtError, ThrottledError
from airflow_kinesis_snowflake.sinks.snowflake.copy import CopySink
from airflow_kinesis_snowflake.sinks.snowflake.streaming import StreamingSink
from tests.simulation.dynamodb import SimulatedStore
from tests.simulation.history import CALM
from tests.simulation.kinesis import SimulatedKinesis
from tests.simulation.scenes import drain, play

if TYPE_CHECKING:
    import pytest

    from airflow_kinesis_snowflake.identifiers import TableName
    from tests.simulation.history import History


def no_page(*_: Any, **__: Any) -> Any:
    raise ThrottledError("no records today")


def test_who_took_a_shard_over_and_loaded_nothing_leaves_it_to_no_other_sink(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A suspended worker may wake in its transaction until an offset has moved."""
    real = CopySink._move_offsets

    def scene(history: History) -> None:
        scheduler = history.world.scheduler

        def suspended(sink: CopySink, *args: Any, **kwargs: Any) -> None:
            if first.running.machine.asleep_until == 0:
                first.running.machine.sleep(300, suspended=True)
                scheduler.sleep(0.1)
            real(sink, *args, **kwargs)

        monkeypatch.setattr(CopySink, "_move_offsets", suspended)
        history.world.stream.put()
        scheduler.sleep(2)
        history.world.sinks = ("copy",)
        first = history.start("first", 1, **CALM)
        scheduler.sleep(60)
        with monkeypatch.context() as patch:
            patch.setattr(SimulatedKinesis, "get_page", no_page)
            assert drain(history, "second", "copy", max_seconds=2.0) is None
        third = drain(history, "third", "streaming")
        history.world.wait(first.running)

        assert isinstance(third, SinkInDoubtError)
        assert drain(history, "fourth", "copy") is None
        assert drain(history, "fifth", "streaming") is None

    play(scene)


def test_dead_letters_of_a_lost_batch_keep_their_shard_from_other_sinks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However often its lease was given back since."""
    real = StreamingSink._append

    def no_rows(sink: StreamingSink, table: TableName, *args: Any) -> Any:
        if table == sink._target.table:
            raise ServiceUnavailableError("no rows today")
        return real(sink, table, *args)

    def scene(history: History) -> None:
        stream = history.world.stream
        while not any(b"no JSON" in each.data for shard in stream.shards.values() for each in shard.records):
            stream.put()
        history.world.scheduler.sleep(2)
        with monkeypatch.context() as patch:
            patch.setattr(StreamingSink, "_append", no_rows)
            assert isinstance(drain(history, "first", "streaming"), ServiceUnavailableError)
        history.world.scheduler.sleep(60)
        with monkeypatch.context() as patch:
            patch.setattr(SimulatedKinesis, "get_page", no_page)
            assert drain(history, "second", "streaming", max_seconds=2.0) is None

        assert isinstance(drain(history, "third", "copy"), SinkInDoubtError)
        assert drain(history, "fourth", "streaming") is None
        assert drain(history, "fifth", "copy") is None

    play(scene)


def test_who_slept_at_the_tip_commits_nothing_beside_another_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own clock the lease is still its own, and who reads nothing moves no offset."""
    real = SimulatedStore.renew_lease

    def scene(history: History) -> None:
        scheduler, stream = history.world.scheduler, history.world.stream

        def renew(store: SimulatedStore, *args: Any, **kwargs: Any) -> bool:
            renewed = real(store, *args, **kwargs)
            if not first.running.machine.stopped_for:
                first.running.machine.sleep(200, suspended=True)
            return renewed

        stream.put()
        scheduler.sleep(2)
        history.world.sinks = ("copy",)
        first = history.start("first", 1, **{**CALM, "max_batch_records": 1, "follow_seconds": 120.0})
        scheduler.sleep(20)
        monkeypatch.setattr(SimulatedStore, "renew_lease", renew)
        scheduler.sleep(60)
        assert drain(history, "second", "copy") is None
        for _ in range(20):
            stream.put()
        scheduler.sleep(2)
        assert drain(history, "third", "streaming") is None
        history.world.wait(first.running)
        assert first.report is not None
        assert first.report.lost_leases

    play(scene)
