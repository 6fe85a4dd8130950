"""Rows that a reset changes after a drain has read them, and before it takes their leases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.engine.drain import Drain
from airflow_kinesis_snowflake.engine.settings import DrainSettings, Worker
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON
from airflow_kinesis_snowflake.testing.sink import FakeLanding
from airflow_kinesis_snowflake.testing.source import FakeSource
from airflow_kinesis_snowflake.testing.store import FakeStateStore

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.state.shards import ShardState, StreamState

FIRST = "shardId-000000000000"


class Store(FakeStateStore):
    """Rewinds all shards behind the next answer, and notes whose leases are taken."""

    def __init__(self) -> None:
        super().__init__()
        self.rewinds = False
        self.taken: list[str] = []

    def read_state(self, stream_name: str) -> StreamState:
        state = super().read_state(stream_name)
        if self.rewinds:
            self.rewinds = False
            for shard_id, row in state.shards.items():
                rewound = replace(
                    row, checkpoint=None, offset=None, offsets={}, ended=False, caught_up_at=None
                )
                self.put(stream_name, replace(rewound, incarnation=f"new-{shard_id}"))
        return state

    def take_lease(self, stream_name: str, shard: ShardState, **how: Any) -> ShardState | None:
        taken = super().take_lease(stream_name, shard, **how)
        if taken is not None:
            self.taken.append(shard.shard_id)
        return taken


def drain(source: FakeSource, store: Store) -> None:
    settings = DrainSettings(
        stream_name="stream",
        application_name="application",
        initial_position=TRIM_HORIZON,
        stop_at=datetime.now(UTC) + timedelta(seconds=1),
    )
    Drain(settings, worker=Worker("task", "1-a"), source=source, store=store, sink=FakeLanding()).run()


def test_a_child_isnt_read_by_what_its_parents_row_was_before_a_rewind() -> None:
    source, store = FakeSource(), Store()
    children = source.split(FIRST)
    drain(source, store)
    assert store.taken == [FIRST, *children]

    store.taken, store.rewinds = [], True
    drain(source, store)

    assert store.taken == [FIRST, *children]
