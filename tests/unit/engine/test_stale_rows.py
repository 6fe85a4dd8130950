"""Rows that a reset changes or deletes after a drain has read them, and before it acts on them."""

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
    from collections.abc import Callable

    from airflow_kinesis_snowflake.state.shards import ShardState, StreamState

FIRST = "shardId-000000000000"


class Store(FakeStateStore):
    """Is reset behind the next answer, and notes whose leases are taken."""

    def __init__(self) -> None:
        super().__init__()
        self.reset: Callable[[StreamState], None] | None = None
        self.taken: list[str] = []

    def read_state(self, stream_name: str) -> StreamState:
        state = super().read_state(stream_name)
        reset, self.reset = self.reset, None
        if reset is not None:
            reset(state)
        return state

    def rewind(self, state: StreamState) -> None:
        """Have all shards read again."""
        for shard_id, row in state.shards.items():
            rewound = replace(row, checkpoint=None, offset=None, offsets={}, ended=False, caught_up_at=None)
            self.put("stream", replace(rewound, incarnation=f"new-{shard_id}"))

    def delete(self, _: StreamState) -> None:
        """Delete the table, which another drain makes anew."""
        self._shards.clear()

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

    store.taken, store.reset = [], store.rewind
    drain(source, store)

    assert store.taken[0] == FIRST
    assert sorted(store.taken) == [FIRST, *children]


def test_a_table_that_is_deleted_behind_a_drain_is_begun_anew_with_all_shards() -> None:
    source, store = FakeSource(), Store()
    source.put(FIRST, b"1")
    drain(source, store)
    children = source.split(FIRST)

    store.taken, store.reset = [], store.delete
    drain(source, store)

    assert store.taken[0] == FIRST
    assert sorted(store.taken) == [FIRST, *children]
    rows = store.read_state("stream").shards
    assert rows.keys() == {FIRST, *children}
    assert rows[FIRST].initial_shards == {FIRST, *children}
