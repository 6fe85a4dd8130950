"""A drain from Kinesis to Snowflake on the local services."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.engine.intake import Intake
from airflow_kinesis_snowflake.engine.settings import Worker
from airflow_kinesis_snowflake.exceptions import DrainStoppedError
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Pipeline


def test_a_first_drain_lands_every_record_once(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline(shards=4)
    pipeline.send(2_000)

    report = pipeline.drain().run()

    assert pipeline.landed == pipeline.sent
    assert report.records == 2_000
    assert report.dead_letters == 0
    assert {shard.outcome for shard in report.shards.values()} == {"caught_up"}


def test_a_drain_goes_on_where_the_last_one_ended(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline(shards=2)
    for _ in range(3):
        pipeline.send(100)
        assert pipeline.drain().run().records == 100

    assert pipeline.landed == pipeline.sent


def test_a_drain_that_finds_nothing_opens_no_snowflake_connection(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    pipeline = make_pipeline(shards=2)
    pipeline.send(10)
    pipeline.drain().run()

    report = pipeline.drain().run()

    assert report.records == 0
    assert report.snowflake_connections == 0


def test_a_busy_worker_hands_over_shards_to_one_that_has_none(
    make_pipeline: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_kinesis_snowflake.engine.coordinator.REVIEW_SECONDS", 0.2)
    # Every shard goes on for ever: no page is the last one, however few records come.
    monkeypatch.setattr("airflow_kinesis_snowflake.engine.reader.finish_of", lambda *_, **__: None)
    pipeline = make_pipeline(shards=4)
    far = datetime.now(UTC) + timedelta(days=1)
    first, second = (pipeline.drain(worker=Worker(name, "0"), stop_at=far) for name in ("first", "second"))

    with ThreadPoolExecutor() as threads:
        running = [threads.submit(first.run)]
        wait_for(lambda: owners(pipeline) == {"first#0": 4})
        running.append(threads.submit(second.run))
        try:
            wait_for(lambda: owners(pipeline) == {"first#0": 2, "second#0": 2})
        finally:
            first.stop()
            second.stop()
        for drain in running:
            with pytest.raises(DrainStoppedError):
                drain.result()
    assert owners(pipeline) == {None: 4}


def test_a_shard_that_is_lost_and_free_again_at_once_is_loaded_once(
    make_pipeline: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_kinesis_snowflake.engine.coordinator.REVIEW_SECONDS", 0.2)
    for name in ("INITIAL_PAGE_RECORDS", "MAX_PAGE_RECORDS"):
        monkeypatch.setattr(f"airflow_kinesis_snowflake.engine.reader.{name}", 10)
    pipeline = make_pipeline(shards=1)
    pipeline.send(100)
    drain = pipeline.drain()
    robbed: list[str] = []

    def look_after_a_theft(intake: Intake, **kwargs: Any) -> Any:
        if drain._coordinator._batch is not None and not robbed:
            robbed.extend(intake._leases.held)
            steal_and_let_go(pipeline, robbed[0])
            intake._leases._renew(robbed[0])
        return look(intake, **kwargs)

    look = Intake.look
    monkeypatch.setattr(Intake, "look", look_after_a_theft)

    report = drain.run()

    assert robbed
    assert pipeline.landed == pipeline.sent
    assert (report.records, report.lost_leases) == (100, 1)


def steal_and_let_go(pipeline: Pipeline, shard_id: str) -> None:
    now = now_millis()
    assert pipeline.store.hold(
        pipeline.stream, shard_id, owner="thief", expiry=now + 1000, now=now, force=True
    )
    assert pipeline.store.release_lease(pipeline.stream, shard_id, owner="thief", now=now)


def owners(pipeline: Pipeline) -> Counter[str | None]:
    """How many shards each worker holds."""
    if not pipeline.store.exists():
        return Counter()
    return Counter(shard.lease_owner for shard in pipeline.state.shards.values())


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; fail after a minute."""
    deadline = datetime.now(UTC) + timedelta(minutes=1)
    while not condition():
        assert datetime.now(UTC) < deadline
