"""Shards that came and went between two drains: somebody is told before anything hides it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from airflow_kinesis_snowflake.engine.drain import Drain
from airflow_kinesis_snowflake.engine.settings import DrainSettings, Worker
from airflow_kinesis_snowflake.exceptions import DataLossError
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON
from airflow_kinesis_snowflake.testing.sink import FakeLanding
from airflow_kinesis_snowflake.testing.source import FakeSource
from airflow_kinesis_snowflake.testing.store import FakeStateStore

FIRST = "shardId-000000000000"


class Store(FakeStateStore):
    """Notes of which shards the drain had told when it created a row."""

    def __init__(self) -> None:
        super().__init__()
        self.drain: Drain | None = None
        self.told: dict[str, list[str]] = {}

    def create_shard(self, stream_name: str, shard_id: str, **facts: Any) -> bool:
        if self.drain is not None:
            self.told[shard_id] = [gap["shard_id"] or "" for gap in self.drain.report.gaps]
        return super().create_shard(stream_name, shard_id, **facts)


def drain(source: FakeSource, store: Store, *, on_data_loss: Literal["fail", "warn"] = "warn") -> Drain:
    store.drain = Drain(
        DrainSettings(
            stream_name="stream",
            application_name="application",
            initial_position=TRIM_HORIZON,
            stop_at=datetime.now(UTC) + timedelta(seconds=1),
            on_data_loss=on_data_loss,
        ),
        worker=Worker("task", "1-a"),
        source=source,
        store=store,
        sink=FakeLanding(),
    )
    return store.drain


def come_and_go(source: FakeSource) -> tuple[str, list[str]]:
    """Split the first shard, and a child of it that leaves the list; that and its children."""
    missed, _ = source.split(FIRST)
    children = source.split(missed)
    source.remove(missed)
    return missed, children


def test_a_missed_shard_is_told_before_its_children_get_rows() -> None:
    source, store = FakeSource(), Store()
    drain(source, store).run()
    missed, children = come_and_go(source)

    report = drain(source, store).run()

    assert [gap["shard_id"] for gap in report.gaps] == [missed]
    assert [store.told[child] for child in children] == [[missed], [missed]]


def test_a_missed_shard_is_told_although_a_first_run_left_rows_out() -> None:
    source, store = FakeSource(2), Store()
    _, other = shards = [shard.shard_id for shard in source.list_shards()]
    store.create_table()
    store.create_shard(
        "stream",
        FIRST,
        start_at=TRIM_HORIZON,
        parents=(),
        incarnation="first",
        stream_created=int(source.describe().created.timestamp() * 1000),
        stream_arn=source.describe().arn,
        initial_shards=tuple(shards),
        sink="fake",
    )
    missed, children = come_and_go(source)

    report = drain(source, store).run()

    assert [gap["shard_id"] for gap in report.gaps] == [missed]
    assert store.told[other] == []
    assert [store.told[child] for child in children] == [[missed], [missed]]


def test_while_a_loss_is_not_accepted_the_children_of_missed_shards_get_no_rows() -> None:
    source, store = FakeSource(), Store()
    drain(source, store).run()
    missed, children = come_and_go(source)

    with pytest.raises(DataLossError, match=missed):
        drain(source, store, on_data_loss="fail").run()

    assert store.told.keys().isdisjoint(children)
