"""The comparison of a shard with what its stream still has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.audit.counts import Incarnation, ShardCounts
from airflow_kinesis_snowflake.audit.retained import EXAMPLES, DueRecords, RetainedRecord, compare, due
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position, StartAt, encode_position

START = StartAt(datetime.fromtimestamp(5, UTC))


def code(number: int) -> str:
    return encode_position(Position(str(number), 0))


def record(number: int) -> RetainedRecord:
    """A record that arrived as many seconds after the epoch as its number."""
    return RetainedRecord(code(number), number * 1000)


def everything(through: int = 1000) -> DueRecords:
    return DueRecords(through=encode_position(Position(str(through))), start=TRIM_HORIZON, first=None)


NUMBERS = st.sets(st.integers(1, 200), max_size=30).map(sorted)


@given(NUMBERS, NUMBERS)
def test_a_merge_finds_what_sets_find(stream: list[int], there: list[int]) -> None:
    found = compare("s", map(record, stream), map(code, there), everything())

    within = {number for number in there if stream and stream[0] <= number <= stream[-1]}
    assert found.compared == len(stream)
    assert found.missing == len(set(stream) - set(there))
    assert found.foreign == len(within - set(stream))
    assert found.missing_examples == tuple(map(code, sorted(set(stream) - set(there))))[:EXAMPLES]


@given(st.integers(1, 30), NUMBERS)
def test_what_is_after_the_committed_position_is_not_due(through: int, stream: list[int]) -> None:
    found = compare("s", map(record, stream), (), everything(through))
    assert found.missing == sum(number <= through for number in stream)


def test_what_arrived_before_the_start_is_due_only_if_an_earlier_incarnation_loaded_there() -> None:
    def missing(**facts: Any) -> list[int]:
        known: dict[str, Any] = {"through": code(9), "start": START, "first": code(2)}
        wanted = DueRecords(**known | facts)
        return [number for number in range(12) if wanted.includes(record(number))]

    assert missing() == [5, 6, 7, 8, 9]
    assert missing(replaced_through=code(3)) == [2, 3, 5, 6, 7, 8, 9]
    assert missing(start=None) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert missing(start=None, first=None) == []


def test_what_is_due_follows_from_offsets_and_rows_of_state() -> None:
    def row(incarnation: str, position: str | None) -> Incarnation:
        at = None if position is None else Position(position)
        return Incarnation(application="a", incarnation=incarnation, position=at, records=1)

    counts = ShardCounts(
        shard_id="s", first=code(2), incarnations=(row("old", "7"), row("new", "5"), row("none", None))
    )
    state = ShardState("s", checkpoint=Position("8"), start_at=START, incarnation="new")

    found = due(counts, [state])

    assert found.start == START
    assert found.first == code(2)
    assert found.through == encode_position(Position("8"))
    assert found.replaced_through == encode_position(Position("7"))
    assert due(counts, []).start is None
