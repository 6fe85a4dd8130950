"""A drain from Kinesis to Snowflake on the local services."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
