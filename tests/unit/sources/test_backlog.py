"""When a drain is started again that may have been started in vain."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.sources.backlog import Mark, RefireBackoff, being_drained, mark_of
from airflow_kinesis_snowflake.state.shards import ShardState, StreamState
from airflow_kinesis_snowflake.stream.positions import Position

HOUR = 3600


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
