"""What items of other consumers mean."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.maintenance.takeover.plan import parse_checkpoints
from airflow_kinesis_snowflake.maintenance.takeover.registry import SOURCES, find_source
from airflow_kinesis_snowflake.stream.positions import Position, StartAt

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.maintenance.takeover.source import CheckpointSource, ImportedShard

KCL, OPENFLOW, REDPANDA = SOURCES
SHARD = "shardId-000000000007"
NUMBER = "49590338271490256608559692538361571095921575989136588898"
CREATED = 1_700_000_000_123
NOW = 1_800_000_000_000
MOMENT = "2027-01-15T08:00:00.000+00:00"


def read(
    *items: dict[str, Any], consumer: CheckpointSource = KCL, **settings: Any
) -> tuple[tuple[ImportedShard, ...], dict[str, int]]:
    return parse_checkpoints(
        items, consumer=consumer, stream="orders", stream_created=CREATED, now=NOW, **settings
    )


def lease(key: str = SHARD, checkpoint: str = NUMBER, **attributes: dict[str, Any]) -> dict[str, Any]:
    return {"leaseKey": {"S": key}, "checkpoint": {"S": checkpoint}, **attributes}


def one(*items: dict[str, Any], **settings: Any) -> ImportedShard:
    (shard,), skipped = read(*items, **settings)
    assert skipped == {}
    return shard


def test_a_lease_goes_on_behind_its_last_record() -> None:
    assert one(lease(checkpointSubSequenceNumber={"N": "0"})).checkpoint == Position(NUMBER, 0)


def test_a_lease_inside_an_aggregate_keeps_its_place() -> None:
    assert one(lease(checkpointSubSequenceNumber={"N": "31"})).checkpoint == Position(NUMBER, 31)


def test_a_pending_checkpoint_is_not_processed_yet() -> None:
    shard = one(lease(pendingCheckpoint={"S": NUMBER + "9"}, pendingCheckpointSubSequenceNumber={"N": "3"}))
    assert shard.checkpoint == Position(NUMBER, 0)


def test_sentinels_say_where_a_shard_starts() -> None:
    assert one(lease(checkpoint="SHARD_END")).ended
    assert one(lease(checkpoint="TRIM_HORIZON")).start_at == "TRIM_HORIZON"
    assert StartAt.parse(one(lease(checkpoint="LATEST")).start_at).timestamp is not None
    assert one(lease(checkpoint="AT_TIMESTAMP"), timestamp=MOMENT).start_at == MOMENT


def test_a_timestamp_that_the_table_does_not_hold_must_be_given() -> None:
    with pytest.raises(InvalidSettingError, match="give the timestamp"):
        read(lease(checkpoint="AT_TIMESTAMP"))


def test_items_of_other_kinds_in_the_same_table_are_left_out() -> None:
    items = [
        lease(entityType={"S": "LEASE"}),
        {"leaseKey": {"S": "Leader"}, "entityType": {"S": "LEADER"}},
        {"leaseKey": {"S": "Migration3.0"}, "entityType": {"S": "CLIENT_VERSION_MIGRATION"}},
        {"leaseKey": {"S": "worker"}, "entityType": {"S": "WORKER_METRIC_STATS"}},
        {"leaseKey": {"S": "worker-2"}, "entityType": {"S": "WORKER_METRIC_STATS"}},
    ]
    shards, skipped = read(*items)
    assert [shard.shard_id for shard in shards] == [SHARD]
    assert skipped == {"LEADER items": 1, "CLIENT_VERSION_MIGRATION items": 1, "WORKER_METRIC_STATS items": 2}


def test_leases_of_several_streams_are_told_apart() -> None:
    created = CREATED // 1000
    shards, skipped = read(
        lease(f"123456789012:orders:{created}:{SHARD}"),
        lease(f"123456789012:clicks:{created}:{SHARD}"),
        lease(f"123456789012:orders:1600000000:{SHARD}"),
    )
    assert [shard.shard_id for shard in shards] == [SHARD]
    assert skipped == {"leases of stream clicks": 1, "leases of a deleted stream orders": 1}


def test_parents_come_along() -> None:
    assert one(lease(parentShardId={"SS": ["shardId-b", "shardId-a"]})).parents == ("shardId-a", "shardId-b")


@pytest.mark.parametrize("checkpoint", ["", "FOUR", "0123"])
def test_a_lease_that_cannot_be_read_stops_the_import(checkpoint: str) -> None:
    with pytest.raises(InvalidSettingError, match=SHARD):
        read(lease(checkpoint=checkpoint))


def test_rows_of_openflow_are_read_without_those_of_its_nodes() -> None:
    row = {"streamName": {"S": "orders"}, "shardId": {"S": SHARD}, "sequenceNumber": {"S": NUMBER}}
    node = {"streamName": {"S": "orders"}, "shardId": {"S": "__node__#1"}, "nodeHeartbeat": {"N": "1"}}
    other = {**row, "streamName": {"S": "clicks"}}
    shards, skipped = read(row, node, other, consumer=OPENFLOW)
    assert [(shard.shard_id, shard.checkpoint) for shard in shards] == [(SHARD, Position(NUMBER))]
    assert skipped == {"rows of workers": 1, "rows of stream clicks": 1}


def test_a_sub_sequence_number_that_openflow_left_behind_does_not_count() -> None:
    row = {
        "streamName": {"S": "orders"},
        "shardId": {"S": SHARD},
        "sequenceNumber": {"S": NUMBER},
        "subSequenceNumber": {"N": "4"},
        "subSequenceOf": {"S": "17"},
    }
    assert one(row, consumer=OPENFLOW).checkpoint == Position(NUMBER)


def test_rows_of_redpanda_are_read() -> None:
    row = {
        "StreamID": {"S": "orders"},
        "ShardID": {"S": SHARD},
        "SequenceNumber": {"S": NUMBER},
        "ClientID": {"S": "x"},
        "LeaseTimeout": {"S": "2026-01-01T00:00:00.000000000Z"},
    }
    begun = {"StreamID": {"S": "orders"}, "ShardID": {"S": "shardId-000000000008"}}
    shards, _ = read(row, begun, consumer=REDPANDA)
    assert [shard.checkpoint for shard in shards] == [Position(NUMBER), None]


@pytest.mark.parametrize(
    ("keys", "source"),
    [
        ({"HASH": "leaseKey"}, KCL),
        ({"HASH": "streamName", "RANGE": "shardId"}, OPENFLOW),
        ({"HASH": "StreamID", "RANGE": "ShardID"}, REDPANDA),
        ({"HASH": "id"}, None),
    ],
)
def test_a_source_is_told_by_its_key(keys: dict[str, str], source: CheckpointSource | None) -> None:
    assert find_source(keys) is source


ODD: list[dict[str, Any] | None] = [
    None,
    {"S": ""},
    {"S": "x\n"},
    {"S": "-1"},
    {"N": "-1"},
    {"N": "1.5"},
    {"N": "1E30"},
    {"B": b"\x00"},
    {"NULL": True},
    {"L": []},
    {"M": {}},
    {"SS": ["a"]},
    {"BOOL": True},
]
ITEMS: dict[CheckpointSource, dict[str, Any]] = {
    KCL: lease(
        checkpointSubSequenceNumber={"N": "1"}, parentShardId={"SS": ["a"]}, entityType={"S": "LEASE"}
    ),
    OPENFLOW: {
        "streamName": {"S": "orders"},
        "shardId": {"S": SHARD},
        "sequenceNumber": {"S": NUMBER},
        "subSequenceNumber": {"N": "1"},
        "subSequenceOf": {"S": NUMBER},
        "shardEnded": {"BOOL": False},
        "startAt": {"S": "TRIM_HORIZON"},
        "parentShardIds": {"SS": ["a"]},
    },
    REDPANDA: {
        "StreamID": {"S": "orders"},
        "ShardID": {"S": SHARD},
        "SequenceNumber": {"S": NUMBER},
    },
}


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize(
    ("consumer", "name"),
    [
        pytest.param(consumer, name, id=f"{consumer.name}: {name}")
        for consumer, item in ITEMS.items()
        for name in item
    ],
)
def test_an_odd_attribute_is_named_and_never_taken_for_another_position(
    consumer: CheckpointSource, name: str, odd: dict[str, Any] | None
) -> None:
    item = {**ITEMS[consumer], name: odd}
    if odd is None:
        del item[name]
    shards: tuple[ImportedShard, ...] = ()
    with suppress(InvalidSettingError):
        shards, _ = read(item, consumer=consumer)
    missing = odd is None or odd == {"S": ""}
    assert all(shard.checkpoint is not None or missing for shard in shards)
    assert {shard.checkpoint.sequence_number for shard in shards if shard.checkpoint} <= {NUMBER}


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_odd_counters_are_signs_of_life_all_the_same(odd: dict[str, Any] | None) -> None:
    item = {**lease(), "leaseOwner": {"S": "x"}, "leaseCounter": odd or {}}
    sign = KCL.sign_of_life(item)
    assert sign is not None
    assert sign[0] == SHARD


def test_items_of_a_stream_of_the_same_name_in_another_account_are_left_out() -> None:
    arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
    elsewhere = arn.replace("eu-west-1", "us-east-1")
    leases = [lease(f"{account}:orders:1700000000:{SHARD}") for account in ("123456789012", "210987654321")]
    shards, skipped = read(*leases, stream_arn=arn)
    assert [shard.shard_id for shard in shards] == [SHARD]
    assert skipped == {"leases of stream orders of account 210987654321": 1}

    row = {"streamName": {"S": "orders"}, "shardId": {"S": SHARD}, "sequenceNumber": {"S": NUMBER}}
    rows = [row, row | {"streamArn": {"S": arn}}, row | {"streamArn": {"S": elsewhere}}]
    shards, skipped = read(*rows, consumer=OPENFLOW, stream_arn=arn)
    assert (len(shards), skipped) == (2, {f"rows of {elsewhere}": 1})
