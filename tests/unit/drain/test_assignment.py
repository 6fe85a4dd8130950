"""Which shards a worker leases, hands over, and leaves to others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.drain.assignment import (
    HEARTBEAT_MILLIS,
    Assignment,
    assign,
    fair_share,
    live_workers,
)
from airflow_kinesis_snowflake.drain.settings import Worker
from airflow_kinesis_snowflake.hooks.checkpoint import ShardState, StreamState

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = 1_700_000_000_000
ME = Worker("dag/run/task/0", "2-mine")
PREDECESSOR = "dag/run/task/0#1-before"
SUCCESSOR = "dag/run/task/0#3-after"
OTHER = "dag/run/task/1#1-other"


def shard(shard_id: str, owner: str | None = None, *, expires_in: int = 10_000, **facts: Any) -> ShardState:
    expiry = None if owner is None else NOW + expires_in
    return ShardState(shard_id, lease_owner=owner, lease_expiry=expiry, **facts)


def state_of(shards: Iterable[ShardState], *workers: str) -> StreamState:
    return StreamState({shard.shard_id: shard for shard in shards}, dict.fromkeys((ME.id, *workers), NOW))


def assigned(
    state: StreamState, *, held: Iterable[str] = (), readable: Iterable[str] | None = None
) -> Assignment:
    return assign(
        state,
        readable=frozenset(state.shards if readable is None else readable),
        held=frozenset(held),
        worker=ME,
        drain_until=NOW,
        now=NOW,
    )


def taken(assignment: Assignment) -> dict[str, bool]:
    """The shards to take, in order, and whether each is a takeover."""
    return {candidate.state.shard_id: candidate.takeover for candidate in assignment.take}


# --- live workers and their shares -------------------------------------------------------------------------


def test_a_worker_counts_itself_whether_it_has_a_row_or_not() -> None:
    assert live_workers({}, worker=ME, now=NOW) == live_workers({ME.id: NOW}, worker=ME, now=NOW) == 1


@pytest.mark.parametrize(
    ("worker", "age", "count"),
    [
        pytest.param(OTHER, 0, 2, id="another task"),
        pytest.param("6fdc6fe2-7ff3-4c5b", 0, 2, id="a node of the Openflow connector"),
        pytest.param(OTHER, HEARTBEAT_MILLIS - 1, 2, id="just alive"),
        pytest.param(OTHER, HEARTBEAT_MILLIS, 1, id="just dead"),
        pytest.param(PREDECESSOR, 0, 1, id="an earlier try of the same task"),
    ],
)
def test_a_worker_is_alive_for_forty_seconds_after_its_heartbeat(worker: str, age: int, count: int) -> None:
    assert live_workers({worker: NOW - age}, worker=ME, now=NOW) == count


@pytest.mark.parametrize(("shards", "workers", "share"), [(4, 2, 2), (5, 2, 3), (1, 3, 1), (0, 3, 0)])
def test_a_share_is_rounded_up(shards: int, workers: int, share: int) -> None:
    assert fair_share([shard(str(number)) for number in range(shards)], workers=workers) == share


def test_ended_shards_are_in_nobodys_share() -> None:
    assert fair_share([shard("a"), shard("b", ended=True)], workers=1) == 1


@given(st.integers(0, 50), st.integers(1, 20))
def test_the_shares_of_all_workers_cover_all_shards_and_none_is_a_shard_too_large(
    shards: int, workers: int
) -> None:
    share = fair_share([shard(str(number)) for number in range(shards)], workers=workers)
    assert share * workers >= shards
    assert (share - 1) * workers < shards


# --- what is taken -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "takeover"),
    [
        pytest.param(shard("a"), False, id="free"),
        pytest.param(shard("a", unsettled=True), True, id="free, with a commit of unknown outcome"),
        pytest.param(shard("a", caught_up_at=NOW - 1), False, id="drained a moment too early"),
        pytest.param(shard("a", OTHER, expires_in=-1), True, id="expired"),
        pytest.param(shard("a", PREDECESSOR), True, id="of an earlier try"),
        pytest.param(shard("a", ME.id), True, id="its own, taken by a call whose answer was lost"),
        pytest.param(ShardState("a", lease_owner=OTHER), True, id="without an expiry"),
    ],
)
def test_what_may_be_leased_is_taken(row: ShardState, takeover: bool) -> None:
    assert taken(assigned(state_of([row]))) == {"a": takeover}


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(shard("a", OTHER), id="leased by another worker"),
        pytest.param(shard("a", OTHER, expires_in=0), id="its lease ends this very millisecond"),
        pytest.param(shard("a", SUCCESSOR), id="leased by a later try of the same task"),
    ],
)
def test_what_others_hold_is_left_to_them_and_watched(row: ShardState) -> None:
    assignment = assigned(state_of([row]))
    assert taken(assignment) == {}
    assert assignment.held_by_others == (row,)


def test_what_somebody_drained_far_enough_needs_no_reading() -> None:
    assignment = assigned(state_of([shard("a", caught_up_at=NOW)]))
    assert taken(assignment) == {}
    assert assignment.held_by_others == ()


def test_what_lineage_forbids_or_is_held_already_is_not_taken() -> None:
    state = state_of([shard("held", ME.id), shard("child"), shard("free")])
    assert taken(assigned(state, held=["held"], readable=["held", "free"])) == {"free": False}


def test_shards_of_an_earlier_try_come_first_then_expired_ones_then_free_ones() -> None:
    state = state_of([shard("free"), shard("expired", OTHER, expires_in=-1), shard("mine", PREDECESSOR)])
    assert list(taken(assigned(state))) == ["mine", "expired", "free"]


def test_no_more_than_a_share_is_taken_and_the_rest_is_said() -> None:
    assignment = assigned(state_of([shard(name) for name in "abcde"], OTHER))
    assert (len(assignment.take), assignment.left_over) == (3, 2)


def test_what_a_worker_holds_beyond_its_share_is_to_be_handed_over() -> None:
    assignment = assigned(state_of([shard(name, ME.id) for name in "abcd"], OTHER), held="abcd")
    assert assignment.surplus == 2


def test_a_worker_may_expect_what_others_hold_beyond_theirs() -> None:
    assignment = assigned(state_of([shard(name, OTHER) for name in "abcd"], OTHER))
    assert (assignment.take, assignment.owed) == ((), 2)


rows = st.builds(
    shard,
    st.uuids().map(str),
    st.sampled_from([None, None, ME.id, OTHER, PREDECESSOR, SUCCESSOR]),
    expires_in=st.integers(-2, 2),
    caught_up_at=st.none() | st.integers(NOW - 1, NOW + 1),
    unsettled=st.booleans(),
    ended=st.booleans(),
)


@given(st.lists(rows, max_size=12), st.data())
def test_whatever_the_rows_are_each_readable_shard_is_dealt_with_once(
    shards: list[ShardState], data: st.DataObject
) -> None:
    state = state_of(shards, *data.draw(st.sets(st.sampled_from([OTHER, SUCCESSOR]))))
    unfinished = [row.shard_id for row in shards if not row.ended]
    readable = data.draw(st.sets(st.sampled_from(unfinished))) if unfinished else set()
    own = [row.shard_id for row in shards if row.lease_owner == ME.id and not row.ended]
    held = data.draw(st.sets(st.sampled_from(own))) if own else set()

    assignment = assigned(state, held=held, readable=readable)

    chosen = {candidate.state.shard_id for candidate in assignment.take}
    watched = {row.shard_id for row in assignment.held_by_others}
    drained = {
        row.shard_id
        for row in shards
        if row.lease_owner is None and row.caught_up_at is not None and row.caught_up_at >= NOW
    }
    assert chosen.isdisjoint(watched)
    assert chosen | watched <= readable - held
    assert len(chosen) + len(watched) + assignment.left_over == len(readable - held - drained)
    share = fair_share(shards, workers=live_workers(state.workers, worker=ME, now=NOW))
    assert len(held) + len(chosen) <= max(share, len(held))
    assert len(held) - assignment.surplus <= share
