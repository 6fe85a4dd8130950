"""Drains that stay and load what arrives."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.exceptions import DrainStoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_kinesis_snowflake.engine.drain import Drain
    from airflow_kinesis_snowflake.engine.report import DrainReport
    from tests.integration.drain.conftest import Pipeline

pytestmark = pytest.mark.slow

PATIENCE = 60.0


def following(pipeline: Pipeline, seconds: float, **settings: Any) -> Drain:
    return pipeline.drain(
        follow_seconds=seconds,
        stop_at=datetime.now(UTC) + timedelta(seconds=seconds),
        **{"max_batch_seconds": 0.5} | settings,
    )


@contextmanager
def running(drain: Drain) -> Iterator[Callable[[], DrainReport]]:
    """Run a drain beside the test; gives what waits for its report."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(drain.run)
        try:
            yield lambda: future.result(PATIENCE)
        finally:
            drain.stop()


def until(condition: Callable[[], bool]) -> None:
    """Ask again until something holds."""
    patience = threading.Event()
    for _ in range(int(PATIENCE / 0.1)):
        if condition():
            return
        patience.wait(0.1)
    raise AssertionError("it never came true")


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    """One whose tables are there."""
    pipeline = make_pipeline(2)
    pipeline.drain().run()
    return pipeline


def test_what_arrives_while_a_drain_follows_lands_before_it_ends(pipeline: Pipeline) -> None:
    with running(following(pipeline, 3600)) as report:
        pipeline.send(20)
        until(lambda: pipeline.landed == list(range(20)))
        pipeline.send(20)
        until(lambda: pipeline.landed == list(range(40)))
        until(lambda: all(row.caught_up_at for row in pipeline.state.shards.values()))
        leased = {row.lease_owner for row in pipeline.state.shards.values()}

    with pytest.raises(DrainStoppedError):
        report()
    assert len(leased) == 1
    assert None not in leased
    assert {row.lease_owner for row in pipeline.state.shards.values()} == {None}
    assert pipeline.drain().run().records == 0


def test_a_drain_that_follows_ends_by_itself_and_leaves_nothing_of_its_time(pipeline: Pipeline) -> None:
    pipeline.send(20)
    report = following(pipeline, 3).run()

    assert (report.records, report.seconds >= 3) == (20, True)
    assert {shard.outcome for shard in report.shards.values()} == {"caught_up"}
    assert pipeline.landed == list(range(20))


def test_a_drain_that_follows_and_finds_nothing_connects_to_nothing(pipeline: Pipeline) -> None:
    assert following(pipeline, 2).run().snowflake_connections == 0


def test_children_are_read_while_a_drain_follows(pipeline: Pipeline) -> None:
    with running(following(pipeline, 3600)):
        pipeline.send(10)
        until(lambda: pipeline.landed == list(range(10)))
        pipeline.kinesis.split_shard(
            StreamName=pipeline.stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**126)
        )
        pipeline.send(30)
        until(lambda: pipeline.landed == list(range(40)))


def test_of_two_that_follow_each_takes_its_share_and_one_leaves_all_to_the_other(pipeline: Pipeline) -> None:
    with running(following(pipeline, 3600)):
        until(lambda: len(leases(pipeline)) == 1 and None not in leases(pipeline))
        with running(following(pipeline, 3600)):
            until(lambda: len(leases(pipeline)) == 2)
            pipeline.send(20)
            until(lambda: pipeline.landed == list(range(20)))
        until(lambda: len(leases(pipeline)) == 1 and None not in leases(pipeline))
        pipeline.send(20)
        until(lambda: pipeline.landed == list(range(40)))


def leases(pipeline: Pipeline) -> set[str | None]:
    return {row.lease_owner for row in pipeline.state.shards.values()}
