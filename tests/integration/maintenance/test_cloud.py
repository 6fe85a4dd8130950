"""What the local Kinesis and DynamoDB don't have, on moto: S3, backups by DynamoDB, registered consumers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import requests
from airflow.sdk.exceptions import AirflowFailException
from moto.server import ThreadedMotoServer

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, ServiceRefusedError
from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.hooks.consumers import StreamConsumersHook
from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook
from airflow_kinesis_snowflake.maintenance.backup import Backup, back_up, restore
from airflow_kinesis_snowflake.maintenance.cleanup.apply import clean_up
from airflow_kinesis_snowflake.maintenance.cleanup.plan import plan_cleanup
from airflow_kinesis_snowflake.maintenance.cleanup.rules import CleanupRules
from airflow_kinesis_snowflake.operators.maintenance import PlanStateResetOperator
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON
from airflow_kinesis_snowflake.stream.times import now_millis
from local.services import AWS, REGION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_kinesis_snowflake.maintenance.cleanup.plan import CleanupPlan

STREAM = "orders"
SHARDS = ("shardId-000000000000", "shardId-000000000001")
BUCKET = "backups-of-tests"
LATER = 40 * 86_400_000


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """Address of a server that plays all of AWS."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def cloud(moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An AWS account with nothing but a stream and a bucket; Airflow's default connection leads to it."""
    requests.post(f"{moto}/moto-api/reset", timeout=10).raise_for_status()
    AWS.client("kinesis", endpoint_url=moto).create_stream(StreamName=STREAM, ShardCount=2)
    AWS.client("s3", endpoint_url=moto).create_bucket(Bucket=BUCKET)
    connection = {
        "conn_type": "aws",
        "login": "test",
        "password": "test",
        "extra": {"region_name": REGION, "endpoint_url": moto},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    return moto


@pytest.fixture
def store(cloud: str, application_name: str) -> CheckpointStoreHook:
    """An application with the rows of two shards."""
    store = CheckpointStoreHook(application_name)
    store.create_table()
    for shard_id in SHARDS:
        store.create_shard(
            STREAM,
            shard_id,
            start_at=TRIM_HORIZON,
            parents=(),
            incarnation=f"of {shard_id}",
            stream_created=1,
        )
    store.heartbeat(STREAM, "somebody", now=now_millis())
    return store


def backups(url: str, application: str) -> list[str]:
    found = AWS.client("dynamodb", endpoint_url=url).list_backups(TableName=application)
    return [backup["BackupArn"] for backup in found["BackupSummaries"]]


def test_rows_are_saved_to_s3_and_by_dynamodb_and_come_back(store: CheckpointStoreHook, cloud: str) -> None:
    before = store.read_state(STREAM).shards
    files = BackupFilesHook()

    saved = back_up(store, files, folder=f"s3://{BUCKET}/state/", now=now_millis())

    assert saved["file"].startswith(f"s3://{BUCKET}/state/{store.application_name}-")
    assert backups(cloud, store.application_name) == [saved["dynamodb"]]
    store.delete_table()
    backup = Backup.decode(files.read(saved["file"]))
    assert restore(backup, store=store, snowflake=None, owner="restore#1", clock=now_millis)["restored"] == 2
    after = store.read_state(STREAM).shards
    assert {shard: row.incarnation for shard, row in after.items()} == {
        shard: row.incarnation for shard, row in before.items()
    }


def test_a_backup_that_is_not_in_s3_is_named(cloud: str) -> None:
    with pytest.raises(ServiceRefusedError, match=r"gone\.json"):
        BackupFilesHook().read(f"s3://{BUCKET}/gone.json")


@pytest.mark.parametrize(
    "folder", ["", "relative/path", "/dev/null/folder", "s3://", "s3://no-such-bucket/state"]
)
def test_a_reset_that_could_not_be_taken_back_is_refused_by_the_plan(
    store: CheckpointStoreHook, folder: str
) -> None:
    with pytest.raises((AirflowFailException, InvalidSettingError), match=r"backup|can-write"):
        plan_reset(store, backup_folder=folder)


@pytest.mark.parametrize("place", ["s3", "folder"])
def test_a_place_for_backups_is_tried_out_before_a_reset_is_planned(
    store: CheckpointStoreHook, tmp_path: Any, place: str
) -> None:
    folder = f"s3://{BUCKET}" if place == "s3" else str(tmp_path / "new")
    assert len(plan_reset(store, backup_folder=folder)["plan"]["changes"]) == 2


def plan_reset(store: CheckpointStoreHook, *, backup_folder: str) -> dict[str, Any]:
    operator = PlanStateResetOperator(
        task_id="plan",
        application_name=store.application_name,
        stream_name=STREAM,
        method="delete_table",
        backup_folder=backup_folder,
    )
    return dict(operator.execute({}))


def carry_out(plan: CleanupPlan, consumers: StreamConsumersHook) -> dict[str, Any]:
    return clean_up(
        plan,
        tables=DynamoDBTablesHook(),
        consumers=consumers,
        files=BackupFilesHook(),
        folder=f"s3://{BUCKET}",
        snowflake=None,
        clock=lambda: now_millis() + LATER,
    )


def test_an_application_that_came_back_to_life_keeps_its_consumer(
    store: CheckpointStoreHook, cloud: str
) -> None:
    kinesis = AWS.client("kinesis", endpoint_url=cloud)
    arn = kinesis.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]["StreamARN"]
    kinesis.register_stream_consumer(StreamARN=arn, ConsumerName=store.application_name)
    consumers = StreamConsumersHook()
    plan = plan_cleanup(
        CleanupRules(days=30),
        tables=DynamoDBTablesHook(),
        consumers=consumers,
        clock=lambda: now_millis() + LATER,
    )
    store.heartbeat(STREAM, "worker", now=now_millis() + LATER)

    done = carry_out(plan, consumers)

    assert (done["kept"], done["deregistered"]) == ([store.application_name], [])
    assert [consumer.name for consumer in consumers.list(STREAM)] == [store.application_name]


def test_a_deleted_application_loses_its_consumer_and_others_keep_theirs(
    store: CheckpointStoreHook, cloud: str
) -> None:
    kinesis = AWS.client("kinesis", endpoint_url=cloud)
    arn = kinesis.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]["StreamARN"]
    for name in (store.application_name, "somebody"):
        kinesis.register_stream_consumer(StreamARN=arn, ConsumerName=name)
    consumers = StreamConsumersHook()
    plan = plan_cleanup(
        CleanupRules(days=30),
        tables=DynamoDBTablesHook(),
        consumers=consumers,
        clock=lambda: now_millis() + LATER,
    )

    done = carry_out(plan, consumers)

    assert done == {
        "deleted": [store.application_name],
        "kept": [],
        "deregistered": [store.application_name],
        "offsets": 0,
        "channels": 0,
    }
    assert [consumer.name for consumer in consumers.list(STREAM)] == ["somebody"]
    assert carry_out(plan, consumers)["deregistered"] == [store.application_name], "it can be repeated"
    assert len(backups(cloud, store.application_name)) == 1
    [saved] = AWS.client("s3", endpoint_url=cloud).list_objects_v2(Bucket=BUCKET)["Contents"]
    assert saved["Key"].startswith(store.application_name)
