"""What the engine may expect of every state store: of DynamoDB, on two stand-ins for it, and of the fake."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.exceptions import FencedError
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.state.shards import ShardState, StreamState
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position
from airflow_kinesis_snowflake.testing.store import FakeStateStore
from tests.moto import dynamodb_inside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_kinesis_snowflake.engine.ports import StateStore

STREAM, SHARD, INSIDE = "stream", "shardId-000000000000", Position("123", 4)
LEASE = {"expiry": 2_000, "now": 1_000}
LATER: dict[str, Any] = {"expiry": 3_000, "now": 1_500}


@pytest.fixture
def in_memory() -> FakeStateStore:
    return FakeStateStore()


@pytest.fixture
def in_dynamodb(services: object, application_name: str) -> Iterator[CheckpointStoreHook]:
    hook = CheckpointStoreHook(application_name)
    yield hook
    hook.delete_table()


@pytest.fixture
def in_moto(application_name: str) -> Iterator[CheckpointStoreHook]:
    with dynamodb_inside():
        yield CheckpointStoreHook(application_name)


@pytest.fixture(params=["in_memory", "in_moto", "in_dynamodb"])
def unmade(request: pytest.FixtureRequest) -> StateStore:
    """A store in which nothing was made."""
    found: StateStore = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def store(unmade: StateStore) -> StateStore:
    """A store with the row of a shard that nobody has leased."""
    unmade.create_table()
    assert create(unmade)
    return unmade


@pytest.fixture
def leased(store: StateStore) -> StateStore:
    """A store with the row of a shard that ``one`` has leased."""
    assert take(store, "one")
    return store


def create(store: StateStore, *, incarnation: str = "first", **facts: Any) -> bool:
    told: dict[str, Any] = {
        "start_at": TRIM_HORIZON,
        "parents": ["p"],
        "stream_created": 7,
        "sink": "copy",
        **facts,
    }
    return store.create_shard(STREAM, SHARD, incarnation=incarnation, **told)


def row(store: StateStore) -> ShardState:
    return store.read_state(STREAM).shards[SHARD]


def take(store: StateStore, owner: str, seen: ShardState | None = None, **how: Any) -> ShardState | None:
    return store.take_lease(
        STREAM, seen or row(store), owner=owner, **{"incarnation": "other", "sink": "copy", **LEASE, **how}
    )


def save(store: StateStore, owner: str, checkpoint: Position | None, **facts: Any) -> bool:
    return store.save_checkpoint(STREAM, SHARD, owner=owner, checkpoint=checkpoint, **{**LATER, **facts})


# --- rows --------------------------------------------------------------------------------------------------


def test_room_is_made_once(unmade: StateStore) -> None:
    assert not unmade.exists()
    unmade.create_table()
    unmade.create_table()
    assert unmade.exists()
    assert unmade.read_state(STREAM) == StreamState()


def test_a_row_is_made_with_what_it_is_told(unmade: StateStore) -> None:
    unmade.create_table()
    assert create(unmade, initial_shards=["a", "b"], caught_up_at=5, sink="streaming")
    assert row(unmade) == ShardState(
        SHARD,
        start_at=TRIM_HORIZON,
        parents=("p",),
        incarnation="first",
        stream_created=7,
        caught_up_at=5,
        initial_shards=frozenset("ab"),
        initial_start=TRIM_HORIZON,
        sinks=frozenset({"streaming"}),
    )


def test_a_row_that_is_there_stays(leased: StateStore) -> None:
    before = row(leased)
    assert not create(leased, incarnation="second")
    assert row(leased) == before


def test_who_asks_again_for_a_row_has_made_it(store: StateStore) -> None:
    assert create(store)


def test_rows_belong_to_one_stream(store: StateStore) -> None:
    assert store.read_state("another") == StreamState()


def test_a_row_is_forgotten_only_at_its_end_and_without_a_lease(leased: StateStore) -> None:
    assert not leased.forget_shard(STREAM, SHARD)
    assert leased.release_lease(STREAM, SHARD, owner="one", now=1_500)
    assert not leased.forget_shard(STREAM, SHARD)
    assert take(leased, "one")
    assert leased.release_lease(STREAM, SHARD, owner="one", now=1_600, ended=True)

    assert leased.forget_shard(STREAM, SHARD)
    assert leased.read_state(STREAM).shards == {}
    assert leased.forget_shard(STREAM, SHARD)


def test_a_row_is_withdrawn_only_before_anybody_has_leased_it(store: StateStore) -> None:
    assert not store.withdraw_shard(STREAM, SHARD, incarnation="another")
    assert take(store, "one")
    assert store.release_lease(STREAM, SHARD, owner="one", now=1_500)
    assert not store.withdraw_shard(STREAM, SHARD, incarnation="first")


def test_who_withdraws_a_row_again_has_done_so(store: StateStore) -> None:
    assert store.withdraw_shard(STREAM, SHARD, incarnation="first")
    assert store.read_state(STREAM) == StreamState()
    assert store.withdraw_shard(STREAM, SHARD, incarnation="first")


# --- leases ------------------------------------------------------------------------------------------------


def test_a_free_lease_is_taken_and_the_row_is_told(store: StateStore) -> None:
    taken = take(store, "one", sink="streaming")
    assert taken == row(store)
    assert taken is not None
    assert (taken.lease_owner, taken.lease_expiry, taken.last_update) == ("one", 2_000, 1_000)
    assert (taken.incarnation, taken.sinks) == ("first", frozenset({"streaming"}))


def test_of_several_workers_one_gets_a_lease(store: StateStore) -> None:
    seen = row(store)
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda number: take(store, f"{number}", seen), range(8)))
    assert sum(each is not None for each in taken) == 1


def test_who_asks_again_has_the_lease(leased: StateStore) -> None:
    assert take(leased, "one", **LATER)
    assert row(leased).lease_expiry == 3_000


def test_a_lease_that_is_as_it_was_read_is_taken(leased: StateStore) -> None:
    seen = row(leased)
    taken = take(leased, "other", seen, **LATER)
    assert taken is not None
    assert taken.lease_owner == "other"


def test_a_lease_that_was_renewed_since_stays_but_for_a_successor(leased: StateStore) -> None:
    seen = row(leased)
    assert leased.renew_lease(STREAM, SHARD, owner="one", expiry=2_500, now=1_200)
    assert take(leased, "other", seen) is None
    assert row(leased).lease_owner == "one"

    assert take(leased, "other", seen, predecessor=True) is not None


def test_a_successor_takes_no_lease_of_a_third(leased: StateStore) -> None:
    seen = row(leased)
    assert take(leased, "third", seen)
    assert take(leased, "other", seen, predecessor=True) is None


def test_a_row_that_was_reset_since_it_was_read_stays(store: StateStore) -> None:
    """Its parents may have been reset as well, so that it mustn't be read yet."""
    for seen in ("before", None):
        assert take(store, "one", replace(row(store), incarnation=seen)) is None


def test_who_asks_again_has_given_the_incarnation(store: StateStore) -> None:
    seen = replace(row(store), incarnation=None)
    assert take(store, "one", seen, incarnation="first")


def test_no_lease_without_a_row(store: StateStore) -> None:
    assert take(store, "one", ShardState("shardId-000000000009")) is None


def test_the_first_lease_says_whose_the_row_is_and_another_stream_gets_none(store: StateStore) -> None:
    taken = take(store, "one", stream_arn="arn:here")
    assert taken is not None
    assert taken.stream_arn == "arn:here"
    assert take(store, "one", stream_arn="arn:there", **LATER) is None
    assert take(store, "one", stream_arn="arn:here") is not None


def test_a_lease_is_renewed_by_its_owner_with_what_there_is_to_tell(leased: StateStore) -> None:
    assert leased.renew_lease(STREAM, SHARD, owner="one", millis_behind=5, caught_up_at=900, **LATER)
    now = row(leased)
    assert (now.lease_expiry, now.last_update, now.millis_behind, now.caught_up_at) == (3_000, 1_500, 5, 900)
    assert leased.renew_lease(STREAM, SHARD, owner="one", **LATER)
    assert row(leased) == now


@pytest.mark.parametrize("lost", ["taken", "released", "forgotten"])
def test_who_has_lost_a_lease_writes_nothing(leased: StateStore, lost: str) -> None:
    if lost == "taken":
        assert take(leased, "other")
    else:
        assert leased.release_lease(STREAM, SHARD, owner="one", now=1_100, ended=True)
    if lost == "forgotten":
        assert leased.forget_shard(STREAM, SHARD)
    before = leased.read_state(STREAM)

    assert not leased.renew_lease(STREAM, SHARD, owner="one", **LATER)
    assert not save(leased, "one", INSIDE, offset=INSIDE, sink="streaming")
    assert not leased.release_lease(STREAM, SHARD, owner="one", now=1_500)
    assert leased.read_state(STREAM) == before


def test_a_lease_is_given_back_with_the_last_facts(leased: StateStore) -> None:
    told: dict[str, Any] = {"ended": True, "unsettled": True, "millis_behind": 6, "caught_up_at": 901}
    assert leased.release_lease(STREAM, SHARD, owner="one", now=1_500, **told)
    now = row(leased)
    assert (now.lease_owner, now.lease_expiry, now.last_update) == (None, None, 1_500)
    assert (now.ended, now.unsettled, now.millis_behind, now.caught_up_at) == (True, True, 6, 901)
    assert leased.release_lease(STREAM, SHARD, owner="one", now=1_500, **told)


# --- checkpoints -------------------------------------------------------------------------------------------


def test_a_checkpoint_is_saved_by_the_owner_and_renews_the_lease(leased: StateStore) -> None:
    assert save(leased, "one", INSIDE, millis_behind=3)
    now = row(leased)
    assert (now.checkpoint, now.lease_expiry, now.millis_behind) == (INSIDE, 3_000, 3)
    assert save(leased, "one", INSIDE, millis_behind=3)
    assert row(leased) == now


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Position("99"), Position("100")),
        (Position("123", 4), Position("123", 5)),
        (Position("123", 4), Position("123")),
        (Position("123", 4), Position("124", 0)),
    ],
)
def test_a_checkpoint_moves_on_and_not_back(leased: StateStore, before: Position, after: Position) -> None:
    assert save(leased, "one", before)
    assert save(leased, "one", after)
    with pytest.raises(FencedError):
        save(leased, "one", before)
    assert row(leased).checkpoint == after


def test_no_checkpoint_leaves_the_saved_one(leased: StateStore) -> None:
    assert save(leased, "one", INSIDE)
    assert save(leased, "one", None)
    assert row(leased).checkpoint == INSIDE


def test_a_doubt_ends_with_the_next_checkpoint(leased: StateStore) -> None:
    assert leased.release_lease(STREAM, SHARD, owner="one", now=1_100, unsettled=True)
    taken = take(leased, "two", sink=None)
    assert taken is not None
    assert taken.unsettled
    assert leased.renew_lease(STREAM, SHARD, owner="two", **LATER)
    assert row(leased).unsettled
    assert save(leased, "two", None)
    assert not row(leased).unsettled


def test_who_commits_otherwise_takes_no_lease_of_a_row_in_doubt(leased: StateStore) -> None:
    assert leased.release_lease(STREAM, SHARD, owner="one", now=3, unsettled=True)
    assert take(leased, "two", sink="streaming") is None
    assert row(leased).sinks == {"copy"}

    assert take(leased, "two", sink=None)
    assert leased.save_checkpoint(STREAM, SHARD, owner="two", checkpoint=None, expiry=9, now=4, sink="copy")
    assert leased.release_lease(STREAM, SHARD, owner="two", now=5)
    assert take(leased, "three", sink="streaming")
    assert row(leased).sinks == {"streaming"}


def test_who_read_a_row_before_another_sink_left_it_in_doubt_takes_no_lease(leased: StateStore) -> None:
    assert leased.release_lease(STREAM, SHARD, owner="one", now=3)
    assert take(leased, "two", sink="streaming")
    assert leased.release_lease(STREAM, SHARD, owner="two", now=4)
    read = row(leased)
    assert take(leased, "three", sink="copy")
    assert leased.release_lease(STREAM, SHARD, owner="three", now=5, unsettled=True)

    assert read.sinks == {"streaming"}
    assert take(leased, "four", seen=read, sink="streaming") is None
    assert take(leased, "five", seen=read)


def test_the_first_lease_of_a_row_from_before_there_were_sinks_says_who_loads(unmade: StateStore) -> None:
    """Only COPY can have loaded under it. With its ARN it would look as if nobody had."""
    unmade.create_table()
    assert create(unmade, sink=None)
    assert take(unmade, "one", stream_arn="arn")
    assert row(unmade).sinks == {"copy"}
    assert unmade.release_lease(STREAM, SHARD, owner="one", now=3, unsettled=True)
    assert take(unmade, "two", sink="streaming") is None


def test_a_row_under_which_nobody_has_loaded_is_in_doubt_for_nobody(unmade: StateStore) -> None:
    unmade.create_table()
    assert create(unmade, sink=None, stream_arn="arn")
    assert take(unmade, "one", sink=None)
    assert unmade.release_lease(STREAM, SHARD, owner="one", now=3, unsettled=True)
    assert take(unmade, "two", sink="streaming")


def test_each_sink_has_an_offset_of_its_own(leased: StateStore) -> None:
    further = Position("124")
    assert save(leased, "one", INSIDE, offset=INSIDE, sink="copy")
    assert save(leased, "one", further, offset=further, sink="streaming")
    assert save(leased, "one", further, sink="streaming")

    now = row(leased)
    assert (now.committed_by("copy"), now.committed_by("streaming")) == (INSIDE, further)
    assert now.committed_by("another") is None


def test_it_is_remembered_when_each_sink_committed(leased: StateStore) -> None:
    assert save(leased, "one", INSIDE, offset=INSIDE, sink="streaming", committed_at=7)
    assert save(leased, "one", INSIDE, offset=INSIDE, sink="streaming")
    assert save(leased, "one", INSIDE, offset=INSIDE, sink="copy")
    assert row(leased).committed_at == {"streaming": 7}


def test_what_is_not_told_stays_when_a_lease_is_taken(leased: StateStore) -> None:
    assert save(leased, "one", INSIDE, offset=INSIDE, sink="copy", millis_behind=4)
    assert leased.release_lease(STREAM, SHARD, owner="one", now=1_600)
    taken = take(leased, "two")
    assert taken is not None
    assert (taken.checkpoint, taken.offset, taken.incarnation, taken.millis_behind) == (
        INSIDE,
        INSIDE,
        "first",
        4,
    )


# --- workers -----------------------------------------------------------------------------------------------


def test_a_worker_is_there_from_its_first_heartbeat_until_it_leaves(store: StateStore) -> None:
    assert store.heartbeat(STREAM, "one", now=5)
    assert store.heartbeat(STREAM, "one", now=6, again=True)
    assert store.read_state(STREAM).workers == {"one": 6}
    store.leave(STREAM, "one")
    store.leave(STREAM, "one")
    assert store.read_state(STREAM).workers == {}


def test_a_late_heartbeat_brings_nobody_back(store: StateStore) -> None:
    assert not store.heartbeat(STREAM, "one", now=6, again=True)
    assert store.read_state(STREAM).workers == {}


def test_a_worker_is_forgotten_unless_it_gave_a_sign_since(store: StateStore) -> None:
    assert store.heartbeat(STREAM, "one", now=5)
    assert not store.forget_worker(STREAM, "one", heartbeat=4)
    assert store.forget_worker(STREAM, "one", heartbeat=5)
    assert store.forget_worker(STREAM, "one", heartbeat=5)
    assert store.read_state(STREAM).workers == {}
