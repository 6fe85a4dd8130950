"""Saving the state of an application and putting it back, on the local services."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, MaintenanceRefusedError
from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
from airflow_kinesis_snowflake.maintenance.backup import Backup, back_up, restore
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_dynamodb import DynamoDBClient

    from tests.faults.proxy import Action, Answer, FaultProxy, Forward, Request
    from tests.integration.drain.conftest import Pipeline

    from .conftest import Maintenance

pytest_plugins = ["tests.faults.fixtures"]


def save(pipeline: Pipeline, folder: Path) -> Backup:
    files = BackupFilesHook()
    saved = back_up(pipeline.store, files, folder=str(folder), now=now_millis())
    return Backup.decode(files.read(saved["file"]))


def put_back(maintenance: Maintenance, backup: Backup) -> dict[str, int]:
    with maintenance.snowflake() as snowflake:
        return restore(
            backup, store=maintenance.pipeline.store, snowflake=snowflake, owner="restore#1", clock=now_millis
        )


def test_a_restore_takes_a_rewind_back(drained: Pipeline, maintenance: Maintenance, tmp_path: Path) -> None:
    backup = save(drained, tmp_path)
    maintenance.reset("rewind", position="TRIM_HORIZON")
    assert put_back(maintenance, backup) == {"restored": 2, "removed": 0}
    drained.send(4)
    drained.drain().run()
    assert drained.landed == list(range(24))


def test_a_restore_brings_a_deleted_table_back(
    drained: Pipeline, maintenance: Maintenance, tmp_path: Path
) -> None:
    backup = save(drained, tmp_path)
    before = drained.state
    maintenance.reset("delete_table")
    put_back(maintenance, backup)
    put_back(maintenance, backup)
    after = drained.state
    assert {row.checkpoint for row in after.shards.values()} == {
        row.checkpoint for row in before.shards.values()
    }
    drained.drain().run()
    assert Counter(drained.landed) == Counter(range(20))


def test_attributes_of_other_software_come_back(
    drained: Pipeline, maintenance: Maintenance, tmp_path: Path, dynamodb: DynamoDBClient
) -> None:
    shard_id = min(drained.state.shards)
    key = {"streamName": {"S": drained.stream}, "shardId": {"S": shard_id}}
    foreign: dict[str, Any] = {"name": {"M": {"a": {"L": [{"N": "1"}]}}}, "raw": {"B": b"\x00\xff"}}
    dynamodb.update_item(
        TableName=drained.application,
        Key=key,
        UpdateExpression="SET #n = :n, #r = :r",
        ExpressionAttributeNames={"#n": "name", "#r": "raw"},
        ExpressionAttributeValues={":n": foreign["name"], ":r": foreign["raw"]},
    )
    backup = save(drained, tmp_path)
    maintenance.reset("delete_table")
    put_back(maintenance, backup)
    item = dynamodb.get_item(TableName=drained.application, Key=key)["Item"]
    assert {name: item[name] for name in foreign} == foreign


def test_nothing_is_restored_while_a_worker_reads(
    drained: Pipeline, maintenance: Maintenance, tmp_path: Path
) -> None:
    backup = save(drained, tmp_path)
    shard = drained.state.shards[max(drained.state.shards)]
    now = now_millis()
    drained.store.take_lease(
        drained.stream, shard, owner="alive", expiry=now + 60_000, now=now, incarnation="any"
    )
    with pytest.raises(MaintenanceRefusedError, match="a worker is reading"):
        put_back(maintenance, backup)


def test_a_backup_of_another_application_is_refused(
    drained: Pipeline, maintenance: Maintenance, tmp_path: Path
) -> None:
    backup = save(drained, tmp_path)
    with pytest.raises(InvalidSettingError, match="this one is of somebody"):
        put_back(maintenance, Backup("somebody", backup.saved_at, backup.items))


@pytest.mark.parametrize("folder", ["relative/path", "", "s3://"])
def test_a_place_that_cannot_hold_backups_is_refused_before_anything_is_saved(
    drained: Pipeline, folder: str
) -> None:
    with pytest.raises(InvalidSettingError):
        back_up(drained.store, BackupFilesHook(), folder=folder, now=now_millis())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format": 9}',
        b'{"format": 1, "application": "a", "saved_at": 1, "items": [{}]}',
        b'{"format": 1, "application": "a", "saved_at": 1, "items": [{"streamName": 1}]}',
        b'{"format": 1, "application": "a", "saved_at": 1, "items": [{"raw": {"B": "not hex"}}]}',
    ],
)
def test_what_is_no_backup_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidSettingError):
        Backup.decode(content)


def first_make(dynamodb: DynamoDBClient) -> Action:
    """A drain comes first and makes the row that a request is about."""

    async def make(request: Request, forward: Forward) -> Answer:
        row = {"startAt": {"S": "TRIM_HORIZON"}, "incarnation": {"S": "of a drain"}}
        dynamodb.put_item(TableName=request.json["TableName"], Item={**request.json["Key"], **row})
        return await forward(request)

    return make


def test_a_restore_that_a_worker_came_before_is_no_success(
    drained: Pipeline,
    maintenance: Maintenance,
    tmp_path: Path,
    dynamodb: DynamoDBClient,
    dynamodb_proxy: FaultProxy,
) -> None:
    backup = save(drained, tmp_path)
    drained.store.delete_table()
    rule = dynamodb_proxy.add(first_make(dynamodb), operation="UpdateItem", times=1)
    with pytest.raises(MaintenanceRefusedError, match="restore once more"):
        put_back(maintenance, backup)
    assert rule.hits == 1

    put_back(maintenance, backup)
    drained.drain().run()
    assert drained.landed == list(range(20))


def test_rows_that_a_restore_makes_are_leased_until_all_are_back(
    drained: Pipeline,
    maintenance: Maintenance,
    tmp_path: Path,
    dynamodb: DynamoDBClient,
    dynamodb_proxy: FaultProxy,
) -> None:
    backup = save(drained, tmp_path)
    drained.store.delete_table()
    owners: list[str] = []

    async def look(request: Request, forward: Forward) -> Answer:
        rows = dynamodb.scan(TableName=drained.application)["Items"]
        owners.extend(row["leaseOwner"]["S"] for row in rows)
        return await forward(request)

    dynamodb_proxy.add(look, operation="Scan")
    put_back(maintenance, backup)
    assert owners == ["restore#1", "restore#1"]
    assert [row.lease_owner for row in drained.state.shards.values()] == [None, None]


@pytest.mark.parametrize(
    "attribute",
    [
        {"B": b"\x00\xff"},
        {"BS": [b"\x01", b"\xfe"]},
        {"M": {"B": {"B": b"\x00"}, "text": {"S": "x"}}},
        {"L": [{"B": b"\x00"}, {"BS": [b"\x01"]}, {"N": "1"}]},
    ],
)
def test_bytes_are_bytes_again_wherever_they_were(attribute: dict[str, Any]) -> None:
    item = {"streamName": {"S": "orders"}, "shardId": {"S": "0"}, "raw": attribute}
    backup = Backup("app", 1, (item,))
    assert Backup.decode(backup.encode()) == backup
