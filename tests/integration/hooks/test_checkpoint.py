"""The checkpoint hook against two stand-ins for DynamoDB: a service, and one inside of this process."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from airflow_kinesis_snowflake.exceptions import (
    CorruptStateError,
    FencedError,
    NotACheckpointTableError,
    ServiceRefusedError,
)
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.state.shards import ShardState, StreamState
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position, StartAt
from tests.moto import REGION, dynamodb_inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

STREAM = "orders"
SHARD = "shardId-000000000000"
LEASE: dict[str, Any] = {"expiry": 200, "now": 100}


@pytest.fixture(scope="module", params=["dynalite", "moto"])
def dynamodb(request: pytest.FixtureRequest) -> Iterator[DynamoDBClient]:
    """A plain client of the stand-in; Airflow's default connection leads there."""
    if request.param == "dynalite":
        yield request.getfixturevalue("services").dynamodb_client()
        return
    with dynamodb_inside():
        yield boto3.client("dynamodb", region_name=REGION)


@pytest.fixture
def unmade(application_name: str, dynamodb: DynamoDBClient) -> Iterator[CheckpointStoreHook]:
    """A hook whose table doesn't exist."""
    yield CheckpointStoreHook(application_name)
    if application_name in dynamodb.list_tables()["TableNames"]:
        dynamodb.delete_table(TableName=application_name)


@pytest.fixture(scope="module")
def made(dynamodb: DynamoDBClient) -> Iterator[CheckpointStoreHook]:
    hook = CheckpointStoreHook("checkpoint-hook-tests")
    hook.create_table()
    yield hook
    hook.delete_table()


@pytest.fixture
def store(made: CheckpointStoreHook, dynamodb: DynamoDBClient) -> CheckpointStoreHook:
    """A hook whose table has no rows."""
    for page in dynamodb.get_paginator("scan").paginate(TableName=made.application_name):
        for item in page["Items"]:
            key = {name: item[name] for name in ("streamName", "shardId")}
            dynamodb.delete_item(TableName=made.application_name, Key=key)
    return made


@pytest.fixture
def write(store: CheckpointStoreHook, dynamodb: DynamoDBClient) -> Callable[..., None]:
    """Function that writes a row as other software would."""

    def write_row(shard_id: str = SHARD, **attributes: dict[str, Any]) -> None:
        item = {"streamName": {"S": STREAM}, "shardId": {"S": shard_id}, **attributes}
        dynamodb.put_item(TableName=store.application_name, Item=item)

    return write_row


@pytest.fixture
def raw(store: CheckpointStoreHook, dynamodb: DynamoDBClient) -> Callable[[], dict[str, Any]]:
    """Function that reads the row of the shard as it is stored."""
    key = {"streamName": {"S": STREAM}, "shardId": {"S": SHARD}}
    return lambda: dynamodb.get_item(TableName=store.application_name, Key=key, ConsistentRead=True).get(
        "Item", {}
    )


def create(store: CheckpointStoreHook, **changes: Any) -> bool:
    row = {"start_at": TRIM_HORIZON, "parents": (), "incarnation": "first", "stream_created": 1, **changes}
    return store.create_shard(STREAM, SHARD, **row)


def state(store: CheckpointStoreHook) -> ShardState:
    return store.read_state(STREAM).shards[SHARD]


def take(
    store: CheckpointStoreHook, owner: str = "worker", seen: ShardState | None = None, **changes: Any
) -> ShardState | None:
    given = {"owner": owner, "incarnation": "other", **LEASE, **changes}
    return store.take_lease(STREAM, seen or ShardState(SHARD, incarnation=incarnation(store)), **given)


def incarnation(store: CheckpointStoreHook) -> str | None:
    """That of the row, whatever else is in it."""
    rows = [item for item in store.read_items(STREAM) if item["shardId"]["S"] == SHARD]
    return rows[0]["incarnation"]["S"] if rows and "incarnation" in rows[0] else None


def save(
    store: CheckpointStoreHook, checkpoint: Position | None, owner: str = "worker", **changes: Any
) -> bool:
    return store.save_checkpoint(
        STREAM, SHARD, **{"owner": owner, "checkpoint": checkpoint, **LEASE, **changes}
    )


@pytest.fixture
def leased(store: CheckpointStoreHook) -> CheckpointStoreHook:
    """A hook whose table has a shard that ``worker`` holds until 200."""
    create(store)
    take(store)
    return store


# --- the table ---------------------------------------------------------------------------------------------


def test_a_table_is_made_and_deleted(unmade: CheckpointStoreHook, dynamodb: DynamoDBClient) -> None:
    name = unmade.application_name
    assert not unmade.exists()
    assert unmade.test_connection() == (
        True,
        f"table '{name}' in us-east-1 (connection 'aws_default') doesn't exist yet; the first drain "
        "creates it.",
    )

    unmade.create_table()
    unmade.create_table()

    facts = unmade.describe_table()
    assert unmade.exists()
    assert facts.created
    assert abs(datetime.now(UTC) - facts.created) < timedelta(minutes=5)
    described = dynamodb.describe_table(TableName=name)["Table"]
    assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert unmade.test_connection()[0]

    unmade.delete_table()
    unmade.delete_table()

    assert not unmade.exists()


def test_workers_that_make_the_table_at_once_can_all_use_it(unmade: CheckpointStoreHook) -> None:
    def make_and_read(_: int) -> StreamState:
        unmade.create_table()
        return unmade.read_state(STREAM)

    with ThreadPoolExecutor(8) as workers:
        assert list(workers.map(make_and_read, range(8))) == [StreamState()] * 8
    unmade.delete_table()


def test_a_table_of_other_software_is_left_alone(
    unmade: CheckpointStoreHook, dynamodb: DynamoDBClient
) -> None:
    dynamodb.create_table(
        TableName=unmade.application_name,
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )

    for use in (unmade.exists, unmade.create_table, unmade.delete_table):
        with pytest.raises(NotACheckpointTableError, match="leaseKey, not streamName and shardId"):
            use()
    assert not unmade.test_connection()[0]

    dynamodb.delete_table(TableName=unmade.application_name)


def test_a_table_that_is_gone_is_named(unmade: CheckpointStoreHook) -> None:
    with pytest.raises(ServiceRefusedError, match=unmade.application_name):
        unmade.read_state(STREAM)


# --- reading -----------------------------------------------------------------------------------------------


def test_rows_of_the_openflow_connector_are_read(
    store: CheckpointStoreHook, write: Callable[..., None]
) -> None:
    write(
        sequenceNumber={"S": "4957"},
        leaseOwner={"S": "uuid"},
        leaseExpiry={"N": "1700000030000"},
        lastUpdateTimestamp={"N": "1700000000000"},
    )
    write("__node__#uuid", nodeHeartbeat={"N": "1700000000000"}, lastUpdateTimestamp={"N": "1700000000000"})
    write("__migration__", migrationStatus={"S": "COMPLETE"})

    assert store.read_state(STREAM) == StreamState(
        {
            SHARD: ShardState(
                SHARD,
                checkpoint=Position("4957"),
                lease_owner="uuid",
                lease_expiry=1_700_000_030_000,
                last_update=1_700_000_000_000,
            )
        },
        {"uuid": 1_700_000_000_000},
    )


def test_only_rows_of_the_stream_are_read(store: CheckpointStoreHook) -> None:
    create(store)

    assert store.read_state("orders-2") == StreamState()


def test_all_pages_are_read(store: CheckpointStoreHook, write: Callable[..., None]) -> None:
    shard_ids = [f"shardId-{number:012d}" for number in range(600)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda shard_id: write(shard_id, padding={"S": "x" * 4000}), shard_ids))

    assert list(store.read_state(STREAM).shards) == shard_ids


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("sequenceNumber", {"S": "TRIM_HORIZON"}),
        ("sequenceNumber", {"S": ""}),
        ("sequenceNumber", {"N": "12"}),
        ("leaseOwner", {"N": "1"}),
        ("subSequenceNumber", {"N": "-1"}),
        ("subSequenceNumber", {"N": "10000000000"}),
        ("subSequenceNumber", {"N": "0.5"}),
        ("committedOffset", {"S": "0015"}),
        ("startAt", {"S": "LATEST"}),
        ("startAt", {"S": "2024-01-01T00:00:00"}),
        ("shardEnded", {"S": "true"}),
        ("parentShardIds", {"L": []}),
    ],
)
def test_a_corrupt_attribute_is_named(
    store: CheckpointStoreHook, write: Callable[..., None], attribute: str, value: dict[str, Any]
) -> None:
    write(**{"sequenceNumber": {"S": "5"}, attribute: value})

    with pytest.raises(CorruptStateError, match=rf"row \(orders, {SHARD}\) .* state: {attribute} holds"):
        store.read_state(STREAM)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("leaseExpiry", {"S": "soon"}),
        ("leaseExpiry", {"N": "1.5"}),
        ("caughtUpAt", {"S": "1700000000000"}),
        ("lastUpdateTimestamp", {"N": "1E+100"}),
        ("millisBehindLatest", {"NULL": True}),
    ],
)
def test_an_odd_attribute_that_decides_nothing_is_named_and_not_believed(
    store: CheckpointStoreHook, write: Callable[..., None], attribute: str, value: dict[str, Any]
) -> None:
    write(sequenceNumber={"S": "5"})
    plain = state(store)
    write(sequenceNumber={"S": "5"}, **{attribute: value})

    (oddity,) = state(store).oddities
    assert oddity.startswith(f"its {attribute} is ")
    assert replace(state(store), oddities=()) == plain


@pytest.mark.parametrize(
    ("beat", "read"),
    [
        ({"N": "1700000000000.75"}, {"node": 1_700_000_000_000}),
        ({"N": "1E+100"}, {}),
        ({"S": "1700000000000"}, {}),
        (None, {"node": 0}),
    ],
)
def test_a_heartbeat_may_be_anything(
    store: CheckpointStoreHook,
    write: Callable[..., None],
    beat: dict[str, str] | None,
    read: dict[str, int],
) -> None:
    write("__node__#node", **({"nodeHeartbeat": beat} if beat else {}))

    assert store.read_state(STREAM).workers == read


# --- creating rows -----------------------------------------------------------------------------------------


def test_a_new_row_says_how_the_shard_starts(store: CheckpointStoreHook) -> None:
    moment = StartAt(datetime(2024, 5, 6, 7, 8, 9, 123_000, UTC))

    assert create(store, start_at=moment, parents=["a", "b"], initial_shards=["x", "y"])

    assert state(store) == ShardState(
        SHARD,
        start_at=moment,
        parents=("a", "b"),
        incarnation="first",
        stream_created=1,
        initial_shards=frozenset({"x", "y"}),
        initial_start=moment,
        sinks=frozenset({"copy"}),
    )


def test_a_row_is_created_once(leased: CheckpointStoreHook) -> None:
    save(leased, Position("5"))
    before = state(leased)

    assert not create(leased, incarnation="second", parents=["a"])
    assert state(leased) == before


def test_of_racing_creators_one_wins(store: CheckpointStoreHook) -> None:
    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(lambda number: create(store, incarnation=str(number)), range(8)))

    assert Counter(created) == {True: 1, False: 7}
    assert state(store).incarnation == str(created.index(True))


# --- leases ------------------------------------------------------------------------------------------------


def test_a_free_lease_is_taken(store: CheckpointStoreHook) -> None:
    create(store)

    taken = take(store)

    assert taken == state(store)
    assert taken
    assert (taken.lease_owner, taken.lease_expiry, taken.last_update) == ("worker", 200, 100)
    assert taken.incarnation == "first"


def test_a_row_without_incarnation_gets_one(store: CheckpointStoreHook, write: Callable[..., None]) -> None:
    write(sequenceNumber={"S": "5"})

    taken = take(store)

    assert taken
    assert (taken.incarnation, taken.checkpoint) == ("other", Position("5"))


def test_of_racing_workers_one_gets_the_lease(store: CheckpointStoreHook) -> None:
    create(store)

    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda number: take(store, f"worker-{number}"), range(8)))

    (winner,) = [shard for shard in taken if shard]
    assert state(store) == winner


def test_of_racing_workers_one_gets_a_lease_that_is_over(leased: CheckpointStoreHook) -> None:
    seen = state(leased)

    with ThreadPoolExecutor(8) as threads:
        taken = list(
            threads.map(lambda number: take(leased, f"worker-{number}", seen, now=201, expiry=300), range(8))
        )

    (winner,) = [shard for shard in taken if shard]
    assert state(leased) == winner


def test_a_lease_that_nobody_saw_end_is_not_taken(leased: CheckpointStoreHook) -> None:
    assert take(leased, "other", now=900) is None
    assert state(leased).lease_owner == "worker"


def test_a_lease_that_was_renewed_since_it_was_read_is_not_taken(leased: CheckpointStoreHook) -> None:
    seen = state(leased)
    leased.renew_lease(STREAM, SHARD, owner="worker", expiry=201, now=101)

    assert take(leased, "other", seen, now=900) is None
    assert state(leased).lease_owner == "worker"


@pytest.mark.parametrize("expiry", [None, {"S": "soon"}, {"N": "1.5"}])
def test_a_lease_without_a_proper_end_can_be_taken(
    store: CheckpointStoreHook, write: Callable[..., None], expiry: dict[str, str] | None
) -> None:
    write(leaseOwner={"S": "holder"}, **({"leaseExpiry": expiry} if expiry else {}))

    taken = take(store, "other", state(store))

    assert taken
    assert (taken.lease_owner, taken.lease_expiry) == ("other", 200)


def test_a_worker_takes_its_own_lease_again(leased: CheckpointStoreHook) -> None:
    taken = take(leased, "worker", expiry=250, now=150)

    assert taken
    assert taken.lease_expiry == 250


def test_a_retry_takes_the_lease_of_its_predecessor_at_once(leased: CheckpointStoreHook) -> None:
    seen = state(leased)
    retry: dict[str, Any] = {"owner": "retry", "incarnation": "other", **LEASE}

    assert leased.take_lease(STREAM, replace(seen, lease_owner="someone"), predecessor=True, **retry) is None
    leased.renew_lease(STREAM, SHARD, owner="worker", expiry=201, now=101)
    assert leased.take_lease(STREAM, seen, **retry) is None
    taken = leased.take_lease(STREAM, seen, predecessor=True, **retry)

    assert taken
    assert taken.lease_owner == "retry"


def test_a_row_that_is_gone_does_not_come_back_as_a_lease(store: CheckpointStoreHook) -> None:
    assert take(store) is None
    assert store.read_state(STREAM) == StreamState()


def test_a_lease_is_renewed(leased: CheckpointStoreHook) -> None:
    assert leased.renew_lease(STREAM, SHARD, owner="worker", expiry=400, now=300)
    assert (state(leased).lease_expiry, state(leased).last_update) == (400, 300)


def test_a_released_lease_is_free_at_once(leased: CheckpointStoreHook) -> None:
    assert leased.release_lease(
        STREAM, SHARD, owner="worker", now=150, ended=True, millis_behind=7, caught_up_at=140
    )

    released = state(leased)
    assert (released.lease_owner, released.lease_expiry, released.last_update) == (None, None, 150)
    assert (released.ended, released.millis_behind, released.caught_up_at) == (True, 7, 140)
    assert take(leased, "other", now=151)


def test_a_worker_that_lost_its_lease_changes_nothing(leased: CheckpointStoreHook) -> None:
    assert take(leased, "other", state(leased), now=201, expiry=300)
    before = state(leased)

    assert not leased.renew_lease(STREAM, SHARD, owner="worker", expiry=999, now=202)
    assert not save(leased, Position("9"))
    assert not save(leased, None)
    assert not leased.release_lease(STREAM, SHARD, owner="worker", now=202, unsettled=True)
    assert state(leased) == before


def test_a_worker_whose_row_is_gone_does_not_bring_it_back(store: CheckpointStoreHook) -> None:
    assert not store.renew_lease(STREAM, SHARD, owner="worker", **LEASE)
    assert not save(store, Position("9"))
    assert not store.release_lease(STREAM, SHARD, owner="worker", now=1)
    assert store.read_state(STREAM) == StreamState()


def test_attributes_of_other_software_survive_every_write(
    store: CheckpointStoreHook, write: Callable[..., None], raw: Callable[[], dict[str, Any]]
) -> None:
    foreign = {"theirs": {"M": {"deep": {"L": [{"N": "1"}]}}}, "alsoTheirs": {"B": b"\x00"}}
    write(**foreign)

    create(store)
    take(store)
    store.renew_lease(STREAM, SHARD, owner="worker", **LEASE)
    save(store, Position("5", 1))
    save(store, Position("5"), offset=Position("5"))
    store.release_lease(STREAM, SHARD, owner="worker", now=1, ended=True, unsettled=True)

    assert raw().items() >= foreign.items()
    assert raw()["sequenceNumber"] == {"S": "5"}


# --- checkpoints -------------------------------------------------------------------------------------------


def test_a_checkpoint_is_saved_and_the_lease_renewed(leased: CheckpointStoreHook) -> None:
    assert save(leased, Position("5"), expiry=400, now=300, millis_behind=12)

    saved = state(leased)
    assert saved.checkpoint == Position("5")
    assert (saved.lease_owner, saved.lease_expiry) == ("worker", 400)
    assert (saved.last_update, saved.millis_behind, saved.ended) == (300, 12, False)


def test_the_offset_is_remembered_until_another_is_seen(leased: CheckpointStoreHook) -> None:
    assert save(leased, Position("5", 3), offset=Position("5", 3))
    assert save(leased, Position("7"))
    assert state(leased).offset == Position("5", 3)


def test_a_shard_ends_without_a_record(leased: CheckpointStoreHook) -> None:
    assert leased.release_lease(STREAM, SHARD, owner="worker", now=1, ended=True)
    take(leased)
    assert save(leased, None)
    assert (state(leased).checkpoint, state(leased).ended) == (None, True)


def test_a_checkpoint_inside_an_aggregate_lasts_until_the_next(
    leased: CheckpointStoreHook, raw: Callable[[], dict[str, Any]]
) -> None:
    save(leased, Position("5", 3))
    assert state(leased).checkpoint == Position("5", 3)

    save(leased, Position("5"))
    assert state(leased).checkpoint == Position("5")
    assert not {"subSequenceNumber", "subSequenceOf"} & raw().keys()


def test_a_sub_sequence_number_does_not_outlive_a_checkpoint_of_the_openflow_connector(
    leased: CheckpointStoreHook, dynamodb: DynamoDBClient
) -> None:
    save(leased, Position("5", 3))
    dynamodb.update_item(
        TableName=leased.application_name,
        Key={"streamName": {"S": STREAM}, "shardId": {"S": SHARD}},
        UpdateExpression="SET sequenceNumber = :later",
        ExpressionAttributeValues={":later": {"S": "8"}},
    )

    assert state(leased).checkpoint == Position("8")


@pytest.mark.parametrize(
    ("saved", "next_one"),
    [
        (None, Position("1")),
        (Position("9"), Position("10")),
        (Position("10"), Position("10")),
        (Position("10"), Position("11", 0)),
        (Position("10", 2), Position("10", 2)),
        (Position("10", 9), Position("10", 10)),
        (Position("10", 9), Position("10")),
    ],
)
def test_a_checkpoint_goes_forward(
    leased: CheckpointStoreHook, saved: Position | None, next_one: Position
) -> None:
    save(leased, saved)

    assert save(leased, next_one)
    assert state(leased).checkpoint == next_one


@pytest.mark.parametrize(
    ("saved", "next_one"),
    [
        (Position("10"), Position("9")),
        (Position("20"), Position("19")),
        (Position("10"), Position("10", 5)),
        (Position("10", 5), Position("10", 4)),
        (Position("10", 5), Position("9")),
    ],
)
def test_a_checkpoint_never_goes_back(
    leased: CheckpointStoreHook, saved: Position, next_one: Position
) -> None:
    save(leased, saved)
    before = state(leased)

    with pytest.raises(FencedError, match=SHARD):
        save(leased, next_one)
    assert state(leased) == before


def test_only_a_checkpoint_settles_a_commit_of_unknown_outcome(leased: CheckpointStoreHook) -> None:
    leased.release_lease(STREAM, SHARD, owner="worker", now=150, unsettled=True)
    taken = take(leased)
    assert taken
    assert taken.unsettled

    leased.release_lease(STREAM, SHARD, owner="worker", now=150)
    assert state(leased).unsettled

    take(leased)
    save(leased, None)
    assert not state(leased).unsettled


# --- workers -----------------------------------------------------------------------------------------------


def test_workers_are_alive_until_they_leave(store: CheckpointStoreHook) -> None:
    store.heartbeat(STREAM, "a", now=1)
    store.heartbeat(STREAM, "b", now=2)
    store.heartbeat(STREAM, "a", now=3)
    assert store.read_state(STREAM) == StreamState({}, {"a": 3, "b": 2})

    store.leave(STREAM, "a")
    store.leave(STREAM, "a")

    assert store.read_state(STREAM) == StreamState({}, {"b": 2})


def test_a_heartbeat_under_way_does_not_bring_back_a_worker_that_left(store: CheckpointStoreHook) -> None:
    store.heartbeat(STREAM, "worker", now=1)
    assert store.heartbeat(STREAM, "worker", now=2, again=True)
    store.leave(STREAM, "worker")

    assert not store.heartbeat(STREAM, "worker", now=3, again=True)
    assert store.read_state(STREAM) == StreamState()


def test_a_worker_that_gives_a_sign_of_life_is_not_forgotten(store: CheckpointStoreHook) -> None:
    store.heartbeat(STREAM, "worker", now=2)

    assert not store.forget_worker(STREAM, "worker", heartbeat=1)
    assert store.read_state(STREAM).workers == {"worker": 2}
    assert store.forget_worker(STREAM, "worker", heartbeat=2)
    assert store.forget_worker(STREAM, "worker", heartbeat=2)
    assert store.read_state(STREAM) == StreamState()


def test_the_row_that_a_stopped_node_of_the_openflow_connector_leaves_is_removed(
    store: CheckpointStoreHook, write: Callable[..., None]
) -> None:
    write("__node__#node")
    assert store.forget_worker(STREAM, "node", heartbeat=0)
    assert store.read_state(STREAM) == StreamState()


def test_the_offset_of_snowflake_is_remembered_beside_the_checkpoint(leased: CheckpointStoreHook) -> None:
    save(leased, Position("5", 2), offset=Position("5", 2))
    save(leased, Position("7"))
    assert (state(leased).checkpoint, state(leased).offset) == (Position("7"), Position("5", 2))


def test_a_reset_forgets_the_offset_of_snowflake(leased: CheckpointStoreHook) -> None:
    save(leased, Position("5"), offset=Position("5"))
    reset = ShardState(SHARD, checkpoint=Position("3"), incarnation="second")
    assert leased.reset_shard(STREAM, reset, owner="worker", now=200)
    assert state(leased).offset is None


# --- rows of another consumer that a drain takes over -----------------------------------------------------


def test_where_a_row_of_another_consumer_starts_is_pinned_when_it_is_first_taken(
    store: CheckpointStoreHook, write: Callable[..., None]
) -> None:
    write(lastUpdateTimestamp={"N": "1000"})
    first, second = StartAt(datetime(2026, 3, 4, tzinfo=UTC)), StartAt(datetime(2026, 3, 5, tzinfo=UTC))

    taken = store.take_lease(STREAM, state(store), owner="a", incarnation="i", start_at=first, **LEASE)
    again = store.take_lease(STREAM, state(store), owner="a", incarnation="j", start_at=second, **LEASE)

    assert taken is not None
    assert again is not None
    assert (taken.start_at, again.start_at) == (first, first)


def test_what_another_consumer_last_wrote_is_remembered_when_a_drain_takes_its_row(
    store: CheckpointStoreHook, write: Callable[..., None]
) -> None:
    write(sequenceNumber={"S": "5"}, lastUpdateTimestamp={"N": "1000"})

    for now in (2000, 3000):
        store.take_lease(STREAM, state(store), owner="worker", incarnation="i", **{**LEASE, "now": now})

    assert (state(store).others_until, state(store).last_update) == (1000, 3000)


def test_a_row_that_a_drain_made_remembers_no_other_consumer(store: CheckpointStoreHook) -> None:
    create(store)
    store.take_lease(STREAM, state(store), owner="worker", incarnation="j", **LEASE)
    assert state(store).others_until is None


def test_a_reset_forgets_how_far_another_consumer_came(
    store: CheckpointStoreHook, write: Callable[..., None]
) -> None:
    write(lastUpdateTimestamp={"N": "1000"})
    store.take_lease(STREAM, state(store), owner="worker", incarnation="i", **LEASE)
    assert state(store).others_until == 1000
    store.reset_shard(STREAM, ShardState(SHARD, start_at=TRIM_HORIZON), owner="worker", now=5000)
    assert state(store).others_until is None
    store.reset_shard(STREAM, ShardState(SHARD, others_until=2000), owner="worker", now=5000)
    assert state(store).others_until == 2000


# --- streams of one name -----------------------------------------------------------------------------------

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
ELSEWHERE = "arn:aws:kinesis:us-east-1:123456789012:stream/orders"


def test_a_row_says_whose_it_is_from_its_first_lease_on(
    store: CheckpointStoreHook, write: Callable[..., None]
) -> None:
    write(sequenceNumber={"S": "5"})
    before = state(store)
    taken = store.take_lease(STREAM, before, owner="worker", incarnation="i", stream_arn=ARN, **LEASE)
    assert taken is not None
    assert (before.stream_arn, taken.stream_arn) == (None, ARN)


@pytest.mark.parametrize("ours", [True, False])
def test_the_lease_of_a_row_of_another_stream_is_not_taken_though_it_was_nobodys_when_it_was_read(
    store: CheckpointStoreHook, write: Callable[..., None], ours: bool
) -> None:
    if ours:
        create(store, stream_arn=ARN)
    else:
        write()
    read = replace(state(store), stream_arn=None)
    store.take_lease(STREAM, read, owner="first", incarnation="i", stream_arn=ARN, **LEASE)
    store.release_lease(STREAM, SHARD, owner="first", now=200)

    assert (
        store.take_lease(STREAM, read, owner="second", incarnation="i", stream_arn=ELSEWHERE, **LEASE) is None
    )
    assert (state(store).lease_owner, state(store).stream_arn) == (None, ARN)


def test_a_reset_makes_a_row_that_of_the_stream_it_was_planned_for(leased: CheckpointStoreHook) -> None:
    reset = ShardState(SHARD, start_at=TRIM_HORIZON, stream_arn=ELSEWHERE)
    assert leased.reset_shard(STREAM, reset, owner="worker", now=200)
    assert state(leased).stream_arn == ELSEWHERE
