"""Which state rows a shard list calls for, and where they start."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.engine.rows import (
    NEWBORN_MILLIS,
    SETTLED_MILLIS,
    MissingRow,
    caught_up_by,
    contradiction,
    founding_rows,
    missing_rows,
    orphans,
)
from airflow_kinesis_snowflake.state.shards import ShardState, StreamState
from airflow_kinesis_snowflake.stream.lineage import Shard
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, StartAt

FIRST_RUN = StartAt(datetime(2026, 3, 4, tzinfo=UTC))
LATER = StartAt(datetime(2026, 3, 5, tzinfo=UTC))


def listing(family: str) -> list[Shard]:
    """``"a a>b ab>c"``: a has no parents, b descends from a, c from a and b."""
    return [Shard(word[-1], tuple(word[:-2])) for word in family.split()]


def made(state: StreamState, row: MissingRow) -> StreamState:
    """The state once the row is there."""
    shard_id = row.shard.shard_id
    shard = ShardState(
        shard_id,
        start_at=row.start_at,
        parents=row.shard.parents,
        incarnation="made",
        stream_created=1,
        initial_shards=frozenset(row.initial_shards),
    )
    return StreamState({**state.shards, shard_id: shard})


def completed(listed: list[Shard], *, initial: StartAt, state: StreamState) -> StreamState:
    """The state once nothing is missing any more."""
    for _ in range(len(listed) + 1):
        for row in missing_rows(listed, state, initial=initial):
            state = made(state, row)
    assert missing_rows(listed, state, initial=initial) == []
    return state


def test_of_shards_that_appear_later_all_counts_that_came_since_they_were_made() -> None:
    made_at = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    number = str(int(f"2{int(made_at.timestamp()):09x}10{'0' * 15}00{0:09x}{0:07x}12", 16))
    child = replace(Shard("b", ("a",)), starting_sequence_number=number)
    state = completed(listing("a"), initial=FIRST_RUN, state=StreamState())
    (row,) = missing_rows([*listing("a"), child], state, initial=FIRST_RUN)
    assert row == MissingRow(
        child, TRIM_HORIZON, caught_up_at=int(made_at.timestamp() * 1000) - NEWBORN_MILLIS
    )
    (row,) = missing_rows([child], StreamState(), initial=FIRST_RUN)
    assert row.caught_up_at is None


def starts(state: StreamState) -> dict[str, StartAt | None]:
    return {shard_id: row.start_at for shard_id, row in state.shards.items()}


def test_the_first_row_of_an_application_names_all_shards_that_start_with_it() -> None:
    (row,) = missing_rows(listing("b>c a a>b"), StreamState(), initial=FIRST_RUN)
    assert (row.shard.shard_id, row.start_at, row.initial_shards) == ("a", FIRST_RUN, ("a", "b", "c"))


def test_all_shards_of_the_first_run_start_where_it_says() -> None:
    state = completed(listing("a b a>c"), initial=FIRST_RUN, state=StreamState())
    assert starts(state) == dict.fromkeys("abc", FIRST_RUN)


def test_whoever_completes_a_first_run_that_died_starts_the_shards_where_that_run_said() -> None:
    founder = ShardState("a", start_at=FIRST_RUN, initial_shards=frozenset("abc"))
    state = completed(listing("a b c"), initial=LATER, state=StreamState({"a": founder}))
    assert starts(state) == dict.fromkeys("abc", FIRST_RUN)


def test_a_reset_of_the_founder_moves_no_other_shard_of_a_first_run_that_died() -> None:
    founder = ShardState("a", start_at=LATER, initial_shards=frozenset("ab"), initial_start=FIRST_RUN)
    state = completed(listing("a b"), initial=LATER, state=StreamState({"a": founder}))
    assert starts(state) == {"a": LATER, "b": FIRST_RUN}


def test_shards_that_appear_before_a_first_run_is_complete_wait_until_it_is() -> None:
    founder = ShardState("a", start_at=FIRST_RUN, initial_shards=frozenset("ab"))
    rows = missing_rows(listing("a b b>c"), StreamState({"a": founder}), initial=LATER)
    assert [row.shard.shard_id for row in rows] == ["b"]


def test_shards_that_appear_later_start_at_their_beginning() -> None:
    state = completed(listing("a b"), initial=FIRST_RUN, state=StreamState())
    state = completed(listing("a b a>c a>d"), initial=LATER, state=state)
    assert starts(state) == {"a": FIRST_RUN, "b": FIRST_RUN, "c": TRIM_HORIZON, "d": TRIM_HORIZON}


def test_a_founding_shard_that_has_left_the_list_gets_no_row() -> None:
    founder = ShardState("a", start_at=FIRST_RUN, initial_shards=frozenset("ab"))
    assert founding_rows(listing("a b>c"), StreamState({"a": founder})) == []


def test_rows_without_a_founder_call_for_none_of_the_past() -> None:
    """As an import leaves them."""
    table = StreamState({"b": ShardState("b", stream_created=1)})
    assert missing_rows(listing("a a>b"), table, initial=FIRST_RUN) == []


def rows_of(family: str, **facts: Any) -> StreamState:
    """Rows that nobody has leased, written as :func:`listing` takes them."""
    return StreamState(
        {
            word[-1]: ShardState(word[-1], parents=tuple(word[:-2]), **{"incarnation": "made", **facts})
            for word in family.split()
        }
    )


@pytest.mark.parametrize(
    ("listed", "rows", "found"),
    [
        ("a a>b b>c", "a>b b>c", "bc"),
        ("a a>b b>c", "a a>b b>c", ""),
        ("a b ab>c", "b ab>c", "c"),
        # The parent has left the list, and its row is no longer needed.
        ("a>b b>c", "a>b b>c", ""),
    ],
)
def test_rows_are_orphans_whose_parents_would_have_been_made_before(
    listed: str, rows: str, found: str
) -> None:
    assert orphans(listing(listed), rows_of(rows)) == set(found)


@pytest.mark.parametrize(
    "facts", [{"last_update": 7}, {"initial_shards": frozenset("bc")}, {"incarnation": None}]
)
def test_no_row_is_an_orphan_that_was_leased_or_that_a_first_run_named(facts: dict[str, Any]) -> None:
    assert orphans(listing("a a>b b>c"), rows_of("a>b b>c", **facts)) == set()


def test_no_row_is_an_orphan_whose_parents_were_before_the_start() -> None:
    """As an import leaves it that found a row of one child only."""
    imported = ShardState("b", parents=("a",), last_update=7, stream_created=1)
    state = StreamState({**rows_of("a>c", stream_created=1).shards, "b": imported})
    assert orphans(listing("a a>b a>c"), state) == set()


@given(st.integers(1, 8), st.integers(0, 3), st.data())
def test_drains_make_no_orphans_and_withdrawing_some_comes_to_an_end(
    count: int, taken: int, data: st.DataObject
) -> None:
    """Whatever rows there are: those that are made next, one after another, are none."""
    names = "abcdefgh"[:count]
    listed = [
        Shard(name, tuple(data.draw(st.sets(st.sampled_from(names[:at]), max_size=2)) if at else ()))
        for at, name in enumerate(names)
    ]
    rows = {
        name: ShardState(
            name,
            last_update=7 if name in names[:taken] else None,
            incarnation="made",
            stream_created=1,
        )
        for name in data.draw(st.sets(st.sampled_from(names), min_size=1))
    }
    state = StreamState(rows)
    gone = orphans(listed, state)
    state = StreamState({name: row for name, row in rows.items() if name not in gone})
    assert orphans(listed, state) == set()
    while missing := missing_rows(listed, state, initial=FIRST_RUN):
        for row in missing:
            state = made(state, row)
            assert orphans(listed, state) == set()


def test_no_row_is_an_orphan_whose_parents_a_first_run_is_still_to_make() -> None:
    founder = ShardState("z", initial_shards=frozenset("az"))
    state = StreamState({**rows_of("a>b").shards, "z": founder})
    assert orphans(listing("a z a>b"), state) == set()


@given(st.integers(1, 8), st.data())
def test_death_at_any_row_of_a_first_run_changes_no_start(count: int, data: st.DataObject) -> None:
    shards = [str(number) for number in range(count)]
    listed = data.draw(
        st.permutations(
            [Shard(shard, tuple(shards[number - 1 : number])) for number, shard in enumerate(shards)]
        )
    )
    state = StreamState()
    for _ in range(data.draw(st.integers(0, count))):
        state = made(state, missing_rows(listed, state, initial=FIRST_RUN)[0])
        if len(state.shards) == count:
            break
    state = completed(listed, initial=LATER if state.shards else FIRST_RUN, state=state)
    assert starts(state) == dict.fromkeys(shards, FIRST_RUN)


def test_rows_that_another_consumer_left_out_start_where_the_user_says_unless_they_are_younger() -> None:
    table = StreamState({"b": ShardState("b"), "c": ShardState("c", stream_created=1)})
    rows = missing_rows(listing("a a>b b>d c x"), table, initial=LATER)
    assert {row.shard.shard_id: row.start_at for row in rows} == {"a": LATER, "d": TRIM_HORIZON, "x": LATER}


@pytest.mark.parametrize(
    ("at", "believed"), [(None, None), (0, 0), (1000, 1000), (1001, None), (-1, None), (10**30, None)]
)
def test_a_moment_that_is_still_to_come_counts_as_none(at: int | None, believed: int | None) -> None:
    assert caught_up_by(ShardState("a", caught_up_at=at), now=1000) == believed


NOW = 10**12


@pytest.mark.parametrize(
    ("row", "closed", "contradicts"),
    [
        pytest.param(ShardState("a", ended=True), False, True, id="read to the end, but open"),
        pytest.param(ShardState("a", ended=True), True, False, id="read to the end, and closed"),
        pytest.param(ShardState("a"), False, False, id="being read"),
        pytest.param(
            ShardState("a", ended=True, last_update=NOW - SETTLED_MILLIS + 1),
            False,
            False,
            id="closed just now",
        ),
        pytest.param(
            ShardState("a", ended=True, last_update=NOW - SETTLED_MILLIS), False, True, id="long ago"
        ),
        pytest.param(ShardState("a", ended=True, last_update=10**30), False, True, id="in a far future"),
    ],
)
def test_a_row_that_gives_up_an_open_shard_contradicts_the_stream(
    row: ShardState, closed: bool, contradicts: bool
) -> None:
    why = contradiction(row, Shard("a", closed=closed), now=NOW)
    assert (why is not None) is contradicts
