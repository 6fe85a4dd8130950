"""What is known after one look, and when a drain is started again that may have been started in vain."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.engine.settings import Worker
from airflow_kinesis_snowflake.sources.backlog import (
    SHARDS_PER_LOOK,
    Backlog,
    BacklogWatch,
    Mark,
    RefireBackoff,
    being_drained,
    mark_of,
)
from airflow_kinesis_snowflake.state.shards import ShardState, StreamState, TableFacts
from airflow_kinesis_snowflake.stream.lineage import Shard
from airflow_kinesis_snowflake.stream.positions import Position, StartAt
from airflow_kinesis_snowflake.stream.records import Page, Record

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.stream.facts import StreamFacts

HOUR = 3600
NOW = 10**12


@dataclass
class Stream:
    """A stream and the rows of its shards.

    :param rows: one for each shard
    :param with_record: the shard that has a record after its checkpoint
    """

    rows: list[ShardState]
    with_record: str | None = None
    stream_name: str = "orders"
    asked: list[str] = field(default_factory=list)

    def describe(self) -> StreamFacts:
        raise NotImplementedError

    def list_shards(self) -> tuple[Shard, ...]:
        return tuple(Shard(row.shard_id) for row in self.rows)

    def get_iterator(self, shard_id: str, start: Position | StartAt) -> str:
        return shard_id

    def get_iterator_at(self, shard_id: str, sequence_number: str) -> str:
        raise NotImplementedError

    def get_page(self, iterator: str, *, limit: int = 10_000) -> Page:
        self.asked.append(iterator)
        found = Record(sequence_number="6", approximate_arrival=1.0, data=b"{}")
        return Page((found,) if iterator == self.with_record else (), iterator, 0)

    def describe_table(self) -> TableFacts:
        return TableFacts(exists=True)

    def read_state(self, stream_name: str) -> StreamState:
        return StreamState({row.shard_id: row for row in self.rows})

    def look(self, worker: Worker | None = None) -> Backlog:
        return BacklogWatch(kinesis=self, store=self, worker=worker).look(now=NOW)


def rows(count: int) -> list[ShardState]:
    return [
        ShardState(f"shardId-{number:012}", checkpoint=Position("5"), stream_created=1)
        for number in range(count)
    ]


def leased_by(owner: str) -> ShardState:
    return ShardState("shardId-000000000000", lease_owner=owner, lease_expiry=NOW + 25_000, stream_created=1)


def test_a_stream_is_idle_if_all_its_shards_have_nothing_new() -> None:
    stream = Stream(rows(SHARDS_PER_LOOK))
    found = stream.look()
    assert found.idle
    assert not found.partial
    assert len(stream.asked) == SHARDS_PER_LOOK


def test_a_stream_is_not_idle_while_some_shards_were_not_asked() -> None:
    stream = Stream(rows(SHARDS_PER_LOOK + 1))
    found = stream.look()
    assert (found.reason, found.unclear, found.partial) == (None, False, True)
    assert not found.idle
    assert len(stream.asked) == SHARDS_PER_LOOK


@pytest.mark.parametrize(
    "worker", [None, Worker("task", "1-b"), Worker("task", "2-b"), Worker("other", "3-b")]
)
def test_a_stream_is_not_idle_while_somebody_else_has_a_lease(worker: Worker | None) -> None:
    stream = Stream([leased_by("task#2-a")])
    found = stream.look(worker)
    assert found.leased
    assert not found.idle
    assert stream.asked == []


def test_leases_of_earlier_tries_keep_nobody_from_asking() -> None:
    retry = Worker("task", "3-b")
    row = leased_by("task#2-a")
    assert Stream([row]).look(retry).idle
    assert Stream([row], with_record=row.shard_id).look(retry).reason == f"{row.shard_id} has records"


@pytest.mark.parametrize("found", [Backlog("new shards"), Backlog(None, unclear=True)])
def test_only_what_is_known_for_certain_makes_a_stream_idle(found: Backlog) -> None:
    assert not found.idle


def mark(number: int) -> Mark:
    return frozenset({("shardId-000000000000", Position(str(number)), False)})


def starts(marks: list[int], *, every: float) -> list[float]:
    """When drains are started, if one look after the other finds these marks."""
    patience = RefireBackoff()
    return [every * look for look, number in enumerate(marks) if patience.due(mark(number), now=every * look)]


def test_a_drain_that_got_on_is_followed_by_the_next_at_once() -> None:
    assert starts([1, 2, 3], every=30) == [0, 30, 60]


def test_a_drain_that_cannot_go_on_is_started_ever_more_rarely() -> None:
    minutes = [start / 60 for start in starts([1] * 5 * HOUR, every=1)]
    assert minutes == [0, 10, 30, 70, 130, 190, 250]


def test_getting_on_restores_patience() -> None:
    begun = starts([1] * HOUR + [2] * HOUR, every=1)
    assert [start for start in begun if start >= HOUR] == [HOUR, HOUR + 600, HOUR + 1800]


def test_making_rows_is_not_getting_on() -> None:
    def marked(**row: object) -> Mark:
        return mark_of(StreamState({"a": ShardState("a", **row)}))  # type: ignore[arg-type]

    assert marked() == mark_of(StreamState())
    assert len({marked(), marked(checkpoint=Position("1")), marked(ended=True)}) == 3


@given(st.lists(st.integers(0, 2), max_size=200))
def test_a_start_is_repeated_only_after_ten_minutes(marks: list[int]) -> None:
    begun = starts(marks, every=60)
    repeated = [
        later - earlier
        for earlier, later in pairwise(begun)
        if len(set(marks[int(earlier / 60) : int(later / 60) + 1])) == 1
    ]
    assert all(pause >= 600 for pause in repeated)


def test_a_lease_that_holds_says_that_a_drain_is_under_way() -> None:
    def drained(**lease: object) -> bool:
        row = ShardState("shardId-000000000000", **lease)  # type: ignore[arg-type]
        return being_drained(StreamState({row.shard_id: row}), now=1_000)

    assert drained(lease_owner="worker", lease_expiry=1_000)
    assert drained(lease_owner="worker")
    assert not drained(lease_owner="worker", lease_expiry=999)
    assert not drained(lease_owner="worker", lease_expiry=10**15)
    assert not drained()


def test_only_leases_of_others_say_so_to_a_retry() -> None:
    state = StreamState({"a": ShardState("a", lease_owner="task#1-a", lease_expiry=1_000)})
    assert not being_drained(state, now=1_000, worker=Worker("task", "2-b"))
    assert being_drained(state, now=1_000, worker=Worker("other", "2-b"))
