"""What resets, restores and cleanups do to the rows of an application."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position
from tests.moto import dynamodb_inside

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAM, SHARD, OTHER = "orders", "shardId-000000000000", "shardId-000000000001"
HELD: dict[str, Any] = {"owner": "reset", "expiry": 2_000, "now": 1_000}
AS_OWNER: dict[str, Any] = {"owner": "reset", "now": 1_100}
AS_ANOTHER: dict[str, Any] = {"owner": "worker", "now": 1_100}


@pytest.fixture
def unmade() -> Iterator[CheckpointStoreHook]:
    with dynamodb_inside():
        yield CheckpointStoreHook("application")


@pytest.fixture
def store(unmade: CheckpointStoreHook) -> CheckpointStoreHook:
    """An application with a shard that ``reset`` holds."""
    unmade.create_table()
    unmade.create_shard(
        STREAM, SHARD, start_at=TRIM_HORIZON, parents=(), incarnation="first", stream_created=1
    )
    assert unmade.hold(STREAM, SHARD, **HELD)
    return unmade


def row(store: CheckpointStoreHook, shard_id: str = SHARD) -> ShardState | None:
    return store.read_state(STREAM).shards.get(shard_id)


def unsettled(store: CheckpointStoreHook) -> bool:
    there = row(store)
    assert there is not None
    return there.unsettled


def test_a_lease_that_is_held_is_taken_by_force_only(store: CheckpointStoreHook) -> None:
    another = {**HELD, "owner": "worker"}
    assert not store.hold(STREAM, SHARD, **another)
    assert store.lease_owner(STREAM, SHARD) == "reset"
    assert store.hold(STREAM, SHARD, **another, force=True)
    assert store.lease_owner(STREAM, SHARD) == "worker"


def test_a_lease_that_nobody_released_leaves_the_row_unsettled(store: CheckpointStoreHook) -> None:
    assert store.hold(STREAM, SHARD, **HELD)
    assert not unsettled(store)
    later = {**HELD, "owner": "another reset", "now": HELD["expiry"] + 1}
    assert store.hold(STREAM, SHARD, **later)
    assert store.release_lease(STREAM, SHARD, owner="another reset", now=later["now"])
    assert unsettled(store)


def test_there_is_no_lease_of_a_row_that_is_not_there(store: CheckpointStoreHook) -> None:
    assert not store.hold(STREAM, OTHER, **HELD, force=True)
    assert store.lease_owner(STREAM, OTHER) is None


def test_only_the_owner_resets_a_row_and_keeps_its_lease(store: CheckpointStoreHook) -> None:
    was = row(store)
    assert was is not None
    wanted = replace(was, checkpoint=Position("7"), incarnation="second")
    assert not store.reset_shard(STREAM, wanted, **AS_ANOTHER)
    assert row(store) == was

    assert store.reset_shard(STREAM, wanted, **AS_OWNER)
    now = row(store)
    assert now is not None
    assert (now.checkpoint, now.incarnation) == (Position("7"), "second")
    assert store.lease_owner(STREAM, SHARD) == "reset"


def test_a_row_is_made_with_a_lease_unless_it_is_there(store: CheckpointStoreHook) -> None:
    made = ShardState(OTHER, incarnation="second")
    assert store.reset_shard(STREAM, made, **AS_OWNER, made_until=3_000)
    assert store.lease_owner(STREAM, OTHER) == "reset"
    assert not store.reset_shard(STREAM, made, **AS_ANOTHER, made_until=3_000)
    assert store.lease_owner(STREAM, OTHER) == "reset"


def test_only_the_owner_removes_a_row(store: CheckpointStoreHook) -> None:
    assert not store.remove_shard(STREAM, SHARD, owner="worker")
    assert row(store)
    assert store.remove_shard(STREAM, SHARD, owner="reset")
    assert row(store) is None


def test_a_row_comes_back_as_it_was_saved_but_for_its_lease(store: CheckpointStoreHook) -> None:
    [saved] = store.read_items()
    was = row(store)
    assert was is not None
    assert store.shard_state(saved) == was
    store.reset_shard(STREAM, replace(was, checkpoint=Position("7")), **AS_OWNER)

    assert not store.restore_item(saved, **AS_ANOTHER)
    assert store.restore_item(saved, **AS_OWNER)
    now = row(store)
    assert now is not None
    assert now.checkpoint is None
    assert store.lease_owner(STREAM, SHARD) == "reset"


def test_notes_are_no_shards(store: CheckpointStoreHook) -> None:
    store.heartbeat(STREAM, "worker", now=1_000)
    [note] = [item for item in store.read_items() if item["shardId"] != {"S": SHARD}]
    assert store.shard_state(note) is None


def test_tags_are_added(store: CheckpointStoreHook) -> None:
    pytest.importorskip("moto", minversion="5.2", reason="older ones have no tags of tables")
    store.tag({"team": "data"})
    with store._call("ListTagsOfResource") as client:
        tags = client.list_tags_of_resource(ResourceArn=store.describe_table().arn)["Tags"]
    assert {"Key": "team", "Value": "data"} in tags


def test_the_connection_test_says_what_there_is(unmade: CheckpointStoreHook) -> None:
    assert unmade.test_connection() == (
        True,
        f"{unmade._table} doesn't exist yet; the first drain creates it.",
    )
    unmade.create_table()
    assert unmade.test_connection() == (True, f"{unmade._table} is a checkpoint table and ACTIVE.")


def test_the_connection_test_says_what_to_do(unmade: CheckpointStoreHook) -> None:
    with unmade._call("CreateTable") as client:
        client.create_table(
            TableName="application",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
        )
    works, why = unmade.test_connection()
    assert not works
    assert why.startswith("Choose another application name")


def test_a_backup_has_an_arn(store: CheckpointStoreHook) -> None:
    arn = store.back_up("before-reset")
    assert arn is not None
    assert "backup" in arn
