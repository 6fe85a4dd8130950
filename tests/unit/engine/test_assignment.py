"""Which shards a worker leases, hands over, and leaves to others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.engine.assignment import (
    CLOCKS_APART_MILLIS,
    HEARTBEAT_MILLIS,
    MAX_LEASE_MILLIS,
    Assignment,
    assign,
    describe_holders,
    fair_share,
    holders,
    is_leased,
    live_workers,
)
from airflow_kinesis_snowflake.engine.settings import Worker
from airflow_kinesis_snowflake.engine.watching import PeerActivity, Watch
from airflow_kinesis_snowflake.state.shards import ShardState, StreamState

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
    state: StreamState,
    *,
    held: Iterable[str] = (),
    readable: Iterable[str] | None = None,
    seen: PeerActivity | None = None,
) -> Assignment:
    return assign(
        state,
        readable=frozenset(state.shards if readable is None else readable),
        held=frozenset(held),
        worker=ME,
        drain_until=NOW,
        now=NOW,
        seen=seen,
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
        pytest.param(OTHER, -CLOCKS_APART_MILLIS, 2, id="its clock is ahead"),
        pytest.param(OTHER, -CLOCKS_APART_MILLIS - 1, 1, id="no clock is so far ahead"),
    ],
)
def test_a_worker_is_alive_for_forty_seconds_after_its_heartbeat(worker: str, age: int, count: int) -> None:
    assert live_workers({worker: NOW - age}, worker=ME, now=NOW) == count


def test_a_heartbeat_that_stands_still_is_that_of_a_dead_worker() -> None:
    ahead = {OTHER: NOW + CLOCKS_APART_MILLIS}
    watch = Watch()
    watch.look(StreamState({}, ahead), now=0.0)
    seen = watch.look(StreamState({}, ahead), now=HEARTBEAT_MILLIS / 1000)
    assert live_workers(ahead, worker=ME, now=NOW, seen=seen) == 1


def test_a_heartbeat_that_moves_is_that_of_a_live_worker_whatever_its_clock_says() -> None:
    watch = Watch()
    watch.look(StreamState({}, {OTHER: 1}), now=0.0)
    seen = watch.look(StreamState({}, {OTHER: 2}), now=10.0)
    assert live_workers({OTHER: 2}, worker=ME, now=NOW, seen=seen) == 2


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
        pytest.param(shard("a", caught_up_at=NOW + 1), False, id="drained in the future, by its row"),
        pytest.param(shard("a", caught_up_at=-(10**30)), False, id="drained before all times, by its row"),
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


# --- what is watched ---------------------------------------------------------------------------------------


def watched(*looks: tuple[float, ShardState]) -> Assignment:
    """What is assigned at the last of several looks, each at a moment of the own clock, in seconds."""
    watch = Watch()
    for at, row in looks:
        seen = watch.look(state_of([row], OTHER), now=at)
    return assigned(state_of([looks[-1][1]], OTHER), seen=seen)


def lease(ends_in: int, *, lasts: int = 30_000, owner: str = OTHER) -> ShardState:
    """A lease that ends in so many milliseconds, by its holder's clock."""
    return shard("a", owner, expires_in=ends_in, last_update=NOW + ends_in - lasts)


FAR = 10**15


@pytest.mark.parametrize(
    ("row", "seconds"),
    [
        pytest.param(lease(240_000), 35, id="its clock was ahead"),
        pytest.param(lease(FAR), 35, id="in microseconds"),
        pytest.param(shard("a", OTHER, expires_in=FAR), 35, id="in microseconds, without a last update"),
        pytest.param(shard("a", OTHER, expires_in=FAR, last_update=NOW), 35, id="for a thousand years"),
        pytest.param(lease(290_000, lasts=300_000), 305, id="given for five minutes"),
    ],
)
def test_a_lease_that_does_not_change_while_it_should_is_over(row: ShardState, seconds: int) -> None:
    assert taken(watched((0, row), (seconds - 1, row))) == {}
    assert taken(watched((0, row), (seconds, row))) == {"a": True}


def test_a_lease_that_is_renewed_is_alive_though_it_ended_by_our_clock() -> None:
    renewed = (0, lease(-240_000)), (10, lease(-230_000))
    assert taken(watched(*renewed)) == {}
    assert taken(watched(*renewed, (44, lease(-230_000)))) == {}
    assert taken(watched(*renewed, (45, lease(-230_000)))) == {"a": True}


def test_a_lease_that_changed_hands_is_watched_anew() -> None:
    looks = (0, lease(FAR)), (34, lease(FAR, owner="another"))
    assert taken(watched(*looks, (68, lease(FAR, owner="another")))) == {}
    assert taken(watched((0, lease(FAR)), (34, shard("a")), (68, lease(FAR)))) == {}


def test_it_is_unclear_whether_a_holder_lives_until_it_renews() -> None:
    assert watched((0, lease(20_000))).unclear
    assert watched((0, lease(20_000)), (9, lease(20_000))).unclear
    assert not watched((0, lease(20_000)), (9, lease(29_000))).unclear


def test_nothing_is_expected_of_a_worker_that_lets_nothing_go() -> None:
    watch = Watch()

    def owed(at: int, *, holding: str) -> int:
        rows = [shard(name, OTHER if name in holding else None, expires_in=10_000 + at) for name in "abcd"]
        state = StreamState({row.shard_id: row for row in rows}, {OTHER: NOW + at})
        return assigned(state, readable="bcd", seen=watch.look(state, now=at)).owed

    assert owed(0, holding="abcd") == 1
    assert owed(59, holding="abcd") == 1
    assert owed(60, holding="bcd") == 1
    assert owed(119, holding="bcd") == 1
    assert owed(120, holding="bcd") == 0


@pytest.mark.parametrize(
    ("row", "leased"),
    [
        (shard("a"), False),
        (shard("a", OTHER, expires_in=-1), False),
        (shard("a", OTHER, expires_in=0), True),
        (ShardState("a", lease_owner=OTHER), True),
        (shard("a", OTHER, expires_in=MAX_LEASE_MILLIS), True),
        (shard("a", OTHER, expires_in=MAX_LEASE_MILLIS + 1), False),
    ],
)
def test_a_lease_that_ends_too_late_to_be_one_is_not_believed(row: ShardState, leased: bool) -> None:
    assert is_leased(row, now=NOW) is leased


def test_holders_are_named_with_the_end_of_their_leases() -> None:
    rows = [
        shard("a", OTHER),
        shard("b", OTHER, expires_in=25_000),
        shard("c", "alone", expires_in=FAR),
        ShardState("d", lease_owner="endless"),
    ]
    assert holders(rows) == {OTHER: 2, "alone": 1, "endless": 1}
    assert describe_holders(rows, now=NOW) == (
        f"{OTHER} holds 2 until 2023-11-14 22:13:45 UTC, in 25 s; "
        f"alone holds 1 until {NOW + FAR} ms since 1970, in 1000000000000 s; endless holds 1"
    )


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
    drained = {row.shard_id for row in shards if row.lease_owner is None and row.caught_up_at == NOW}
    assert chosen.isdisjoint(watched)
    assert chosen | watched <= readable - held
    assert len(chosen) + len(watched) + assignment.left_over == len(readable - held - drained)
    share = fair_share(shards, workers=live_workers(state.workers, worker=ME, now=NOW))
    assert len(held) + len(chosen) <= max(share, len(held))
    assert len(held) - assignment.surplus <= share
